"""One optimizer step on a resolved configuration: what runs, what it takes, what must fit."""

import dataclasses
import math
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from effsim.cost.deployment import Deployment
from effsim.cost.device import Coefficients, Device, build_device
from effsim.cost.estimate import is_number, whole_number
from effsim.cost.evaluate import Costs, CostTable, cost_table, evaluate, powered
from effsim.cost.exchange import SHARDED_GRADIENTS, SHARDED_OPTIMIZER, SHARDED_WEIGHTS, Exchange, exchange_gradients
from effsim.cost.schedules import StageTimes, bubble_s, check_chunks, check_schedule, kept_micro_batches, slowest_of
from effsim.cost.training_memory import RESERVE_BYTES, TrainingMemory
from effsim.errors import SpecError, shown
from effsim.specs.model import Transformer
from effsim.workload.adapters import is_adapter, with_adapters
from effsim.workload.features import Iteration, feature_matrix
from effsim.workload.lowering import lower, stage_weight_bytes
from effsim.workload.operations import Array, OpTable, Parallelism, build_table
from effsim.workload.optimizers import Optimizer, optimizer, update
from effsim.workload.training import Recompute, activation_bytes, backward, recomputed

WIDE_BYTES = 2.0  # of a weight as the products' 16-bit copy; low-precision recipes keep one beside it
GRADIENT_BYTES = 4.0
GATHERED_LAYERS = 2.0  # the one that runs, and the next
RECOMPUTE = ("none", "selective", "alternate", "full")
ZERO_STAGES = (0, 1, 2, 3)
TRAINABLE = ("full", "lora")
PHASES = ("compute", "bubble", "exchange", "update")


class Batch(NamedTuple):
    """Batches to evaluate, shape (batch,): sequences per step and per micro-batch, tokens per sequence."""

    global_batch_size: Any
    micro_batch_size: Any
    sequence_length: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How a step is run, beside the parallelism; see :func:`effsim.cost.training.estimate_training`."""

    recompute: Recompute = "none"
    zero_stage: int = 1
    optimizer: str = "adam"
    virtual_stages: int = 1
    schedule: str = "1f1b"
    trainable: Literal["full", "lora"] = "full"
    lora_rank: int = 16
    capacity_factor: float | None = None
    shard_group: int | None = None
    rank_time_sd: float = 0.0

    def __post_init__(self) -> None:
        """Check the choices.

        Raises:
            SpecError: One is unknown or out of range.
        """
        if self.recompute not in RECOMPUTE:
            raise SpecError(f"recompute: expected none, selective, alternate or full, got {shown(self.recompute)}")
        if not is_number(self.zero_stage) or self.zero_stage not in ZERO_STAGES:
            raise SpecError(f"zero_stage: expected 0, 1, 2 or 3, got {shown(self.zero_stage)}")
        if self.trainable not in TRAINABLE:
            raise SpecError(f"trainable: expected full or lora, got {shown(self.trainable)}")
        if self.capacity_factor is not None and not (is_number(self.capacity_factor) and 1.0 <= self.capacity_factor < math.inf):
            raise SpecError(f"capacity_factor: must be a number of at least 1, got {shown(self.capacity_factor)}")
        if not is_number(self.rank_time_sd) or not 0.0 <= self.rank_time_sd < 1.0:
            raise SpecError(f"rank_time_sd: must be a number in [0, 1), got {shown(self.rank_time_sd)}")
        whole_number("virtual_pipeline_stages", self.virtual_stages)
        whole_number("lora_rank", self.lora_rank)
        if self.shard_group is not None:
            whole_number("shard_group", self.shard_group)
        if self.shard_group is not None and self.zero_stage == 0:
            raise SpecError("shard_group: ZeRO stage 0 shards nothing; give zero_stage 1 to 3")
        check_schedule(self.schedule, self.virtual_stages)
        optimizer(self.optimizer)


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A training configuration: forward, backward and recomputed operations of a micro-batch, the update, and the weights.

    Args:
        weights: Of one device (the stage with most).
        trained: Of those, how many are trained.
        expert_weights: Of the weights, how many belong to routed experts.
        layer_weights: Of a layer on one device, the mean over layers.
    """

    deployment: Deployment
    recipe: Recipe
    forward: OpTable
    backward: OpTable
    repeated: OpTable | None
    update: OpTable
    weights: float
    trained: float
    expert_weights: float
    layer_weights: float

    @property
    def chosen_optimizer(self) -> Optimizer:
        """The optimizer's costs."""
        return optimizer(self.recipe.optimizer)

    @property
    def owners(self) -> int:
        """Ranks among which ZeRO shares things out."""
        p = self.deployment.parallelism
        return self.recipe.shard_group or p.data * p.context

    def owned(self, weights: float, from_stage: int) -> float:
        """Return for how many of a device's weights it keeps what ZeRO shares out from a stage on: only ranks with the same weights share."""
        if self.recipe.zero_stage < from_stage:
            return weights
        experts = min(self.expert_weights, weights) if self.recipe.trainable == "full" or weights == self.weights else 0.0
        copies = expert_copies(self.deployment.parallelism)
        return (weights - experts) / self.owners + experts / min(self.owners, copies.data * copies.context)


