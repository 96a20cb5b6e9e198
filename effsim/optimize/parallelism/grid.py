"""The memory of every combination, as arrays: what fits, before anything is timed.

The memory of a device is a sum of what its ranks store (by ZeRO stage and group) and what its micro-batches keep (by schedule and
recomputation), so each is worked out once and they are added; what a micro-batch costs is worked out once for ranks that split a layer alike.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from effsim.cost.deployment import Deployment, Settings, deploy
from effsim.cost.estimate import number_arrays
from effsim.cost.schedules import StageTimes, bubble_s
from effsim.cost.training_step import Batch, Micro, Step, micro_batch, training_memory, training_step
from effsim.errors import SpecError
from effsim.optimize.parallelism.space import MICRO_BATCHES, RECOMPUTE, Inner, Job, Sharding, Space, schedules, shardings, splits
from effsim.specs.models import model as load_model
from effsim.units import BYTES_PER_GIB
from effsim.workload.operations import Array, Parallelism
from effsim.workload.training import Recompute

Progress = Callable[[str, float], None]
ROUNDING = 1.0 - 1e-9  # lower bounds are sums in another order


@dataclasses.dataclass(slots=True)
class Tally:
    """What became of the combinations, and an example of each reason.

    Args:
        considered: Combinations looked at.
        refused: Of those, by reason.
        examples: A sentence for each reason.
        closest_bytes: Least memory beyond what there is, over combinations that fail by memory alone; None: none does.
    """

    considered: int = 0
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)
    closest_bytes: float | None = None

    def refuse(self, reason: str, count: int, example: str) -> None:
        """Count refusals."""
        if count:
            self.refused[reason] += count
            self.examples.setdefault(reason, example)


@dataclasses.dataclass(eq=False)
class Family:
    """Ranks that split a layer alike: one table of operations, one cost per micro-batch and recomputation."""

    deployment: Deployment
    batch: Batch
    known: dict[Recompute, Micro] = dataclasses.field(default_factory=dict)

    def micro(self, step: Step) -> Micro:
        """Return the cost of a micro-batch; stages, replicas and sharding do not change it."""
        mode = step.recipe.recompute
        if mode not in self.known:
            self.known[mode] = micro_batch(step, self.deployment.prior.median, self.batch)
        return self.known[mode]


@dataclasses.dataclass(eq=False)
class Candidate:
    """Ranks, schedule and recomputation, with every sharding and batch: one row of arrays.

    Args:
        step: With the first of the shardings.
        inner: Schedule and chunks.
        shardings: Zero stages and groups.
        memory_bytes: Shape (sharding, batch).
        feasible: Shape (sharding, batch).
    """

    family: Family
    step: Step
    inner: Inner
    shardings: list[Sharding]
    memory_bytes: Array
    feasible: Any

    def at(self, place: int) -> Step:
        """Return the step with one of the shardings."""
        sharding = self.shardings[place]
        recipe = dataclasses.replace(self.step.recipe, zero_stage=sharding.zero_stage, shard_group=sharding.shard_group)
        return training_step(self.step.deployment, recipe)

    def least_time_s(self) -> Any:
        """Return a time that no sharding goes below [s], shape (batch,): every micro-batch on an even share of the layers, and the bubble."""
        p, recipe, micro = self.step.deployment.parallelism, self.step.recipe, self.family.micro(self.step)
        whole_s, forward_s = micro.total().time_s / p.pipeline, micro.forward.time_s / p.pipeline
        count = self.family.batch.global_batch_size / (self.family.batch.micro_batch_size * p.data)
        times = StageTimes(forward_s, whole_s - forward_s, micro.weight_gradient_s / p.pipeline)
        return ROUNDING * (count * whole_s + bubble_s(recipe.schedule, p.pipeline, recipe.virtual_stages, times))


def batches(job: Job, space: Space) -> Batch:
    """Return every global batch with every micro-batch, shape (batch,)."""
    (sizes,), _ = number_arrays({"global_batch_size": job.global_batch_size})
    grid = np.array([(size, micro) for size in sizes for micro in space.micro_batch_size or MICRO_BATCHES], dtype=float)
    return Batch(grid[:, 0], grid[:, 1], np.full(len(grid), float(job.sequence_length)))


def settings_of(job: Job, space: Space) -> list[Settings]:
    """Return the job's settings, once per precision."""
    return [job.settings if one is None else dataclasses.replace(job.settings, precision=one) for one in space.precision or (None,)]


