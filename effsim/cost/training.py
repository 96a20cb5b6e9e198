"""Training: time, power, energy and memory of one optimizer step."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from effsim.cost.breakdown import operation_breakdown
from effsim.cost.deployment import Settings, deploy
from effsim.cost.device import Coefficients
from effsim.cost.estimate import Estimate, number_arrays, whole_number
from effsim.cost.routing import Routing
from effsim.cost.serving import power_bounds_w, server_power
from effsim.cost.storage import DEFAULT_STORAGE, TOKEN_BYTES, WEIGHT_BYTES, Loading, access, checkpoint_bytes, exposed_loading_s
from effsim.cost.training_memory import TrainingMemory
from effsim.cost.training_phases import PHASE_WORDS, Taken, step_phases
from effsim.cost.training_remedies import require_fit
from effsim.cost.training_step import (
    PHASES,
    Batch,
    Micro,
    Recipe,
    Step,
    costs_of,
    device_of,
    micro_batch,
    micro_iteration,
    phases,
    training_memory,
    training_step,
)
from effsim.cost.uncertainty import discrepancies, interval, log_sd
from effsim.errors import SpecError
from effsim.results import Provenance
from effsim.workload.adapters import with_adapters
from effsim.workload.features import Iteration, feature_matrix
from effsim.workload.layers.attention import SOFTMAX_FLOP
from effsim.workload.lowering import lower
from effsim.workload.operations import Operation, OpTable, Parallelism
from effsim.workload.training import Recompute, recomputed

TIME_OUTPUTS = ("step_time_s", "tokens_per_s", "mfu", "hfu", "model_tflops_per_accelerator")
POWER_OUTPUTS = ("power_w", "server_power_w")
ENERGY_OUTPUTS = ("energy_j_per_step", "energy_per_token_j")
OUTPUTS = (*TIME_OUTPUTS, *POWER_OUTPUTS, *ENERGY_OUTPUTS)
STEP_PHASES = (*PHASES, "loading")


@dataclasses.dataclass(frozen=True)
class TrainingEstimate(Estimate):
    """One optimizer step; floats, or arrays where a batch was given as an array.

    ``mfu`` follows PaLM (arXiv:2204.02311, appendix B): three forward passes with attention counted in full, nothing recomputed,
    over the dense peak of the training dtype. ``hfu`` adds what is recomputed. ``power_w`` is that of all accelerators.

    Args:
        step_time_s: Of an optimizer step [s]; ``compute_s``, ``bubble_s``, ``exchange_s``, ``update_s`` and ``loading_s`` (waiting for data) are its parts.
        energy_j_per_step: Of all accelerators [J]; ``compute_j`` to ``loading_j`` are its parts.
        host_energy_j_per_step: Of hosts, fans and power supplies [J]; absent where no node is known.
        network_energy_j_per_step: Of switches and optics outside the accelerators and their servers [J].
        storage_energy_j_per_step: Of the storage servers, at rest and reading the step's data, the job's share [J]; checkpoints are written
            by the cluster, at its interval.
        checkpoint_bytes: Weights and optimizer state of the whole model; of its adapters alone where the rest is frozen.
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
    host_energy_j_per_step: Any
    network_energy_j_per_step: Any
    storage_energy_j_per_step: Any
    compute_s: Any
    bubble_s: Any
    exchange_s: Any
    update_s: Any
    loading_s: Any
    compute_j: Any
    bubble_j: Any
    exchange_j: Any
    update_j: Any
    loading_j: Any
    memory: TrainingMemory
    checkpoint_bytes: float
    feasible: Any
    num_accelerators: int
    provenance: Provenance

    parts: dataclasses.InitVar[Callable[[], pd.DataFrame]]

    def __post_init__(
        self,
        spread: Callable[[], Mapping[str, Any]],
        rows: Callable[[], pd.DataFrame],
        bounds: Mapping[str, tuple[float, float]],
        parts: Callable[[], pd.DataFrame],
    ) -> None:
        """Keep what is computed on demand."""
        super().__post_init__(spread, rows, bounds)
        self.__dict__["_parts"] = parts

    @cached_property
    def phases(self) -> pd.DataFrame:
        """Return time with its 90 % interval, energy and power of all accelerators in each phase of a step; of the first batch where there are many.

        Times sum to the step time, energies to that of the accelerators. A phase that does not occur takes 0 s and has no power.
        """
        found: pd.DataFrame = self.__dict__["_parts"]()
        return found


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
    pipeline_schedule: str = "1f1b",
    trainable: Literal["full", "lora"] = "full",
    lora_rank: int = 16,
    capacity_factor: float | None = None,
    shard_group: int | None = None,
    rank_time_sd: float = 0.0,
    attention: Literal["tiled", "naive"] = "tiled",
    storage: Any = DEFAULT_STORAGE,
    data_bytes_per_token: float = TOKEN_BYTES,
    prefetch_ratio: float = 1.0,
    expert_imbalance: float | None = None,
    gradient_bytes: float | None = None,
    offload_activations: float = 0.0,
    offload_optimizer: float = 0.0,
    clock: float | None = None,
    routing: Routing | None = None,
    wide_share: float | None = None,
    amax_reads: float | None = None,
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
        recompute: ``none``, ``selective`` (attention scores), ``alternate`` (every second product), ``minimal`` (all but the products),
            ``full``, or modules as ``layernorm+moe_act``; see :func:`~effsim.workload.training.recomputed`.
        precision: Of the products: 16 bits or more, or ``fp8``, ``mxfp8``, ``nvfp4``, ``mxfp4`` where the accelerator has the units; see
            :data:`~effsim.workload.low_precision.RECIPES`.
        optimizer: See :data:`~effsim.workload.optimizers.OPTIMIZERS`.
        node: None: the accelerator's default.
        network: Between nodes; None: the node's.
        engine: Name or spec.
        power_limit_w: Per accelerator [W]; None: the TDP.
        calibration: ``auto``, ``none``, a name or a path.
        pipeline_schedule: ``1f1b`` (interleaved with virtual stages), ``gpipe`` or ``zero_bubble``.
        trainable: ``full``, or ``lora``: frozen weights with low-rank adapters on the attention products.
        lora_rank: Of the adapters.
        capacity_factor: Places of each expert's buffer over ``tokens · top_k / experts``, where the router pads and drops; None: dropless.
        shard_group: Ranks within which ZeRO shards, replicas of them summing gradients (hybrid sharding); None: all.
        rank_time_sd: Relative standard deviation of an accelerator's step time; all wait for the slowest of them.
        attention: ``tiled``, or ``naive``: scores are written to memory, as before 2022.
        storage: From which data are read: name, path or spec.
        data_bytes_per_token: Read for one token [bytes]; a token id takes 4, samples with pictures far more.
        prefetch_ratio: Share of a step behind which reading is hidden.
        expert_imbalance: Rows of the fullest rank of a dropless router over the mean, which stretches time alone; None: the coefficient.
        gradient_bytes: Of a gradient in its sum and on the wire: 4 (fp32) or 2 (bf16); None: the engine's.
        offload_activations: Share of the kept activations that goes to the host's memory and comes back.
        offload_optimizer: Share of the optimizer's state that lies there.
        routing: How mixture layers run; None: dispatched by the host, permuted within an exposed all-to-all.
        wide_share: Of the linear layers, how many stay in 16 bits where ``precision`` has fewer; None: as its recipe says.
        amax_reads: Times that a tensor is read for its largest value before it is quantised, 0 to 1: 1 where one scale of the tensor at hand
            serves all of it (current scaling); None: as the recipe says.
        clock: Highest clock as a share of the full one, as ``nvidia-smi --lock-gpu-clocks`` sets it; None: full.

    Raises:
        SpecError: An argument is malformed, or the sizes do not divide.
        InfeasibleError: A single configuration does not fit in memory.
    """
    shared = whole_number("tensor_parallel", tensor_parallel) > 1 and bool(sequence_parallel)
    one = Parallelism(tensor_parallel, pipeline_parallel, context=context_parallel, sequence=shared)
    ranks = one.accelerators
    if whole_number("num_accelerators", num_accelerators) % ranks:
        raise SpecError(f"num_accelerators: {num_accelerators} is no multiple of tensor x pipeline x context parallel = {ranks}")
    parallelism = dataclasses.replace(one, expert=expert_parallel, data=num_accelerators // ranks)
    settings = Settings(precision, None, engine, node, network, power_limit_w, None, calibration, "train", attention, clock=clock)
    deployment = deploy(model, accelerator, parallelism, settings)
    reading = Loading(storage, data_bytes_per_token, prefetch_ratio)
    kept = (expert_imbalance, gradient_bytes, offload_activations, offload_optimizer, reading, routing or Routing())
    run = (virtual_pipeline_stages, pipeline_schedule, trainable, lora_rank, capacity_factor, shard_group, rank_time_sd)
    recipe = Recipe(recompute, zero_stage, optimizer, *run, *kept, wide_share, amax_reads)
    step = training_step(deployment, recipe)
    if parallelism.expert > 1 and not step.expert_weights:
        raise SpecError(f"expert_parallel: {parallelism.expert} groups for experts that {deployment.model.name} does not have; give 1")
    return estimate_step(step, global_batch_size, micro_batch_size, sequence_length)


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
        require_fit(step, batch, memory)
    feasible = np.asarray(memory.fits) & ~uneven
    values = predict(step, deployment.prior.median, batch)
    shaped = {name: float(v[0]) if scalar else np.where(feasible, v, np.nan).reshape(shape) for name, v in values.items()}
    return TrainingEstimate(
        **shaped,
        memory=_first(memory) if scalar else memory,
        checkpoint_bytes=checkpoint_bytes(_trained_parameters(step), step.chosen_optimizer.state_bytes),
        feasible=True if scalar else feasible.reshape(shape),
        num_accelerators=deployment.parallelism.accelerators,
        provenance=deployment.prior.provenance,
        spread=lambda: {n: float(sd[0]) if scalar else sd.reshape(shape) for n, sd in _spread(step, batch).items()},
        rows=lambda: _rows(step, Batch(*(part[:1] for part in batch))),
        parts=lambda: _phase_rows(step, Batch(*(part[:1] for part in batch))),
        bounds={"mfu": (0.0, 1.0), "hfu": (0.0, 1.0), "power_w": power_bounds_w(deployment)},
    )


def _first(memory: TrainingMemory) -> TrainingMemory:
    by_batch = ("gradients_bytes", "activations_bytes", "recompute_bytes", "logits_bytes")
    return dataclasses.replace(memory, **{name: float(getattr(memory, name)[0]) for name in by_batch})


def _trained_parameters(step: Step) -> float:
    """Return the parameters of the whole model that change, over all ranks."""
    deployment = step.deployment
    if step.recipe.trainable == "full":
        return deployment.table.parameters
    whole = lower(deployment.model, Parallelism(), deployment.numerics, "train")
    return with_adapters(whole, step.recipe.lora_rank)[1].weight_bytes / WEIGHT_BYTES


def predict(step: Step, coefficients: Coefficients, batch: Batch) -> dict[str, Any]:
    """Return the outputs of batches under given coefficients, arrays of shape (batch,)."""
    return outputs_of(step, coefficients, batch, micro_batch(step, coefficients, batch))


def outputs_of(step: Step, coefficients: Coefficients, batch: Batch, micro: Micro) -> dict[str, Any]:
    """Return :func:`predict` for micro-batch costs that are known already: they do not depend on stages, replicas or ZeRO."""
    run = phases(step, coefficients, batch, micro)
    accelerators = step.deployment.parallelism.accelerators
    tokens = batch.global_batch_size * batch.sequence_length
    model_flop, hardware_flop = model_and_hardware_flop(step, batch)
    peak_flop_per_s = accelerators * device_of(step, coefficients).peak_flop_per_s[step.forward.operations[0].dtype]
    run |= _reading(step, tokens, sum(run[f"{phase}_s"] for phase in PHASES), device_of(step, coefficients).waiting_w)
    time_s = sum(run[f"{phase}_s"] for phase in STEP_PHASES)
    energy = {f"{phase}_j": accelerators * run[f"{phase}_j"] for phase in STEP_PHASES}
    energy_j = sum(energy.values())
    power_w = energy_j / time_s
    server_w = server_power(step.deployment, power_w, accelerators)
    return {
        "step_time_s": time_s,
        "tokens_per_s": tokens / time_s,
        "mfu": model_flop / (time_s * peak_flop_per_s),
        "hfu": hardware_flop / (time_s * peak_flop_per_s),
        "model_tflops_per_accelerator": model_flop / time_s / accelerators / 1e12,
        "power_w": power_w,
        "server_power_w": server_w,
        "energy_j_per_step": energy_j,
        "energy_per_token_j": energy_j / tokens,
        "host_energy_j_per_step": (server_w - power_w) * time_s,
        "network_energy_j_per_step": accelerators * run["network_j"],
        "storage_energy_j_per_step": run["storage_j"],
        **{f"{phase}_s": run[f"{phase}_s"] for phase in STEP_PHASES},
        **energy,
    }


def _reading(step: Step, tokens: Any, busy_s: Any, static_w: float) -> dict[str, Any]:
    """Return how long accelerators wait for data in a step [s], what each draws meanwhile [J], and the energy of the storage servers [J].

    One rank of each data-parallel replica reads; the accelerators wait only for what prefetching does not hide.
    """
    deployment, loading = step.deployment, step.recipe.loading
    per_node = deployment.node.accelerators_per_node if deployment.node else 1
    nodes = deployment.parallelism.accelerators / per_node
    found = access(loading.storage, nodes, float(deployment.parallelism.data))
    data_bytes = tokens * loading.bytes_per_token
    waited_s = exposed_loading_s(data_bytes, busy_s, found.read_bytes_per_s, loading.prefetch_ratio)
    storage_j = data_bytes * found.energy_per_byte_j + found.standing_w * (busy_s + waited_s)
    return {"loading_s": waited_s, "loading_j": waited_s * static_w, "storage_j": storage_j}


def model_and_hardware_flop(step: Step, batch: Batch) -> tuple[Any, Any]:
    """Return model and hardware FLOPs of a step, all accelerators, by PaLM's convention: products and attention, attention in full.

    Three forward passes, two where weights are frozen. Counted on the model that is not split, so that what tensor ranks do alike
    (router, replicated heads) counts once.
    """
    whole = lower(step.deployment.model, Parallelism(), step.deployment.numerics, "train")
    passes = 3.0 if step.recipe.trainable == "full" else 2.0
    sequences = Iteration(prefill_seqs=batch.global_batch_size, prefill_tokens=batch.sequence_length)
    repeated = recomputed(whole, step.recipe.recompute, last_product=step.deployment.engine.repeats_last_product)
    forward = _matrix_flop(whole, sequences)
    return passes * forward, passes * forward + (_matrix_flop(repeated, sequences) if repeated is not None else 0.0)


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
    doubt = discrepancies(step.deployment.prior, TIME_OUTPUTS, POWER_OUTPUTS, ENERGY_OUTPUTS)

    def outputs(coefficients: Coefficients) -> dict[str, Any]:
        values = predict(step, coefficients, batch)
        return {name: values[name] for name in OUTPUTS}

    return log_sd(outputs, step.deployment.prior, doubt)


def _phase_rows(step: Step, batch: Batch) -> pd.DataFrame:
    """Return one row per phase of a single batch: time [s] with its interval, energy [J] and power [W] of all accelerators."""

    def taken(coefficients: Coefficients) -> Taken:
        micro = micro_batch(step, coefficients, batch)
        run = phases(step, coefficients, batch, micro)
        busy_s = sum(run[f"{phase}_s"] for phase in PHASES)
        run |= _reading(step, batch.global_batch_size * batch.sequence_length, busy_s, device_of(step, coefficients).waiting_w)
        return step_phases(step, coefficients, batch, micro, run)

    prior, found = step.deployment.prior, taken(step.deployment.prior.median)
    spread = log_sd(lambda coefficients: taken(coefficients).time_s, prior, discrepancies(prior, tuple(PHASE_WORDS), (), ()))
    rows = []
    for name in PHASE_WORDS:
        time_s, energy_j, sd = (float(part[name][0]) for part in (found.time_s, found.energy_j, spread))
        low, high = interval(time_s, sd, 0.9) if time_s > 0.0 and np.isfinite(sd) else (None, None)
        rows.append({"phase": name, "time_s": time_s, "low_s": low, "high_s": high, "energy_j": energy_j, "power_w": energy_j / time_s if time_s else None})
    return pd.DataFrame(rows)


def _rows(step: Step, batch: Batch) -> pd.DataFrame:
    tables = {"forward": step.forward, "backward": step.backward, "recompute": step.repeated}
    median, micro = step.deployment.prior.median, micro_iteration(step, batch)
    frames = [
        operation_breakdown(costs_of(step, table, median), feature_matrix(table.features, micro), phase) for phase, table in tables.items() if table is not None
    ]
    once = Iteration(prefill_seqs=1.0, prefill_tokens=1.0)
    frames.append(operation_breakdown(costs_of(step, step.update, median), feature_matrix(step.update.features, once), "update"))
    return pd.concat(frames, ignore_index=True)