def expert_copies(p: Parallelism) -> Parallelism:
    """Return the ranks as routed experts see them: ``data`` ranks hold the same ones, the groups lie within what counts as tensor ranks."""
    copies = p.data // p.expert if p.data % p.expert == 0 else 1
    return dataclasses.replace(p, tensor=p.tensor * p.data // copies, data=copies, expert=1)


class Micro(NamedTuple):
    """One micro-batch over all stages: costs of forward, backward and recomputation, weight gradients and the last stage's head [s]."""

    forward: Costs
    backward: Costs
    repeated: Costs | None
    weight_gradient_s: Any
    head_s: Any

    def total(self) -> Costs:
        """All of it."""
        parts = [self.forward, self.backward] if self.repeated is None else [self.forward, self.backward, self.repeated]
        return Costs(*(sum(columns) for columns in zip(*parts, strict=True)))


def training_step(deployment: Deployment, recipe: Recipe) -> Step:
    """Return a resolved training configuration.

    Raises:
        SpecError: The shard group does not divide the data-parallel ranks, or virtual stages the layers.
    """
    p = deployment.parallelism
    ranks = p.data * p.context
    check_chunks(_layers(deployment), p.pipeline, recipe.virtual_stages)
    if recipe.shard_group is not None and ranks % recipe.shard_group:
        raise SpecError(f"shard_group: {recipe.shard_group} does not divide the {ranks} data-parallel ranks")
    wide = lower(deployment.model, deployment.table.parallelism, dataclasses.replace(deployment.numerics, precision="bf16"), "train")
    weights = stage_weight_bytes(wide, p.pipeline) / WIDE_BYTES
    forward, trained = deployment.table, weights
    if recipe.trainable == "lora":
        forward, adapters = _adapted(deployment.table, recipe.lora_rank)
        trained = adapters.weight_bytes / WIDE_BYTES / p.pipeline
        weights += trained
    experts = sum(op.count * op.weight_bytes for op in wide.operations if op.kind == "grouped_gemm") / WIDE_BYTES / p.pipeline
    back, again = _backward(forward, recipe.trainable), _recomputed(forward, recipe.recompute, deployment.engine.repeats_last_product)
    in_layers = sum(op.count * op.weight_bytes for op in wide.operations if op.kind != "embedding" and op.name != "logits") / WIDE_BYTES
    step = Step(deployment, recipe, forward, back, again, forward, weights, trained, experts, in_layers / _layers(deployment))
    owners = step.owners if recipe.zero_stage >= SHARDED_OPTIMIZER else 1
    matrices = [
        (op.count / p.pipeline / owners, op.inner, op.cols) for op in forward.operations if op.kind == "gemm" and (recipe.trainable == "full" or is_adapter(op))
    ]
    ops = update(optimizer(recipe.optimizer), step.owned(trained, SHARDED_OPTIMIZER), GRADIENT_BYTES, matrices)
    return dataclasses.replace(step, update=build_table(ops, deployment.table.parallelism))


def _layers(deployment: Deployment) -> int:
    return deployment.model.num_layers if isinstance(deployment.model, Transformer) else 1


@lru_cache(maxsize=256)
def _adapted(table: OpTable, rank: int) -> tuple[OpTable, OpTable]:
    return with_adapters(table, rank)


@lru_cache(maxsize=256)
def _backward(table: OpTable, trainable: str) -> OpTable:
    return backward(table, frozen=trainable == "lora")


@lru_cache(maxsize=256)
def _recomputed(table: OpTable, mode: Recompute, last_product: bool) -> OpTable | None:
    return recomputed(table, mode, last_product=last_product)


def micro_iteration(step: Step, batch: Batch) -> Iteration:
    """Return a micro-batch as prefill of whole sequences; context ranks share its tokens and its (query, key) pairs evenly."""
    ranks = step.deployment.parallelism.context
    return Iteration(prefill_seqs=batch.micro_batch_size / ranks, prefill_tokens=batch.sequence_length, completed_prefills=batch.micro_batch_size / ranks)


def device_of(step: Step, coefficients: Coefficients) -> Device:
    """Return the device under given coefficients; a capacity factor takes the place of the experts' imbalance."""
    if step.recipe.capacity_factor is not None:
        coefficients = dataclasses.replace(coefficients, expert_imbalance=step.recipe.capacity_factor)
    return build_device(step.deployment.accelerator, coefficients, step.deployment.power_limit_w)


def costs_of(step: Step, table: OpTable, coefficients: Coefficients) -> CostTable:
    """Return the costs of one of the step's tables."""
    return cost_table(table, device_of(step, coefficients), step.deployment.fabric, step.deployment.engine.launch_overhead.value)


def micro_batch(step: Step, coefficients: Coefficients, batch: Batch) -> Micro:
    """Return the costs of one micro-batch."""
    iteration = micro_iteration(step, batch)
    forward, _, head_s = _evaluated(step, step.forward, coefficients, iteration)
    back, gradient_s, head_back_s = _evaluated(step, step.backward, coefficients, iteration)
    repeated = _evaluated(step, step.repeated, coefficients, iteration)[0] if step.repeated is not None else None
    return Micro(forward, back, repeated, gradient_s, head_s + head_back_s)


def _evaluated(step: Step, table: OpTable, coefficients: Coefficients, iteration: Iteration) -> tuple[Costs, Any, Any]:
    """Return a table's cost, and of its time that of weight gradients and that of the head (logits and loss).

    Collectives of layers are hidden behind products as far as the engine does.
    """
    costs = costs_of(step, table, coefficients)
    features = feature_matrix(table.features, iteration)
    result = evaluate(costs, features)
    hidden = step.deployment.engine.collective_overlap
    if hidden is not None:
        result = result._replace(time_s=result.time_s - hidden.value * np.minimum(result.collective_s, result.time_s - result.collective_s))
    return result, _part_s(costs, features, ".weight_gradient"), _part_s(costs, features, "logits", "cross_entropy")


def _part_s(costs: CostTable, features: Array, *names: str) -> Any:
    chosen = np.array([any(name in op.name for name in names) for op in costs.table.operations], dtype=float)
    if not chosen.any():
        return np.zeros(features.shape[1])
    return evaluate(dataclasses.replace(costs, count=costs.count * chosen), features).time_s


def phases(step: Step, coefficients: Coefficients, batch: Batch, micro: Micro) -> dict[str, Any]:
    """Return time and energy of the phases of a step on one device, and the energy of the network for its traffic.

    A power limit acts within each phase: they last longer than the limiter averages.
    """
    deployment, p, recipe = step.deployment, step.deployment.parallelism, step.recipe
    device, whole = device_of(step, coefficients), micro.total()
    count = batch.global_batch_size / (batch.micro_batch_size * p.data)
    send_s, sent_bytes = _sending(step, coefficients, batch)
    slow = slowest_of(p.data, recipe.rank_time_sd)
    stage_s = whole.time_s / p.pipeline * slow + send_s
    slowest_s = ((whole.time_s - micro.head_s) / p.pipeline + micro.head_s) * slow + send_s if p.pipeline > 1 else whole.time_s * slow
    host_s = deployment.engine.iteration_overhead.value * coefficients.host_overhead_factor
    share = count / p.pipeline
    busy_s = count * slowest_s + host_s
    work = Costs(busy_s, share * whole.core_s, share * whole.collective_s, share * whole.core_j, share * whole.memory_j, share * whole.link_j)
    compute = powered(work, device)
    forward_s = micro.forward.time_s / p.pipeline
    times = StageTimes(forward_s, stage_s - forward_s, micro.weight_gradient_s / p.pipeline)
    idle_s = bubble_s(recipe.schedule, p.pipeline, recipe.virtual_stages, times)
    change = powered(evaluate(costs_of(step, step.update, coefficients), _one(step.update, len(count))), device)
    exchange_s, wire_bytes = _exchanging(step, coefficients, count)
    hideable_s = busy_s if recipe.zero_stage == SHARDED_WEIGHTS else busy_s / 2.0
    exposed_s = exchange_s - deployment.engine.communication_overlap.value * np.minimum(exchange_s, hideable_s)
    link_j = (wire_bytes + sent_bytes) * coefficients.link_power * device.tdp_w / (device.link_bytes_per_s or np.inf)
    return {
        "compute_s": compute.time_s,
        "bubble_s": idle_s + np.zeros_like(count),
        "exchange_s": exposed_s,
        "update_s": change.time_s,
        "compute_j": compute.energy_j,
        "bubble_j": idle_s * device.static_w + np.zeros_like(count),
        "exchange_j": exposed_s * device.static_w + link_j,
        "update_j": change.energy_j,
        "network_j": _network_j(step, (wire_bytes + sent_bytes, share * _payload_bytes(step, batch))),
    }


def _exchanging(step: Step, coefficients: Coefficients, count: Any) -> tuple[Any, Any]:
    """Return time [s] and wire bytes of the exchange; spread experts exchange among the ranks that hold the same ones."""
    p, recipe, fabric = step.deployment.parallelism, step.recipe, step.deployment.fabric
    whole = Exchange(recipe.zero_stage, step.trained, step.weights, count, recipe.shard_group)
    if p.expert == 1 or not step.expert_weights:
        return exchange_gradients(fabric, p, coefficients, whole)
    trained = step.expert_weights if recipe.trainable == "full" else 0.0
    rest = whole._replace(trained=step.trained - trained, weights=step.weights - step.expert_weights)
    experts = whole._replace(trained=trained, weights=step.expert_weights, shard_group=None)
    parts = [exchange_gradients(fabric, p, coefficients, rest), exchange_gradients(fabric, expert_copies(p), coefficients, experts)]
    return parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]


