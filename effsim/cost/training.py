"""Training: time, power, energy and memory of one optimizer step."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from effsim.cost.breakdown import operation_breakdown
from effsim.cost.deployment import Deployment, Settings, deploy
from effsim.cost.device import Coefficients, build_device
from effsim.cost.estimate import Estimate, number_arrays, whole_number
from effsim.cost.evaluate import Costs, CostTable, cost_table, evaluate, powered
from effsim.cost.exchange import SHARDED_GRADIENTS, SHARDED_WEIGHTS, exchange_gradients
from effsim.cost.serving import server_power
from effsim.cost.training_memory import RESERVE_BYTES, TrainingMemory, require_fit
from effsim.cost.uncertainty import log_sd
from effsim.errors import SpecError
from effsim.results import Provenance
from effsim.specs.model import Transformer
from effsim.workload.features import Iteration, feature_matrix
from effsim.workload.layers.attention import SOFTMAX_FLOP
from effsim.workload.lowering import lower
from effsim.workload.operations import Operation, OpTable, Parallelism, build_table
from effsim.workload.optimizers import Optimizer, optimizer, update
from effsim.workload.training import Recompute, activation_bytes, backward, recomputed

TIME_OUTPUTS = ("step_time_s", "tokens_per_s", "mfu", "hfu", "model_tflops_per_accelerator")
POWER_OUTPUTS = ("power_w", "server_power_w")
ENERGY_OUTPUTS = ("energy_j_per_step", "energy_per_token_j")
OUTPUTS = (*TIME_OUTPUTS, *POWER_OUTPUTS, *ENERGY_OUTPUTS)


class Batch(NamedTuple):
    """Batches to evaluate, shape (batch,): sequences per step and per micro-batch, tokens per sequence."""

    global_batch_size: Any
    micro_batch_size: Any
    sequence_length: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How a step is run, beside the parallelism."""

    recompute: Recompute
    zero_stage: int
    optimizer: Optimizer
    virtual_stages: int


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A training configuration: the tables of a micro-batch, of the exchange of gradients and of the update."""

    deployment: Deployment
    recipe: Recipe
    backward: OpTable
    repeated: OpTable | None
    update: OpTable
    weights: float


@dataclasses.dataclass(frozen=True)
class TrainingEstimate(Estimate):
    """One optimizer step; floats, or arrays where a batch was given as an array.

    ``mfu`` follows PaLM (arXiv:2204.02311, appendix B): three forward passes with attention counted in full, nothing recomputed,
    over the dense peak of the training dtype. ``hfu`` adds what is recomputed. ``power_w`` is that of all accelerators.

    Args:
        step_time_s: Of an optimizer step [s]; ``compute_s``, ``bubble_s``, ``exchange_s`` and ``update_s`` are its parts.
        energy_j_per_step: Of all accelerators [J].
    """

    OUTPUTS = OUTPUTS
    step_time_s: Any
    tokens_per_s: Any
    mfu: Any
    hfu: Any
    model_tflops_per_accelerator: Any
    power_w: Any
    server_power_w: Any
    energy_j_per_step: Any
    energy_per_token_j: Any
    compute_s: Any
    bubble_s: Any
    exchange_s: Any
    update_s: Any
    memory: TrainingMemory
    feasible: Any
    num_accelerators: int
    provenance: Provenance


def estimate_training(  # noqa: PLR0913, PLR0917 -- the public contract
    model: Any,
    accelerator: Any,
    num_accelerators: int = 1,
    global_batch_size: Any = 1,
    micro_batch_size: Any = 1,
    sequence_length: Any = 4096,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    virtual_pipeline_stages: int = 1,
    context_parallel: int = 1,
    expert_parallel: int = 1,
    sequence_parallel: bool = True,
    zero_stage: int = 1,
    recompute: Recompute = "none",
    precision: str = "bf16",
    optimizer: str = "adam",
    node: Any = None,
    network: Any = None,
    engine: Any = "megatron",
    power_limit_w: float | None = None,
    calibration: Any = "auto",
) -> TrainingEstimate:
    """Return time, power, energy and memory of an optimizer step.

    The pipeline runs 1F1B: ``(micro-batches + (stages - 1) / virtual stages)`` times the forward and backward of one stage, the
    heaviest stage setting the pace (Narayanan et al., arXiv:2104.04473). Gradients are exchanged over the data-parallel ranks,
    overlapped as far as the engine does, then the optimizer updates the weights that the device owns.

    Args:
        model: As :func:`effsim.model` takes it.
        accelerator: As :func:`effsim.accelerator` takes it.
        num_accelerators: In all; data-parallel ranks are what tensor, pipeline and context leave.
        global_batch_size: Sequences per step; number or array.
        micro_batch_size: Sequences per micro-batch; number or array.
        sequence_length: Tokens; number or array.
        tensor_parallel: Ranks that split each layer.
        pipeline_parallel: Stages.
        virtual_pipeline_stages: Interleaved chunks per stage.
        context_parallel: Ranks that split each sequence.
        expert_parallel: Groups over which experts are spread.
        sequence_parallel: Norms split over tensor ranks; reductions become reduce-scatter and all-gather.
        zero_stage: 0 to 3: what data-parallel ranks share out: optimizer state, gradients, weights.
        recompute: ``none``, ``selective`` (attention scores) or ``full``.
        precision: Of the products.
        optimizer: See :data:`~effsim.workload.optimizers.OPTIMIZERS`.
        node: None: the accelerator's default.
        network: Between nodes; None: the node's.
        engine: Name or spec.
        power_limit_w: Per accelerator [W]; None: the TDP.
        calibration: ``auto``, ``none``, a name or a path.

    Raises:
        SpecError: An argument is malformed, or the sizes do not divide.
        InfeasibleError: A single configuration does not fit in memory.
    """
    one = Parallelism(tensor_parallel, pipeline_parallel, context=context_parallel, sequence=bool(sequence_parallel) and tensor_parallel > 1)
    ranks = one.accelerators
    if whole_number("num_accelerators", num_accelerators) % ranks:
        raise SpecError(f"num_accelerators: {num_accelerators} is no multiple of tensor x pipeline x context parallel = {ranks}")
    parallelism = dataclasses.replace(one, expert=expert_parallel, data=num_accelerators // ranks)
    settings = Settings(precision, None, engine, node, network, power_limit_w, None, calibration, "train")
    deployment = deploy(model, accelerator, parallelism, settings)
    step = training_step(deployment, recompute, zero_stage, optimizer, virtual_pipeline_stages)
    return estimate_step(step, global_batch_size, micro_batch_size, sequence_length)


def training_step(deployment: Deployment, recompute: str, zero_stage: int, optimizer_name: str, virtual_stages: int) -> Step:
    """Return a resolved training configuration.

    Raises:
        SpecError: An unknown mode, ZeRO stage or optimizer.
    """
    modes: dict[str, Recompute] = {"none": "none", "selective": "selective", "full": "full"}
    if recompute not in modes:
        raise SpecError(f"recompute: expected none, selective or full, got {recompute!r}")
    if zero_stage not in {0, 1, 2, 3}:
        raise SpecError(f"zero_stage: expected 0, 1, 2 or 3, got {zero_stage!r}")
    recipe = Recipe(modes[recompute], zero_stage, optimizer(optimizer_name), whole_number("virtual_pipeline_stages", virtual_stages))
    table = deployment.table
    wide = lower(deployment.model, deployment.parallelism, dataclasses.replace(deployment.numerics, precision="bf16"), "train")
    weights = wide.weight_bytes / 2.0
    owners = deployment.parallelism.data * deployment.parallelism.context if zero_stage >= 1 else 1
    matrices = [(op.count / deployment.parallelism.pipeline / owners, op.inner, op.cols) for op in table.operations if op.kind == "gemm"]
    ops = update(recipe.optimizer, weights / owners, 4.0, matrices)
    return Step(deployment, recipe, backward(table), recomputed(table, recipe.recompute), build_table(ops, deployment.parallelism), weights)


def estimate_step(step: Step, global_batch_size: Any, micro_batch_size: Any, sequence_length: Any) -> TrainingEstimate:
    """Return the estimate of batches on a resolved configuration; see :func:`estimate_training`."""
    deployment = step.deployment
    given = {"global_batch_size": global_batch_size, "micro_batch_size": micro_batch_size, "sequence_length": sequence_length}
    arrays, shape = number_arrays(given)
    batch, scalar = Batch(*arrays), shape == ()
    replicas = deployment.parallelism.data
    uneven = batch.global_batch_size % (batch.micro_batch_size * replicas) != 0.0
    if scalar and uneven[0]:
        ranks = f"{batch.micro_batch_size[0]:g} x {replicas}"
        raise SpecError(f"global_batch_size: {batch.global_batch_size[0]:g} is no multiple of micro_batch_size x data-parallel ranks = {ranks}")
    memory = training_memory(step, batch)
    if scalar:
        require_fit(memory, deployment.model.name, deployment.accelerator.name, zero_stage=step.recipe.zero_stage, recompute=step.recipe.recompute)
    feasible = np.asarray(memory.fits) & ~uneven
    values = predict(step, deployment.prior.median, batch)
    shaped = {name: float(v[0]) if scalar else np.where(feasible, v, np.nan).reshape(shape) for name, v in values.items()}
    return TrainingEstimate(
        **shaped,
        memory=_first(memory) if scalar else memory,
        feasible=True if scalar else feasible.reshape(shape),
        num_accelerators=deployment.parallelism.accelerators,
        provenance=deployment.prior.provenance,
        spread=lambda: {n: float(sd[0]) if scalar else sd.reshape(shape) for n, sd in _spread(step, batch).items()},
        rows=lambda: _rows(step, Batch(*(part[:1] for part in batch))),
    )


def _first(memory: TrainingMemory) -> TrainingMemory:
    return dataclasses.replace(memory, activations_bytes=float(memory.activations_bytes[0]), logits_bytes=float(memory.logits_bytes[0]))


def _micro_batch(step: Step, batch: Batch) -> Iteration:
    """Return a micro-batch as prefill of whole sequences; context ranks share its tokens and its (query, key) pairs evenly."""
    ranks = step.deployment.parallelism.context
    return Iteration(prefill_seqs=batch.micro_batch_size / ranks, prefill_tokens=batch.sequence_length, completed_prefills=batch.micro_batch_size / ranks)


def training_memory(step: Step, batch: Batch) -> TrainingMemory:
    """Return the memory of the first stage's device, which holds most micro-batches at once.

    1F1B keeps as many micro-batches as there are stages (Narayanan et al., arXiv:2104.04473, section 2.2), interleaving
    ``(1 + (p - 1) / (p v))`` times as much.
    """
    p, recipe, table = step.deployment.parallelism, step.recipe, step.deployment.table
    owners = p.data * p.context
    features = feature_matrix(table.features, _micro_batch(step, batch))
    layers = step.deployment.model.num_layers if isinstance(step.deployment.model, Transformer) else 1
    each = activation_bytes(table, features, recipe.recompute, layers) / p.pipeline
    count = batch.global_batch_size / (batch.micro_batch_size * p.data)
    kept = np.minimum(count, p.pipeline) * (1.0 + (p.pipeline - 1) / (p.pipeline * recipe.virtual_stages) if recipe.virtual_stages > 1 else 1.0)
    head = next((op.cols for op in table.operations if op.name == "logits"), 0)
    logits = batch.micro_batch_size * batch.sequence_length / p.context * head * 6.0  # fp32 logits and their 16-bit gradient
    return TrainingMemory(
        weights_bytes=table.weight_bytes / (owners if recipe.zero_stage == SHARDED_WEIGHTS else 1),
        gradients_bytes=4.0 * step.weights / (owners if recipe.zero_stage >= SHARDED_GRADIENTS else 1),
        optimizer_bytes=recipe.optimizer.state_bytes * step.weights / (owners if recipe.zero_stage >= 1 else 1),
        activations_bytes=each * kept,
        logits_bytes=logits if p.pipeline == 1 else np.zeros_like(logits),
        reserve_bytes=RESERVE_BYTES,
        device_bytes=step.deployment.accelerator.memory.value,
    )


def predict(step: Step, coefficients: Coefficients, batch: Batch) -> dict[str, Any]:
    """Return the outputs of batches under given coefficients, arrays of shape (batch,)."""
    deployment, p = step.deployment, step.deployment.parallelism
    micro = _micro_batch(step, batch)
    parts = [_evaluated(step, table, coefficients, micro) for table in (deployment.table, step.backward, step.repeated) if table is not None]
    whole = Costs(*(sum(columns) for columns in zip(*(cost for cost, _ in parts), strict=True)))
    head_s = sum(head for _, head in parts)
    count = batch.global_batch_size / (batch.micro_batch_size * p.data)
    stage_s = whole.time_s / p.pipeline
    slowest_s = (whole.time_s - head_s) / p.pipeline + head_s if p.pipeline > 1 else whole.time_s
    host_s = deployment.engine.iteration_overhead.value * coefficients.host_overhead_factor
    compute_s = count * slowest_s + host_s
    bubble_s = (p.pipeline - 1) / step.recipe.virtual_stages * stage_s
    change, _ = _evaluated(step, step.update, coefficients, Iteration(prefill_seqs=1.0, prefill_tokens=np.ones_like(count)))
    exchange_s, wire_bytes = exchange_gradients(deployment.fabric, p, coefficients, (step.recipe.zero_stage, step.weights, count))
    hidden_s = deployment.engine.communication_overlap.value * np.minimum(exchange_s, compute_s / 2.0)
    time_s = compute_s + bubble_s + exchange_s - hidden_s + change.time_s
    device = build_device(deployment.accelerator, coefficients, deployment.power_limit_w)
    link_j = wire_bytes * coefficients.link_power * device.tdp_w / (device.link_bytes_per_s or np.inf)
    core_s = count * whole.core_s / p.pipeline
    step_costs = Costs(
        time_s, core_s, exchange_s, count * whole.core_j / p.pipeline + change.core_j, count * whole.memory_j / p.pipeline + change.memory_j,
        count * whole.link_j / p.pipeline + link_j,
    )  # fmt: skip
    run = powered(step_costs, device)
    times = {"compute_s": compute_s + run.time_s - time_s, "bubble_s": bubble_s, "exchange_s": exchange_s - hidden_s, "update_s": change.time_s}
    return {**_outputs(step, batch, (run.time_s, run.energy_j)), **times}


def _evaluated(step: Step, table: OpTable, coefficients: Coefficients, iteration: Iteration) -> tuple[Costs, Any]:
    """Return a table's cost over all stages, and the part of its time that only the last stage spends (logits and loss)."""
    costs = _costs(step, table, coefficients)
    features = feature_matrix(table.features, iteration)
    ends = np.array([op.name.startswith(("logits", "cross_entropy")) for op in table.operations], dtype=float)
    result = evaluate(costs, features)
    head = dataclasses.replace(costs, count=costs.count * ends)
    return result, evaluate(head, features).time_s if ends.any() else np.zeros_like(result.time_s)


