"""One optimizer step on a resolved configuration: what runs, what it takes, what must fit."""

import dataclasses
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from effsim.cost.deployment import Deployment
from effsim.cost.device import Coefficients, Device, build_device
from effsim.cost.evaluate import Costs, CostTable, Habits, cost_table, evaluate, powered, wire_bytes
from effsim.cost.exchange import SHARDED_OPTIMIZER, Exchange, Exchanged, exchange_gradients, hideable_s
from effsim.cost.offload import offloaded
from effsim.cost.recipe import Batch, Recipe, Step, expert_copies, with_choices
from effsim.cost.routing import part_s, with_routing
from effsim.cost.schedules import StageTimes, bubble_s, check_chunks, slowest_of, slowest_stage_s
from effsim.cost.training_memory import training_memory
from effsim.errors import SpecError
from effsim.specs.model import Transformer
from effsim.workload.adapters import is_adapter, with_adapters
from effsim.workload.capacity import with_capacity
from effsim.workload.features import Iteration, feature_matrix
from effsim.workload.low_precision import TrainingRecipe, check_trainable, quantize_weights, quantized_share, with_recipe
from effsim.workload.lowering import lower, stage_weight_bytes
from effsim.workload.operations import Array, OpTable, build_table
from effsim.workload.optimizers import optimizer, update
from effsim.workload.training import Recompute, backward, recomputed

__all__ = [
    "PHASES",
    "Batch",
    "Micro",
    "Recipe",
    "Step",
    "costs_of",
    "device_of",
    "expert_copies",
    "micro_batch",
    "micro_iteration",
    "num_layers",
    "phases",
    "training_memory",
    "training_step",
]

WIDE_BYTES = 2.0  # of a weight as the products' 16-bit copy
PHASES = ("compute", "bubble", "exchange", "update")


class Micro(NamedTuple):
    """One micro-batch over all stages: costs of forward, backward and recomputation, weight gradients and the last stage's head [s].

    ``wire_bytes``: what a rank's collectives of layers put on the wire, within a domain and beyond it.
    """

    forward: Costs
    backward: Costs
    repeated: Costs | None
    weight_gradient_s: Any
    head_s: Any
    wire_bytes: tuple[Any, Any]

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
    check_chunks(num_layers(deployment), p.pipeline, recipe.virtual_stages)
    if recipe.shard_group is not None and ranks % recipe.shard_group:
        raise SpecError(f"shard_group: {recipe.shard_group} does not divide the {ranks} data-parallel ranks")
    wide = lower(deployment.model, deployment.table.parallelism, dataclasses.replace(deployment.numerics, precision="bf16"), "train")
    weights = stage_weight_bytes(wide, p.pipeline) / WIDE_BYTES
    low = check_trainable(deployment.numerics.precision, deployment.numerics.dtypes, deployment.accelerator.name, frozen=recipe.trainable == "lora")
    low = with_choices(low, recipe)
    forward, trained = _forward(deployment, recipe, low), weights
    if recipe.trainable == "lora":
        forward, adapters = _adapted(forward, recipe.lora_rank)
        trained = adapters.weight_bytes / WIDE_BYTES / p.pipeline
        weights += trained
    experts = sum(op.count * op.weight_bytes for op in wide.operations if op.kind == "grouped_gemm") / WIDE_BYTES / p.pipeline
    again = _recomputed(forward, recipe.recompute, deployment.engine.repeats_last_product)
    in_layers = sum(op.count * op.weight_bytes for op in wide.operations if op.kind != "embedding" and op.name != "logits") / WIDE_BYTES
    few_bits = quantized_share(forward, low)
    step = Step(deployment, recipe, forward, forward, again, forward, weights, trained, experts, in_layers / num_layers(deployment), low, few_bits)
    owners = step.owners if recipe.zero_stage >= SHARDED_OPTIMIZER else 1
    matrices = [
        (op.count / p.pipeline / owners, op.inner, op.cols) for op in forward.operations if op.kind == "gemm" and (recipe.trainable == "full" or is_adapter(op))
    ]
    ops = update(optimizer(recipe.optimizer), step.owned(trained, SHARDED_OPTIMIZER), step.gradient_bytes, matrices)
    if low is not None and recipe.trainable == "full":
        ops.append(quantize_weights(low, few_bits * weights))
    back = _backward(forward, recipe.trainable, step.gradient_bytes)
    return dataclasses.replace(step, backward=back, update=build_table(ops, deployment.table.parallelism))