def _network_j(step: Step, moved: tuple[Any, Any]) -> Any:
    """Return the energy of switches and optics [J]: per byte of the level that the traffic crosses.

    Exchange and sends cross the outer network where the job is larger than a domain; what layers exchange stays inside.
    """
    fabric = step.deployment.fabric
    inner = fabric.inner.energy_per_byte_j if fabric.inner else 0.0
    beyond = step.deployment.parallelism.accelerators > fabric.domain and fabric.outer is not None
    outer = fabric.outer.energy_per_byte_j if beyond and fabric.outer else inner
    return moved[0] * outer + moved[1] * inner


def _one(table: OpTable, width: int) -> Array:
    once: Array = feature_matrix(table.features, Iteration(prefill_seqs=1.0, prefill_tokens=np.ones(width)))
    return once


def _sending(step: Step, coefficients: Coefficients, batch: Batch) -> tuple[Any, Any]:
    """Return the time per micro-batch that a stage spends on sending, and the bytes that it sends in a step.

    Activations go forward, their gradients back, once per virtual stage, each tensor rank sending its share (Narayanan et al.,
    arXiv:2104.04473, section 4.1). 1F1B hides neither end of the exchange; interleaving hides what the engine overlaps.
    """
    p = step.deployment.parallelism
    if p.pipeline == 1:
        return 0.0, 0.0
    fabric, model = step.deployment.fabric, step.deployment.model
    level = fabric.inner if p.accelerators <= fabric.domain and fabric.inner is not None else fabric.outer
    if level is None:
        raise SpecError(f"pipeline_parallel: stages reach beyond the {fabric.domain} accelerators that are joined; give a node with a network (node=)")
    width = model.hidden_size if isinstance(model, Transformer) else model.layer_sizes[0]
    whole = batch.micro_batch_size * batch.sequence_length / p.context * width * WIDE_BYTES
    size, efficiency = whole / p.tensor, coefficients.link_efficiency
    joined_s = 0.0
    if p.tensor > 1 and not p.sequence and fabric.inner is not None:  # each rank sends its share, and the shares are joined on arrival
        joined_s = (whole - size) / (fabric.inner.bytes_per_s * efficiency) + fabric.inner.latency_s * coefficients.collective_latency_factor
    passes = 2.0 * step.recipe.virtual_stages
    hidden = step.deployment.engine.communication_overlap.value if step.recipe.virtual_stages > 1 else 0.0
    once_s = level.latency_s * coefficients.collective_latency_factor + size / (level.bytes_per_s * efficiency) + joined_s
    return passes * once_s * (1.0 - hidden), passes * size * batch.global_batch_size / (batch.micro_batch_size * p.data)