def _costs(step: Step, table: OpTable, coefficients: Coefficients) -> CostTable:
    deployment = step.deployment
    device = build_device(deployment.accelerator, coefficients, deployment.power_limit_w)
    return cost_table(table, device, deployment.fabric, deployment.engine.launch_overhead.value)


def _outputs(step: Step, batch: Batch, run: tuple[Any, Any]) -> dict[str, Any]:
    time_s, energy_j = run
    accelerators = step.deployment.parallelism.accelerators
    tokens = batch.global_batch_size * batch.sequence_length
    model_flop, hardware_flop = model_and_hardware_flop(step, batch)
    dtype = step.deployment.table.operations[0].dtype
    peak_flop_per_s = accelerators * step.deployment.device().peak_flop_per_s[dtype]
    power_w = accelerators * energy_j / time_s
    return {
        "step_time_s": time_s,
        "tokens_per_s": tokens / time_s,
        "mfu": model_flop / (time_s * peak_flop_per_s),
        "hfu": hardware_flop / (time_s * peak_flop_per_s),
        "model_tflops_per_accelerator": model_flop / time_s / accelerators / 1e12,
        "power_w": power_w,
        "server_power_w": server_power(step.deployment, power_w, accelerators),
        "energy_j_per_step": accelerators * energy_j,
        "energy_per_token_j": accelerators * energy_j / tokens,
    }


