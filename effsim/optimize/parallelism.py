"""How to split a training job: every feasible combination of ranks, schedule, recomputation and sharding, ranked."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.cost.deployment import Deployment, Settings, deploy
from effsim.cost.estimate import number_arrays, whole_number
from effsim.cost.training import outputs_of
from effsim.cost.training_step import Batch, Micro, Recipe, Step, micro_batch, training_memory, training_step
from effsim.errors import InfeasibleError, SpecError
from effsim.specs.model import Transformer
from effsim.specs.models import model as load_model
from effsim.workload.operations import Parallelism
from effsim.workload.training import Recompute

MICRO_BATCHES: Final = (1, 2, 4, 8, 16, 32)
RECOMPUTE: Final[tuple[Recompute, ...]] = ("none", "selective", "full")
VIRTUAL_STAGES: Final = (1, 2, 4)
ZERO_STAGES: Final = (0, 1, 2, 3)
OBJECTIVES: Final = ("step_time_s", "energy_j_per_step")


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """What is to be trained, and on what.

    Args:
        model: As :func:`effsim.model` takes it.
        accelerator: As :func:`effsim.accelerator` takes it.
        num_accelerators: In all.
        global_batch_size: Sequences per step; a number, or several as an array.
        sequence_length: Tokens.
        settings: Engine, node, precision, calibration ...
        optimizer: See :data:`~effsim.workload.optimizers.OPTIMIZERS`.
    """

    model: Any
    accelerator: Any
    num_accelerators: int
    global_batch_size: Any
    sequence_length: int = 2048
    settings: Settings = dataclasses.field(default_factory=lambda: Settings(precision="bf16", engine="megatron", phase="train"))
    optimizer: str = "adam"


def search_parallelism(job: Job, objective: str = "step_time_s") -> pd.DataFrame:
    """Return every feasible configuration of a job, best first.

    Exact over its grid: tensor ranks within a domain that divide the heads, stages that divide the layers, micro-batches of 1 to 32,
    interleaving by 1, 2 or 4, recomputation, ZeRO stages 0 to 3 (2 and 3 without pipeline). Costs of a micro-batch are computed once
    per tensor split and recomputation, and combined with the rest.

    Args:
        job: What is trained.
        objective: ``step_time_s`` or ``energy_j_per_step``.

    Raises:
        SpecError: An unknown objective.
        InfeasibleError: Nothing fits.
    """
    if objective not in OBJECTIVES:
        raise SpecError(f"objective: expected {' or '.join(OBJECTIVES)}, got {objective!r}")
    whole_number("num_accelerators", job.num_accelerators)
    (batches,), _ = number_arrays({"global_batch_size": job.global_batch_size})
    found = [frame for frame in _frames(job, batches) if len(frame)]
    if not found:
        raise InfeasibleError(
            f"no split of {load_model(job.model).name} over {job.num_accelerators} x {job.accelerator} fits in memory and divides the batch.",
            "accelerator memory",
            ("more accelerators", "a larger global_batch_size", "an accelerator with more memory"),
        )
    return pd.concat(found, ignore_index=True).sort_values(objective, kind="stable", ignore_index=True)


def _frames(job: Job, batches: Any) -> Iterator[pd.DataFrame]:
    known: dict[tuple[int, Recompute], Micro] = {}
    grid = np.array(list(itertools.product(batches, MICRO_BATCHES)))
    batch = Batch(grid[:, 0], grid[:, 1].astype(float), np.full(len(grid), float(job.sequence_length)))
    for deployment in _splits(job):
        p = deployment.parallelism
        for recompute, zero, virtual in itertools.product(RECOMPUTE, ZERO_STAGES, VIRTUAL_STAGES):
            if _pointless(deployment, zero, virtual):
                continue
            step = training_step(deployment, Recipe(recompute=recompute, zero_stage=zero, optimizer=job.optimizer, virtual_stages=virtual))
            feasible = _fits(step, batch)
            if not feasible.any():
                continue
            key = (p.tensor, recompute)
            if key not in known:
                known[key] = micro_batch(step, deployment.prior.median, batch)
            yield _frame(step, batch, known[key], feasible)


def _splits(job: Job) -> Iterator[Deployment]:
    """Yield the deployments of all tensor and pipeline splits that divide the model."""
    model = load_model(job.model)
    layers = model.num_layers if isinstance(model, Transformer) else 1
    one = deploy(model, job.accelerator, Parallelism(), job.settings)
    for tensor in (t for t in (1, 2, 4, 8, 16) if t <= one.fabric.domain):
        for pipeline in (s for s in range(1, layers + 1) if layers % s == 0 and job.num_accelerators % (tensor * s) == 0):
            ranks = Parallelism(tensor, pipeline, data=job.num_accelerators // (tensor * pipeline), sequence=tensor > 1)
            try:
                yield deploy(model, job.accelerator, ranks, job.settings)
            except SpecError:  # heads or widths that do not divide over the ranks: no candidate
                continue


def _pointless(deployment: Deployment, zero: int, virtual: int) -> bool:
    p = deployment.parallelism
    layers = deployment.model.num_layers if isinstance(deployment.model, Transformer) else 1
    interleaved = virtual > 1 and (p.pipeline == 1 or layers % (p.pipeline * virtual) != 0)
    return interleaved or (zero > 1 and p.pipeline > 1) or (zero > 0 and p.data == 1)


def _fits(step: Step, batch: Batch) -> Any:
    p = step.deployment.parallelism
    even = batch.global_batch_size % (batch.micro_batch_size * p.data) == 0.0
    return even & np.asarray(training_memory(step, batch).fits)


def _frame(step: Step, batch: Batch, micro: Micro, feasible: Any) -> pd.DataFrame:
    p, recipe = step.deployment.parallelism, step.recipe
    values = outputs_of(step, step.deployment.prior.median, batch, micro)
    memory = training_memory(step, batch).total_bytes
    columns = {
        "tensor_parallel": p.tensor,
        "pipeline_parallel": p.pipeline,
        "data_parallel": p.data,
        "virtual_pipeline_stages": recipe.virtual_stages,
        "recompute": recipe.recompute,
        "zero_stage": recipe.zero_stage,
        "global_batch_size": batch.global_batch_size[feasible].astype(int),
        "micro_batch_size": batch.micro_batch_size[feasible].astype(int),
    }
    wanted = ("step_time_s", "mfu", "tokens_per_s", "power_w", "energy_j_per_step", "bubble_s", "exchange_s")
    return pd.DataFrame({**columns, **{name: np.asarray(values[name])[feasible] for name in wanted}, "memory_bytes": np.asarray(memory)[feasible]})
