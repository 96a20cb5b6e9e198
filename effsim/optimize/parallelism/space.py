"""What a search over splits looks at: the job, the values of each dimension, and the combinations that make sense."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

from effsim.catalog import suggest
from effsim.cost.deployment import Settings
from effsim.cost.estimate import is_number, whole_number
from effsim.cost.recipe import ZERO_STAGES, Recipe
from effsim.cost.schedules import TAKE_A_PLACE, check_chunks
from effsim.errors import SpecError, shown
from effsim.specs.model import MoeFfn, Transformer
from effsim.workload.operations import Parallelism
from effsim.workload.training import check_recompute

MICRO_BATCHES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
SCHEDULES: Final = ("1f1b", "interleaved", "zero_bubble", "gpipe")
SEARCHED_SCHEDULES: Final = ("1f1b", "interleaved", "zero_bubble")  # GPipe takes as long as 1F1B and keeps more
TOKENS_PER_CONTEXT_RANK: Final = 1024  # shorter shares leave attention and norms too little work; judgement, 2026-11
OBJECTIVES: Final = ("step_time_s", "energy_j_per_step", "energy_per_token_j", "memory_bytes")


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
        recipe: What is not searched: optimizer, adapters, capacity factor ...
        memory_headroom: Share of the device's memory to leave free.
    """

    model: Any
    accelerator: Any
    num_accelerators: int
    global_batch_size: Any
    sequence_length: int = 2048
    settings: Settings = dataclasses.field(default_factory=lambda: Settings(precision="bf16", engine="megatron", phase="train"))
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    memory_headroom: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            SpecError: One is malformed.
        """
        whole_number("num_accelerators", self.num_accelerators)
        whole_number("sequence_length", self.sequence_length)
        if not is_number(self.memory_headroom) or not 0.0 <= self.memory_headroom < 1.0:
            raise SpecError(f"memory_headroom: must be a number in [0, 1), got {shown(self.memory_headroom)}")


@dataclasses.dataclass(frozen=True, slots=True)
class Space:
    """The values that each dimension may take; None: all that make sense (a value, or several).

    Args:
        tensor_parallel: None: up to the accelerators that are joined closely.
        pipeline_parallel: None: up to one layer per stage.
        virtual_pipeline_stages: None: all that give chunks equal numbers of layers.
        context_parallel: None: powers of two that leave a rank 1,024 tokens.
        expert_parallel: None: all that divide the experts and the ranks.
        data_parallel: None: what the others leave.
        sequence_parallel: None: with and without.
        micro_batch_size: None: :data:`MICRO_BATCHES`.
        recompute: None: all of :data:`~effsim.workload.training.MODES`; modules joined by + where given.
        zero_stage: None: 0 to 3.
        shard_group: None: all ranks, or those within a domain (hybrid sharding); 0 stands for all ranks.
        pipeline_schedule: Of :data:`SCHEDULES`; None: without ``gpipe``.
        precision: None: that of the job's settings.
    """

    tensor_parallel: Any = None
    pipeline_parallel: Any = None
    virtual_pipeline_stages: Any = None
    context_parallel: Any = None
    expert_parallel: Any = None
    data_parallel: Any = None
    sequence_parallel: Any = None
    micro_batch_size: Any = None
    recompute: Any = None
    zero_stage: Any = None
    shard_group: Any = None
    pipeline_schedule: Any = None
    precision: Any = None

    def __post_init__(self) -> None:
        """Make tuples of what was given.

        Raises:
            SpecError: A value that the dimension does not have.
        """
        for field in dataclasses.fields(self):
            given = getattr(self, field.name)
            if given is not None:
                object.__setattr__(self, field.name, _values(field.name, given))


_CHOICES: Final[dict[str, tuple[Any, ...]]] = {
    "zero_stage": ZERO_STAGES,
    "pipeline_schedule": SCHEDULES,
    "sequence_parallel": (True, False),
}


def _values(name: str, given: Any) -> tuple[Any, ...]:
    listed = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    if not listed:
        raise SpecError(f"{name}: no value given")
    if name == "precision":
        return listed
    if name == "recompute":
        for one in listed:
            check_recompute(one)
        return listed
    if name in _CHOICES:
        allowed = _CHOICES[name]
        for one in listed:
            if one not in allowed or (isinstance(one, bool) != isinstance(allowed[0], bool)):
                hint = suggest(one, allowed) if isinstance(one, str) and isinstance(allowed[0], str) else ""
                raise SpecError(f"{name}: {hint}allowed: {', '.join(map(str, allowed))}; got {shown(one)}")
        return listed
    return tuple(sorted({0 if name == "shard_group" and one == 0 and is_number(one) else whole_number(name, one) for one in listed}))


class Inner(NamedTuple):
    """What is chosen once the ranks are: schedule, chunks, sharding; ``shard_group`` None: all ranks."""

    schedule: str
    virtual_stages: int


class Sharding(NamedTuple):
    """What data-parallel ranks share out, and among how many; None: all."""

    zero_stage: int
    shard_group: int | None


def splits(job: Job, space: Space, model: Any, domain: int) -> Iterator[list[Parallelism]]:
    """Yield the ranks to consider, in lists of those that split a layer alike.

    Tensor ranks lie within ``domain`` unless given. Data-parallel ranks are what the others leave; combinations that leave no whole
    number are none.
    """
    layers = model.num_layers if isinstance(model, Transformer) else 1
    total = job.num_accelerators
    tensors = space.tensor_parallel or range(1, min(domain, total) + 1)
    contexts = space.context_parallel or _contexts(job.sequence_length)
    experts = _experts(space, model)
    for tensor, context, expert in itertools.product(tensors, contexts, experts):
        if total % (tensor * context):
            continue
        stages = space.pipeline_parallel or range(1, layers + 1)
        found = [
            Parallelism(tensor, pipeline, data=data, context=context, sequence=False)
            for pipeline in stages
            if total % (tensor * context * pipeline) == 0
            for data in (total // (tensor * context * pipeline),)
            if (space.data_parallel is None or data in space.data_parallel) and (tensor * data) % expert == 0
        ]
        if found:
            for shared in _sequence(space, tensor):
                yield [dataclasses.replace(p, expert=expert, sequence=shared) for p in found]


def _contexts(sequence_length: int) -> tuple[int, ...]:
    """Return powers of two that divide a sequence into shares of at least 1,024 tokens; 1 at least.

    >>> _contexts(4096), _contexts(100)
    ((1, 2, 4), (1,))
    """
    doubled = (2**k for k in range(1, 32))
    return (1, *(n for n in doubled if sequence_length % n == 0 and sequence_length // n >= TOKENS_PER_CONTEXT_RANK))


def _sequence(space: Space, tensor: int) -> tuple[bool, ...]:
    return (False,) if tensor == 1 else space.sequence_parallel or (True, False)


def _experts(space: Space, model: Any) -> tuple[int, ...]:
    """Return the groups given, else the divisors that all numbers of experts have in common; 1 for a model without experts.

    Raises:
        SpecError: More than one group is asked for, alone or among others, and the model has no experts.
    """
    counts = {block.ffn.experts for block in model.blocks if isinstance(block.ffn, MoeFfn)} if isinstance(model, Transformer) else set()
    given = space.expert_parallel
    if given is None:
        return tuple(e for e in range(1, min(counts, default=1) + 1) if all(count % e == 0 for count in counts))
    several = [groups for groups in given if groups > 1]
    if several and not counts:
        raise SpecError(f"expert_parallel: {', '.join(map(str, several))} groups for experts that {model.name} does not have; give 1")
    return given if counts else (1,)


def schedules(space: Space, model: Any, pipeline: int) -> list[Inner]:
    """Return schedules and chunks for some stages; without stages all are the same, and one is listed."""
    names = space.pipeline_schedule or SEARCHED_SCHEDULES
    if pipeline == 1:
        plain = next((name for name in names if name != "interleaved"), "1f1b")
        return [Inner(plain, 1)] if space.virtual_pipeline_stages is None or 1 in space.virtual_pipeline_stages else []
    layers = model.num_layers if isinstance(model, Transformer) else 1
    wanted = space.virtual_pipeline_stages
    found = [Inner(name, 1) for name in names if name != "interleaved" and (wanted is None or 1 in wanted)]
    if "interleaved" in names:
        found += [Inner("1f1b", chunks) for chunks in _chunks(layers, pipeline) if wanted is None or chunks in wanted]
    return found


@lru_cache(maxsize=4096)
def _chunks(layers: int, pipeline: int) -> tuple[int, ...]:
    """Return the numbers of interleaved chunks that the cost model takes."""
    found = []
    for chunks in range(2, (layers + TAKE_A_PLACE) // pipeline + 1):
        try:
            check_chunks(layers, pipeline, chunks)
        except SpecError:
            continue
        found.append(chunks)
    return tuple(found)


def shardings(space: Space, parallelism: Parallelism, domain: int) -> list[Sharding]:
    """Return ZeRO stages and groups; where there is nothing to share them with, all are the same, and the least is listed."""
    ranks = parallelism.data * parallelism.context
    stages = space.zero_stage or ZERO_STAGES
    if ranks == 1:
        return [Sharding(min(stages), None)] if space.shard_group is None or 0 in space.shard_group or 1 in space.shard_group else []
    near = max((g for g in range(2, max(domain // parallelism.tensor, 1) + 1) if ranks % g == 0), default=0)
    groups = (0, near) if space.shard_group is None and near else space.shard_group or (0,)
    sizes = sorted({None if g in {0, ranks} else g for g in groups if g == 0 or ranks % g == 0}, key=lambda g: g or 0)
    return [Sharding(zero, size) for zero in stages for size in sizes if size is None or zero > 0]