def model_and_hardware_flop(step: Step, batch: Batch) -> tuple[Any, Any]:
    """Return model and hardware FLOPs of a step, all accelerators, by PaLM's convention: products and attention, attention in full.

    Counted on the model that is not split, so that what tensor ranks do alike (router, replicated heads) counts once.
    """
    whole = lower(step.deployment.model, Parallelism(), step.deployment.numerics, "train")
    sequences = Iteration(prefill_seqs=batch.global_batch_size, prefill_tokens=batch.sequence_length)
    repeated = recomputed(whole, step.recipe.recompute)
    forward = _matrix_flop(whole, sequences)
    return 3.0 * forward, 3.0 * forward + (_matrix_flop(repeated, sequences) if repeated is not None else 0.0)


def _matrix_flop(table: OpTable, iteration: Iteration) -> Any:
    """Return the FLOPs of products and of attention without its softmax."""
    full = tuple(f._replace(causal=False) if f.kind == "prefill_pairs" and not f.window and not f.chunk else f for f in table.features)
    shares = np.array([_matrix_share(op) for op in table.operations])
    return (table.count * shares) @ (table.flop @ feature_matrix(full, iteration))


def _matrix_share(op: Operation) -> float:
    if op.kind == "prefill_attention":
        products = 2.0 * (op.inner + op.cols)
        return products / (products + SOFTMAX_FLOP)
    return float(op.kind in {"gemm", "grouped_gemm"})