def candidates(job: Job, space: Space, tally: Tally, progress: Progress | None = None) -> Iterator[Candidate]:
    """Yield the candidates with at least one combination that fits, counting the others.

    Raises:
        SpecError: A name is unknown, or the accelerators are not joined.
    """
    batch, model = batches(job, space), load_model(job.model)
    for settings in settings_of(job, space):
        one = deploy(model, job.accelerator, Parallelism(), settings)
        whole = deploy(model, job.accelerator, Parallelism(data=job.num_accelerators), settings).fabric
        if job.num_accelerators > whole.domain and whole.outer is None:
            joined = f"{job.num_accelerators} are more than the {whole.domain} that are joined"
            raise SpecError(f"num_accelerators: {joined}; give a node with a network (node=)")
        groups = list(splits(job, space, model, whole.domain))
        for index, group in enumerate(groups):
            if progress is not None:
                progress("memory", index / len(groups))
            yield from _of_family(job, space, (group, one, batch), tally)


def _of_family(job: Job, space: Space, about: tuple[list[Parallelism], Deployment, Batch], tally: Tally) -> Iterator[Candidate]:
    group, one, batch = about
    families: dict[int, Family] = {}
    for ranks in group:
        placed = ranks.expert if ranks.data % ranks.expert == 0 else ranks.data  # beyond that, replicas see the layer alike
        inners = schedules(space, one.model, ranks.pipeline)
        shards = shardings(space, ranks, one.fabric.domain)
        size = len(inners) * len(shards) * len(space.recompute or RECOMPUTE) * len(batch.global_batch_size)
        tally.considered += size
        try:
            if placed not in families:
                families[placed] = Family(deploy(one.model, job.accelerator, ranks, _settings(one, job)), batch)
        except SpecError as error:  # heads, experts or widths that do not divide over the ranks
            tally.refuse("the model does not divide", size, str(error))
            continue
        yield from _of_ranks(job, space, (families[placed], ranks, inners, shards), tally)


def _settings(one: Deployment, job: Job) -> Settings:
    return dataclasses.replace(job.settings, precision=one.numerics.precision)


def _of_ranks(job: Job, space: Space, about: tuple[Family, Parallelism, list[Inner], list[Sharding]], tally: Tally) -> Iterator[Candidate]:
    family, ranks, inners, shards = about
    deployment, batch = dataclasses.replace(family.deployment, parallelism=ranks), family.batch
    even = batch.global_batch_size % (batch.micro_batch_size * ranks.data) == 0.0
    modes = space.recompute or RECOMPUTE
    combinations = len(inners) * len(shards) * len(modes)
    tally.refuse("the batch does not divide", combinations * int((~even).sum()), f"no micro-batch times {ranks.data} replicas divides the global batch")
    if not even.any() or not combinations:
        return
    room_bytes = deployment.accelerator.memory.value * (1.0 - job.memory_headroom)
    stored = _stored(job, deployment, (inners[0], modes[0]), shards, batch)
    for inner in inners:
        for mode in modes:
            step = _step(job, deployment, (inner, mode), shards[0])
            memory_bytes = np.asarray(training_memory(step, batch).total_bytes) + stored[:, None]
            fits = memory_bytes <= room_bytes
            _count_memory(tally, memory_bytes, (even, fits), room_bytes)
            feasible = fits & even
            if feasible.any():
                yield Candidate(family, step, inner, shards, memory_bytes, feasible)


def _step(job: Job, deployment: Deployment, chosen: tuple[Inner, Recompute], sharding: Sharding) -> Step:
    inner, mode = chosen
    zero, group = sharding
    recipe = dataclasses.replace(job.recipe, recompute=mode, schedule=inner.schedule, virtual_stages=inner.virtual_stages, zero_stage=zero, shard_group=group)
    return training_step(deployment, recipe)


def _stored(job: Job, deployment: Deployment, chosen: tuple[Inner, Recompute], shards: list[Sharding], batch: Batch) -> Array:
    """Return what each sharding stores beyond the first [bytes], shape (sharding,)."""
    one = Batch(*(part[:1] for part in batch))
    totals = [np.asarray(training_memory(_step(job, deployment, chosen, sharding), one).total_bytes).item() for sharding in shards]
    beyond: Array = np.array(totals) - totals[0]
    return beyond


def _count_memory(tally: Tally, memory_bytes: Array, which: tuple[Any, Any], room_bytes: float) -> None:
    even, fits = which
    over = ~fits & even
    if over.any():
        short_bytes = float(memory_bytes[over].min()) - room_bytes
        tally.closest_bytes = short_bytes if tally.closest_bytes is None else min(tally.closest_bytes, short_bytes)
        tally.refuse("memory", int(over.sum()), "")
        tally.examples["memory"] = f"the nearest needs {tally.closest_bytes / BYTES_PER_GIB:.1f} GiB more than there is"