def _payload_bytes(step: Step, batch: Batch) -> Any:
    """Return the bytes that one micro-batch's collectives carry, all stages."""
    iteration = micro_iteration(step, batch)
    tables = [table for table in (step.forward, step.backward, step.repeated) if table is not None]
    return sum(table.count @ (table.payload @ feature_matrix(table.features, iteration)) for table in tables)


def _fullest_stage(step: Step, each_bytes: Any, count: Any, logits_bytes: Any) -> tuple[Any, Any]:
    """Return activations and logits of the stage that keeps most: the first with its micro-batches, or the last with its logits.

    The last stage runs backward at once, so it keeps one micro-batch; under GPipe all of them.
    """
    recipe, stages = step.recipe, step.deployment.parallelism.pipeline
    first = each_bytes * kept_micro_batches(recipe.schedule, stages, recipe.virtual_stages, count)
    if stages == 1:
        return first, logits_bytes
    last = each_bytes * (count if recipe.schedule == "gpipe" else 1.0)
    heavier = last + logits_bytes > first
    return np.where(heavier, last, first), np.where(heavier, logits_bytes, 0.0)


def training_memory(step: Step, batch: Batch) -> TrainingMemory:
    """Return the memory of the fullest device: of the first stage, which holds most micro-batches, or the last, which has the logits.

    Where a layer is recomputed, all that it would have kept is live during its backward pass, beside what is kept of the others
    (Korthikanti et al., arXiv:2205.05198, section 5). ZeRO stage 3 gathers a layer's weights while the layer before it runs (Zhao et
    al., PyTorch FSDP, arXiv:2304.11277, section 3.3). Frozen weights are stored in the format of the products, without a wider copy.
    """
    p, recipe, table = step.deployment.parallelism, step.recipe, step.forward
    features = feature_matrix(table.features, micro_iteration(step, batch))
    layers = _layers(step.deployment)
    frozen = recipe.trainable == "lora"
    each = activation_bytes(table, features, recipe.recompute, layers, frozen=frozen)
    all_kept = activation_bytes(table, features, "none", layers, frozen=frozen)
    held = step.owned(step.weights, SHARDED_WEIGHTS)
    stored_bytes = stage_weight_bytes(table, p.pipeline) / step.weights if frozen else WIDE_BYTES
    count = batch.global_batch_size / (batch.micro_batch_size * p.data)
    head = next((op.cols for op in table.operations if op.name == "logits"), 0)
    logits = batch.micro_batch_size * batch.sequence_length / p.context * head * 6.0  # fp32 logits and their 16-bit gradient
    kept_bytes, logits_bytes = _fullest_stage(step, each / p.pipeline, count, logits)
    return TrainingMemory(
        weights_bytes=stored_bytes * held,
        gradients_bytes=GRADIENT_BYTES * step.owned(step.trained, SHARDED_GRADIENTS),
        optimizer_bytes=step.chosen_optimizer.state_bytes * step.owned(step.trained, SHARDED_OPTIMIZER),
        activations_bytes=kept_bytes,
        recompute_bytes=np.maximum(all_kept - each, 0.0) / layers,
        gathered_bytes=WIDE_BYTES * min(GATHERED_LAYERS * step.layer_weights, step.weights - held),
        logits_bytes=logits_bytes,
        reserve_bytes=RESERVE_BYTES,
        device_bytes=step.deployment.accelerator.memory.value,
    )
