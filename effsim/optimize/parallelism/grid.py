"""The memory of every combination, as arrays: what fits, before anything is timed.

The memory of a device is a sum of what its ranks store (by ZeRO stage and group) and what its micro-batches keep (by schedule and
recomputation), so each is worked out once and they are added. What a micro-batch keeps and costs is worked out once for all ranks that
split a layer alike.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from effsim.cost.deployment import Deployment, Settings, deploy
from effsim.cost.estimate import number_arrays
from effsim.cost.recipe import Batch, Recipe, Step
from effsim.cost.schedules import StageTimes, bubble_s, slowest_stage_s
from effsim.cost.training_memory import kept_bytes, training_memory
from effsim.cost.training_step import Micro, micro_batch, num_layers, training_step
from effsim.errors import SpecError
from effsim.optimize.parallelism.space import MICRO_BATCHES, Inner, Job, Sharding, Space, schedules, shardings, splits
from effsim.specs.models import model as load_model
from effsim.units import BYTES_PER_GIB
from effsim.workload.operations import Array, Parallelism
from effsim.workload.training import MODES, Recompute

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
    kept: dict[Recompute, tuple[Any, Any]] = dataclasses.field(default_factory=dict)

    def memory_bytes(self, step: Step) -> Any:
        """Return the memory of a device [bytes], shape (batch,). Of the step, operations of forward, weights and recipe are used."""
        mode = step.recipe.recompute
        if mode not in self.kept:
            self.kept[mode] = kept_bytes(step, self.batch)
        return np.broadcast_to(np.asarray(training_memory(step, self.batch, self.kept[mode]).total_bytes), self.batch.micro_batch_size.shape)

    def micro(self, deployment: Deployment, recipe: Recipe) -> Micro:
        """Return the cost of a micro-batch; stages, replicas and sharding do not change it."""
        mode = recipe.recompute
        if mode not in self.known:
            self.known[mode] = micro_batch(training_step(deployment, recipe), deployment.prior.median, self.batch)
        return self.known[mode]


@dataclasses.dataclass(eq=False)
class Candidate:
    """Ranks, schedule and recomputation, with every sharding and batch: one row of arrays.

    Args:
        recipe: With the first of the shardings.
        shardings: Zero stages and groups.
        memory_bytes: Shape (sharding, batch).
        feasible: Shape (sharding, batch).
    """

    family: Family
    deployment: Deployment
    recipe: Recipe
    shardings: list[Sharding]
    memory_bytes: Array
    feasible: Any

    def at(self, place: int) -> Step:
        """Return the step with one of the shardings."""
        return training_step(self.deployment, _sharded(self.recipe, self.shardings[place]))

    @property
    def micro(self) -> Micro:
        """The cost of a micro-batch."""
        return self.family.micro(self.deployment, self.recipe)

    def least_time_s(self) -> Any:
        """Return a time that no sharding goes below [s], shape (batch,): every micro-batch on the stage with the head, and the bubble."""
        p, recipe, micro = self.deployment.parallelism, self.recipe, self.micro
        whole_s, forward_s = micro.total().time_s / p.pipeline, micro.forward.time_s / p.pipeline
        count = self.family.batch.global_batch_size / (self.family.batch.micro_batch_size * p.data)
        times = StageTimes(forward_s, whole_s - forward_s, micro.weight_gradient_s / p.pipeline)
        layers = num_layers(self.deployment)
        slowest_s = slowest_stage_s(micro.total().time_s, micro.head_s, layers, (p.pipeline, recipe.virtual_stages))
        return ROUNDING * (count * slowest_s + bubble_s(recipe.schedule, p.pipeline, recipe.virtual_stages, times))


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
        size = len(inners) * len(shards) * len(space.recompute or MODES) * len(batch.global_batch_size)
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
    modes = space.recompute or MODES
    combinations = len(inners) * len(shards) * len(modes)
    tally.refuse("the batch does not divide", combinations * int((~even).sum()), f"no micro-batch times {ranks.data} replicas divides the global batch")
    if not even.any() or not combinations:
        return
    room_bytes = deployment.accelerator.memory.value * (1.0 - job.memory_headroom)
    first = _sharded(job.recipe, shards[0])
    step = training_step(deployment, dataclasses.replace(first, schedule=inners[0].schedule, virtual_stages=inners[0].virtual_stages))
    stored = _stored(family, step, shards)
    for mode, inner in itertools.product(modes, inners):
        recipe = dataclasses.replace(first, recompute=mode, schedule=inner.schedule, virtual_stages=inner.virtual_stages)
        memory_bytes = _memory_bytes(family, step, recipe, shards) if stored is None else _memory_bytes(family, step, recipe, shards[:1]) + stored
        fits = memory_bytes <= room_bytes
        _count_memory(tally, memory_bytes, (even, fits), room_bytes)
        feasible = fits & even
        if feasible.any():
            yield Candidate(family, deployment, recipe, shards, memory_bytes, feasible)


def _sharded(recipe: Recipe, sharding: Sharding) -> Recipe:
    return dataclasses.replace(recipe, zero_stage=sharding.zero_stage, shard_group=sharding.shard_group)


def _memory_bytes(family: Family, step: Step, recipe: Recipe, shards: list[Sharding]) -> Array:
    """Return the memory under some shardings [bytes], shape (sharding, batch); the recipe changes neither forward operations nor weights."""
    rows: Array = np.stack([family.memory_bytes(dataclasses.replace(step, recipe=_sharded(recipe, sharding))) for sharding in shards])
    return rows


def _stored(family: Family, step: Step, shards: list[Sharding]) -> Array | None:
    """Return what each sharding stores beyond the first [bytes], shape (sharding, batch).

    None where that depends on the rest: without buffers, gradients decide at which moment a device is fullest.
    """
    if not step.deployment.engine.gradient_buffers:
        return None
    totals = _memory_bytes(family, step, step.recipe, shards)
    beyond: Array = totals - totals[0]
    return beyond


def _count_memory(tally: Tally, memory_bytes: Array, which: tuple[Any, Any], room_bytes: float) -> None:
    even, fits = which
    over = ~fits & even
    if over.any():
        short_bytes = float(memory_bytes[over].min()) - room_bytes
        tally.closest_bytes = short_bytes if tally.closest_bytes is None else min(tally.closest_bytes, short_bytes)
        tally.refuse("memory", int(over.sum()), "")
        tally.examples["memory"] = f"the nearest needs {tally.closest_bytes / BYTES_PER_GIB:.1f} GiB more than there is"
