"""Why no split fits, and what would: each remedy is tried before it is named."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from effsim.catalog import files
from effsim.cost.recipe import ZERO_STAGES
from effsim.errors import InfeasibleError, SpecError
from effsim.optimize.parallelism.grid import Candidate, Tally, candidates
from effsim.optimize.parallelism.space import Job, Space
from effsim.specs import loading
from effsim.specs.models import model as load_model
from effsim.units import BYTES_PER_GIB

MORE = (2, 4, 8, 16, 32, 64)  # times as many accelerators


def nothing_fits(job: Job, space: Space, tally: Tally) -> InfeasibleError:
    """Return the error of a search without a result: what binds, how far the nearest split is, and remedies that were tried."""
    what = f"no split of {load_model(job.model).name} over {job.num_accelerators} x {job.accelerator}"
    if not tally.considered:
        return InfeasibleError(f"{what} has the ranks asked for: they multiply to another number.", "divisibility", _named(_relaxed(job, space)))
    counted = "; ".join(f"{count:,} because {reason} ({tally.examples[reason]})" for reason, count in tally.refused.most_common() if reason != "memory")
    if tally.closest_bytes is None:
        remedies = _named(_relaxed(job, space), _other_batches(job, space))
        return InfeasibleError(f"{what} divides: of {tally.considered:,} considered, {counted}.", "divisibility", remedies)
    short = f"{what} fits in memory: of {tally.considered:,} considered, {tally.refused['memory']:,} need more, the nearest {_gib(tally.closest_bytes)} more"
    remedies = _named(_relaxed(job, space), _more(job, space), _lighter(job, space), _roomier(job, space))
    return InfeasibleError(f"{short}{'; ' + counted if counted else ''}.", "accelerator memory", remedies)


def _gib(size_bytes: float) -> str:
    return f"{size_bytes / BYTES_PER_GIB:.1f} GiB"


def fitting(job: Job, space: Space) -> Candidate | None:
    """Return a frugal combination that fits, or None: all recomputed, all sharded, the smallest micro-batch, as far as the space allows."""
    frugal = dataclasses.replace(
        space,
        recompute="full" if space.recompute is None or "full" in space.recompute else space.recompute,
        zero_stage=max(space.zero_stage or ZERO_STAGES),
        micro_batch_size=min(space.micro_batch_size or (1,)),
        sequence_parallel=True if space.sequence_parallel is None else space.sequence_parallel,
        shard_group=0 if space.shard_group is None else space.shard_group,
        pipeline_schedule="1f1b" if space.pipeline_schedule is None and space.virtual_pipeline_stages is None else space.pipeline_schedule,
    )
    try:
        return next(candidates(job, frugal, Tally()), None)
    except SpecError:
        return None


def _named(*tried: Iterator[tuple[str, Job, Space]]) -> tuple[str, ...]:
    """Return the first remedy of each kind that makes something fit, with the value that it takes where it lifts a limit."""
    named = []
    for kind in tried:
        for name, job, space in kind:
            found = fitting(job, space)
            if found is not None:
                named.append(f"{name} ({_value(found, name)})" if name in _LIMITS else name)
                break
    return tuple(named)


_LIMITS = tuple(field.name for field in dataclasses.fields(Space) if field.name != "precision")


def _value(found: Candidate, name: str) -> str:
    """Return what a limit would have to allow."""
    p, recipe = found.deployment.parallelism, found.recipe
    values = {
        "tensor_parallel": p.tensor,
        "pipeline_parallel": p.pipeline,
        "virtual_pipeline_stages": recipe.virtual_stages,
        "context_parallel": p.context,
        "expert_parallel": p.expert,
        "data_parallel": p.data,
        "sequence_parallel": p.sequence,
        "micro_batch_size": f"{found.family.batch.micro_batch_size[found.feasible[0].argmax()]:g}",
        "recompute": recipe.recompute,
        "zero_stage": recipe.zero_stage,
        "shard_group": recipe.shard_group or "all ranks",
        "pipeline_schedule": recipe.schedule,
    }
    return f"such as {values[name]}"


def _relaxed(job: Job, space: Space) -> Iterator[tuple[str, Job, Space]]:
    """Yield the space with one limit less, then with none."""
    limited = [field.name for field in dataclasses.fields(space) if field.name != "precision" and getattr(space, field.name) is not None]
    for name in limited:
        yield name, job, dataclasses.replace(space, **{name: None})
    if len(limited) > 1:
        yield f"none of the limits on {', '.join(limited)}", job, Space(precision=space.precision)
    if job.memory_headroom:
        yield "no memory_headroom", dataclasses.replace(job, memory_headroom=0.0), space


def _other_batches(job: Job, space: Space) -> Iterator[tuple[str, Job, Space]]:
    for size in (2**k for k in range(1, 21)):
        yield f"global_batch_size={size}", dataclasses.replace(job, global_batch_size=size), space


def _more(job: Job, space: Space) -> Iterator[tuple[str, Job, Space]]:
    """Yield more accelerators, with the batch as it is, then with a larger one."""
    for times in MORE:
        count = times * job.num_accelerators
        yield f"{count} accelerators", dataclasses.replace(job, num_accelerators=count), space
    for times in MORE:
        count, batch = times * job.num_accelerators, times * np.asarray(job.global_batch_size)
        yield f"{count} accelerators with {times} times the global batch", dataclasses.replace(job, num_accelerators=count, global_batch_size=batch), space


def _lighter(job: Job, space: Space) -> Iterator[tuple[str, Job, Space]]:
    for name in ("adam_8bit", "adafactor"):
        if job.recipe.optimizer != name:
            yield f"optimizer={name}", dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, optimizer=name)), space


def _roomier(job: Job, space: Space) -> Iterator[tuple[str, Job, Space]]:
    """Yield the catalog's accelerators of the same class with more memory, the smallest first; not where node or network were given."""
    own = loading.accelerator(job.accelerator)
    if job.settings.node is not None or job.settings.network is not None:
        return
    others = [loading.accelerator(name) for name in files("accelerators")]
    for other in sorted(_alike(own, others), key=lambda one: one.memory.value):
        yield f"{other.name} ({_gib(other.memory.value)})", dataclasses.replace(job, accelerator=other.name), space


def _alike(own: Any, others: list[Any]) -> Iterator[Any]:
    for other in others:
        if other.device_class == own.device_class and other.memory.value > own.memory.value:
            yield other