def _forward(deployment: Deployment, recipe: Recipe, low: TrainingRecipe | None) -> OpTable:
    """Return the forward operations with a capacity factor and in the recipe's precision."""
    table = deployment.table if recipe.capacity_factor is None else with_capacity(deployment.table, recipe.capacity_factor)
    return table if low is None else with_recipe(table, low, frozen=recipe.trainable == "lora")


def num_layers(deployment: Deployment) -> int:
    """Return the layers of a transformer, 1 of anything else."""
    return deployment.model.num_layers if isinstance(deployment.model, Transformer) else 1


@lru_cache(maxsize=256)
def _adapted(table: OpTable, rank: int) -> tuple[OpTable, OpTable]:
    return with_adapters(table, rank)


@lru_cache(maxsize=256)
def _backward(table: OpTable, trainable: str, gradient_bytes: float) -> OpTable:
    return backward(table, frozen=trainable == "lora", gradient_bytes=gradient_bytes)


@lru_cache(maxsize=256)
def _recomputed(table: OpTable, mode: Recompute, last_product: bool) -> OpTable | None:
    return recomputed(table, mode, last_product=last_product)


def micro_iteration(step: Step, batch: Batch) -> Iteration:
    """Return a micro-batch as an iteration; see :meth:`Step.iteration`."""
    return step.iteration(batch)


def device_of(step: Step, coefficients: Coefficients) -> Device:
    """Return the device under given coefficients; under a capacity factor every expert has as many rows as the others."""
    imbalance = 1.0 if step.recipe.capacity_factor is not None else step.recipe.expert_imbalance
    if imbalance is not None:
        coefficients = dataclasses.replace(coefficients, expert_imbalance=imbalance)
    return build_device(step.deployment.accelerator, coefficients, step.deployment.power_limit_w, step.deployment.clock)


def costs_of(step: Step, table: OpTable, coefficients: Coefficients) -> CostTable:
    """Return the costs of one of the step's tables."""
    return cost_table(table, device_of(step, coefficients), step.deployment.fabric, Habits(step.deployment.engine.launch_overhead.value))


def micro_batch(step: Step, coefficients: Coefficients, batch: Batch) -> Micro:
    """Return the costs of one micro-batch."""
    iteration = micro_iteration(step, batch)
    forward, _, head_s = _evaluated(step, step.forward, coefficients, iteration)
    back, gradient_s, head_back_s = _evaluated(step, step.backward, coefficients, iteration)
    repeated = _evaluated(step, step.repeated, coefficients, iteration)[0] if step.repeated is not None else None
    return Micro(forward, back, repeated, gradient_s, head_s + head_back_s, _layer_bytes(step, batch))


def _evaluated(step: Step, table: OpTable, coefficients: Coefficients, iteration: Iteration) -> tuple[Costs, Any, Any]:
    """Return a table's cost, and of its time that of weight gradients and that of the head (logits and loss).

    Collectives of layers are hidden behind products as far as the engine does.
    """
    costs = costs_of(step, table, coefficients)
    features = feature_matrix(table.features, iteration)
    recipe = step.recipe
    result = with_routing(costs, features, step.deployment.engine, recipe.routing, capped=recipe.capacity_factor is not None)
    return result, part_s(costs, features, ".weight_gradient"), part_s(costs, features, "logits", "cross_entropy")