def _spread(step: Step, batch: Batch) -> dict[str, Any]:
    time = step.deployment.prior.discrepancy_log_sd.get("time", 0.0)
    power = step.deployment.prior.discrepancy_log_sd.get("power", 0.0)
    doubt = {**dict.fromkeys(TIME_OUTPUTS, time), **dict.fromkeys(POWER_OUTPUTS, power), **dict.fromkeys(ENERGY_OUTPUTS, float(np.hypot(time, power)))}

    def outputs(coefficients: Coefficients) -> dict[str, Any]:
        values = predict(step, coefficients, batch)
        return {name: values[name] for name in OUTPUTS}

    return log_sd(outputs, step.deployment.prior, doubt)


def _rows(step: Step, batch: Batch) -> pd.DataFrame:
    tables = {"forward": step.deployment.table, "backward": step.backward, "recompute": step.repeated}
    micro = _micro_batch(step, batch)
    frames = [
        operation_breakdown(_costs(step, table, step.deployment.prior.median), feature_matrix(table.features, micro), phase)
        for phase, table in tables.items()
        if table is not None
    ]
    costs = _costs(step, step.update, step.deployment.prior.median)
    frames.append(operation_breakdown(costs, feature_matrix(step.update.features, Iteration(prefill_seqs=1.0, prefill_tokens=1.0)), "update"))
    return pd.concat(frames, ignore_index=True)