def phases(step: Step, coefficients: Coefficients, batch: Batch, micro: Micro) -> dict[str, Any]:
    """Return time and energy of the phases of a step on one device, and the energy of the network for its traffic.

    A power limit acts within each phase: they last longer than the limiter averages.
    """
    deployment, p, recipe = step.deployment, step.deployment.parallelism, step.recipe
    device, whole = device_of(step, coefficients), micro.total()
    count = batch.global_batch_size / (batch.micro_batch_size * p.data)
    send_s, sent_bytes = _sending(step, coefficients, batch)
    slow = slowest_of(p.accelerators, recipe.rank_time_sd)
    stage_s = whole.time_s / p.pipeline * slow + send_s
    slowest_s = slowest_stage_s(whole.time_s, micro.head_s, num_layers(deployment), (p.pipeline, recipe.virtual_stages)) * slow + send_s
    host_s = deployment.engine.iteration_overhead.value * coefficients.host_overhead_factor
    share = count / p.pipeline
    moved_s, update_s, host_bytes = offloaded(step, batch, (micro.forward.time_s / p.pipeline, (whole.time_s - micro.forward.time_s) / p.pipeline))
    busy_s = count * (slowest_s + moved_s) + host_s
    work = Costs(busy_s, share * whole.core_s, share * whole.collective_s, share * whole.core_j, share * whole.memory_j, share * whole.link_j)
    compute = powered(work, device)
    forward_s = micro.forward.time_s / p.pipeline
    times = StageTimes(forward_s, stage_s - forward_s, micro.weight_gradient_s / p.pipeline)
    idle_s = bubble_s(recipe.schedule, p.pipeline, recipe.virtual_stages, times)
    change = powered(evaluate(costs_of(step, step.update, coefficients), _one(step.update, len(count))), device)
    load, exchanged = _exchanging(step, coefficients, count)
    hidden_s = hideable_s(load, exchanged, (forward_s, whole.time_s / p.pipeline - forward_s), busy_s, (p.pipeline, recipe.virtual_stages))
    exposed_s = exchanged.time_s - deployment.engine.communication_overlap.value * hidden_s
    link_j = (exchanged.wire_bytes + sent_bytes + host_bytes) * coefficients.link_power * device.tdp_w / (device.link_bytes_per_s or np.inf)
    return {
        "compute_s": compute.time_s,
        "bubble_s": idle_s + np.zeros_like(count),
        "exchange_s": exposed_s,
        "update_s": change.time_s + update_s,
        "compute_j": compute.energy_j,
        "bubble_j": idle_s * device.waiting_w + np.zeros_like(count),
        "exchange_j": exposed_s * device.waiting_w + link_j,
        "update_j": change.energy_j + update_s * device.waiting_w,
        "send_s": count * send_s,
        "host_s": host_s + np.zeros_like(count),
        "straggling_s": count * (slowest_s - send_s) * (1.0 - 1.0 / slow),
        "moved_s": count * moved_s,
        "network_j": _network_j(
            step, (exchanged.wire_bytes - exchanged.outer_bytes, exchanged.outer_bytes), sent_bytes, tuple(share * part for part in micro.wire_bytes)
        ),
    }


def _exchanging(step: Step, coefficients: Coefficients, count: Any) -> tuple[Exchange, Exchanged]:
    """Return what there is to exchange and what that takes; spread experts exchange among the ranks that hold the same ones."""
    p, recipe, fabric = step.deployment.parallelism, step.recipe, step.deployment.fabric
    if step.deployment.engine.flat_exchange:
        fabric = dataclasses.replace(fabric, domain=1)
    whole = Exchange(recipe.zero_stage, step.trained, step.weights, count, recipe.shard_group, step.gradient_bytes, step.deployment.engine.scatters_sums)
    if p.expert == 1 or not step.expert_weights:
        return whole, exchange_gradients(fabric, p, coefficients, whole)
    trained = step.expert_weights if recipe.trainable == "full" else 0.0
    rest = whole._replace(trained=step.trained - trained, weights=step.weights - step.expert_weights)
    experts = whole._replace(trained=trained, weights=step.expert_weights, shard_group=None)
    parts = [exchange_gradients(fabric, p, coefficients, rest), exchange_gradients(fabric, expert_copies(p), coefficients, experts)]
    return whole, Exchanged(*(sum(both) for both in zip(*parts, strict=True)))


def _network_j(step: Step, exchanged: tuple[Any, Any], sent_bytes: Any, layers: tuple[Any, ...]) -> Any:
    """Return the energy of switches and optics [J]: bytes on the wire by the energy per byte of the level that they cross.

    Args:
        step: The configuration.
        exchanged: Gradients and weights, within a domain and beyond it [bytes].
        sent_bytes: Between stages; beyond a domain where the job is larger than one.
        layers: Collectives of layers, within a domain and beyond it [bytes].
    """
    fabric = step.deployment.fabric
    within_j, beyond_j = (level.energy_per_byte_j if level else 0.0 for level in (fabric.inner, fabric.outer))
    stages_j = within_j if step.deployment.parallelism.accelerators <= fabric.domain and fabric.inner else beyond_j
    return (exchanged[0] + layers[0]) * within_j + (exchanged[1] + layers[1]) * beyond_j + sent_bytes * stages_j


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


def _layer_bytes(step: Step, batch: Batch) -> tuple[Any, Any]:
    """Return the bytes that a rank puts on the wire for one micro-batch's collectives, within a domain and beyond it, all stages."""
    iteration, fabric = micro_iteration(step, batch), step.deployment.fabric
    tables = [table for table in (step.forward, step.backward, step.repeated) if table is not None]
    parts = [wire_bytes(table, fabric, feature_matrix(table.features, iteration)) for table in tables]
    return sum(part[0] for part in parts), sum(part[1] for part in parts)
