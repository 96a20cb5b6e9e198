"""The best splits of a training job: memory of all of them first, then time, in the order of a bound that none goes below."""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from effsim.catalog import suggest
from effsim.cost.deployment import Settings
from effsim.cost.estimate import whole_number
from effsim.cost.recipe import Batch, Recipe
from effsim.cost.training import STEP_PHASES, outputs_of
from effsim.cost.training_step import PHASES, Micro, phases
from effsim.errors import SpecError
from effsim.optimize.parallelism.grid import ROUNDING, Candidate, Progress, Tally, candidates
from effsim.optimize.parallelism.remedies import nothing_fits
from effsim.optimize.parallelism.result import ParallelismSearch
from effsim.optimize.parallelism.space import OBJECTIVES, Job, Space
from effsim.workload.operations import Array

WANTED = (
    "step_time_s", "mfu", "tokens_per_s", "model_tflops_per_accelerator", "power_w", "server_power_w", "energy_j_per_step", "energy_per_token_j",
    *(f"{phase}_s" for phase in STEP_PHASES),
)  # fmt: skip
MEMORY = "memory_bytes"
UNSHARDED = ("compute", "bubble")  # phases that neither ZeRO nor its groups touch


def optimize_training(  # noqa: PLR0913 -- the public contract
    model: Any,
    accelerator: Any,
    num_accelerators: int = 1,
    global_batch_size: Any = 1,
    sequence_length: int = 4096,
    *,
    objective: str = "step_time_s",
    top: int | None = 10,
    memory_headroom: float = 0.0,
    precision: Any = "bf16",
    optimizer: str = "adam",
    node: Any = None,
    network: Any = None,
    engine: Any = "megatron",
    power_limit_w: float | None = None,
    calibration: Any = "auto",
    progress: Progress | None = None,
    **limits: Any,
) -> ParallelismSearch:
    """Return the best ways to split a training job over accelerators.

    Args:
        model: As :func:`effsim.model` takes it.
        accelerator: As :func:`effsim.accelerator` takes it.
        num_accelerators: In all.
        global_batch_size: Sequences per step; several as an array.
        sequence_length: Tokens.
        objective: ``step_time_s``, ``energy_j_per_step``, ``energy_per_token_j`` or ``memory_bytes``.
        top: How many to return; None: every one that fits.
        memory_headroom: Share of the device's memory to leave free.
        precision: Of the products; one, or several to choose from.
        optimizer: See :data:`~effsim.workload.optimizers.OPTIMIZERS`.
        node: None: the accelerator's default.
        network: Between nodes; None: the node's.
        engine: Name or spec.
        power_limit_w: Per accelerator [W]; None: the TDP.
        calibration: ``auto``, ``none``, a name or a path.
        progress: Called with what is being done and the share done.
        **limits: Values that a dimension may take, as in :class:`Space`: ``tensor_parallel=8``, ``zero_stage=[1, 3]`` ...

    Raises:
        SpecError: An argument is malformed.
        InfeasibleError: Nothing fits; the message says what would.
    """
    known = [field.name for field in dataclasses.fields(Space) if field.name != "precision"]
    for name in limits:
        if name not in known:
            raise SpecError(f"optimize_training: no argument {name!r}; {suggest(name, known)}dimensions: {', '.join(known)}")
    several = not isinstance(precision, str)
    first = next(iter(precision), None) if several else precision
    space = Space(**limits, precision=tuple(precision) if several else None)
    settings = Settings(first, None, engine, node, network, power_limit_w, None, calibration, "train")
    recipe = Recipe(optimizer=optimizer)
    job = Job(model, accelerator, num_accelerators, global_batch_size, sequence_length, settings, recipe, memory_headroom)
    return search_parallelism(job, objective, space=space, top=top, progress=progress)


class Timed(NamedTuple):
    """One candidate with one sharding: the objective by batch, infinite where it does not fit, and the outputs; None: not worked out."""

    candidate: Candidate
    sharding: int
    values: Array
    outputs: dict[str, Any] | None = None


@dataclasses.dataclass(slots=True)
class Leaders:
    """The best so far, and the value that a newcomer has to beat."""

    top: int | None
    found: list[Timed] = dataclasses.field(default_factory=list)
    values: Array = dataclasses.field(default_factory=lambda: np.empty(0))
    timed: int = 0

    @property
    def to_beat(self) -> float:
        """The value of the last place; infinite while there is room."""
        return math.inf if self.top is None or len(self.values) < self.top else float(self.values[-1])

    def add(self, new: Timed) -> None:
        """Take in the values of a candidate, and drop who no longer has a place."""
        finite = new.values[np.isfinite(new.values)]
        if not len(finite) or finite.min() > self.to_beat:
            return
        self.found.append(new)
        if self.top is not None:
            self.values = np.sort(np.concatenate([self.values, finite]))[: self.top]
            if len(self.found) > 4 * self.top:
                self.found = [one for one in self.found if one.values.min() <= self.to_beat]


def search_parallelism(
    job: Job, objective: str = "step_time_s", *, space: Space | None = None, top: int | None = None, progress: Progress | None = None
) -> ParallelismSearch:
    """Return the splits of a job, best first; equal to estimating every combination of the space by itself.

    Memory and divisibility decide first, for all of them. Then candidates are timed in the order of a bound that they cannot go below (the
    work of a stage and its bubble), until the bound exceeds the last of the ``top``. An interrupt ends the search with what it has.

    Args:
        job: What is trained.
        objective: ``step_time_s``, ``energy_j_per_step``, ``energy_per_token_j`` or ``memory_bytes``.
        space: The values of each dimension; None: all that make sense.
        top: How many to return; None: every one that fits.
        progress: Called with what is being done and the share done.

    Raises:
        SpecError: An unknown objective.
        InfeasibleError: Nothing fits; the message says what would.
    """
    if objective not in OBJECTIVES:
        raise SpecError(f"objective: {suggest(str(objective), OBJECTIVES)}expected {', '.join(OBJECTIVES)}, got {objective!r}")
    if top is not None:
        whole_number("top", top)
    chosen, tally = space or Space(), Tally()
    fitting: list[Candidate] = []
    leaders, complete = Leaders(top), True
    try:
        for candidate in candidates(job, chosen, tally, progress):
            fitting.append(candidate)  # noqa: PERF402 -- an interrupt leaves what was found
    except KeyboardInterrupt:
        complete = False
    if not fitting:
        raise nothing_fits(job, chosen, tally)
    try:
        _race(fitting, objective, leaders, progress)
    except KeyboardInterrupt:
        complete = False
    return ParallelismSearch(
        best=_table(leaders, objective),
        objective=objective,
        considered=tally.considered,
        feasible=int(sum(candidate.feasible.sum() for candidate in fitting)),
        refused=dict(tally.refused),
        examples=tally.examples,
        timed=leaders.timed,
        complete=complete,
    )


def _race(fitting: list[Candidate], objective: str, leaders: Leaders, progress: Progress | None) -> None:
    """Time candidates until none that is left can be among the best."""
    if objective == MEMORY:
        for candidate in fitting:
            for place, values in enumerate(np.where(candidate.feasible, candidate.memory_bytes, np.inf)):
                leaders.add(Timed(candidate, place, values))
        return
    bounds = [_least(candidate, objective) for candidate in fitting]
    left: list[tuple[float, Candidate, int]] = []
    for index, place in enumerate(np.argsort(bounds, kind="stable")):
        if bounds[place] > leaders.to_beat:
            break
        left += _first_sharding(fitting[place], objective, leaders)
        if progress is not None:
            progress("time", index / len(fitting))
    left.sort(key=lambda one: one[0])
    for bound, candidate, sharding in left:
        if bound > leaders.to_beat:
            break
        _time(candidate, sharding, objective, leaders)


def _load(candidate: Candidate) -> tuple[Batch, Micro]:
    return candidate.family.batch, candidate.micro


def _least(candidate: Candidate, objective: str) -> float:
    """Return a value that no combination of a candidate goes below; of energies none is known before they are worked out."""
    if objective != "step_time_s":
        return 0.0
    return float(np.where(candidate.feasible.any(axis=0), candidate.least_time_s(), np.inf).min())


def _first_sharding(candidate: Candidate, objective: str, leaders: Leaders) -> list[tuple[float, Candidate, int]]:
    """Time a candidate with the first sharding that fits, and return the others with their bounds."""
    fits = candidate.feasible.any(axis=1)
    place = int(np.argmax(fits))
    run = _time(candidate, place, objective, leaders)
    bound = ROUNDING * _part(candidate, run, objective, UNSHARDED)
    others = [(float(_masked(candidate, other, bound).min()), candidate, other) for other in range(len(fits)) if fits[other] and other != place]
    return [one for one in others if one[0] <= leaders.to_beat]


def _time(candidate: Candidate, sharding: int, objective: str, leaders: Leaders) -> dict[str, Any]:
    """Work out a step, and its outputs where it may be among the best: outputs add to the phases what a step waits for its data."""
    step, load = candidate.at(sharding), _load(candidate)
    median = step.deployment.prior.median
    run = phases(step, median, *load)
    least = _masked(candidate, sharding, ROUNDING * _part(candidate, run, objective, PHASES))
    leaders.timed += int(candidate.feasible[sharding].sum())
    if least.min() <= leaders.to_beat:
        outputs = outputs_of(step, median, *load)
        leaders.add(Timed(candidate, sharding, _masked(candidate, sharding, outputs[objective]), {name: outputs[name] for name in WANTED}))
    return run


def _part(candidate: Candidate, run: dict[str, Any], objective: str, parts: tuple[str, ...]) -> Any:
    """Return what some phases add to an objective, shape (batch,)."""
    unit = "s" if objective == "step_time_s" else "j"
    total = sum(run[f"{phase}_{unit}"] for phase in parts)
    if unit == "s":
        return total
    joules = candidate.deployment.parallelism.accelerators * total
    batch = candidate.family.batch
    return joules / (batch.global_batch_size * batch.sequence_length) if objective == "energy_per_token_j" else joules


def _masked(candidate: Candidate, sharding: int, values: Any) -> Array:
    masked: Array = np.where(candidate.feasible[sharding], values, np.inf)
    return masked


def _table(leaders: Leaders, objective: str) -> pd.DataFrame:
    """Return the rows of the leaders, sorted."""
    chosen = [one.values <= leaders.to_beat if leaders.top is not None else np.isfinite(one.values) for one in leaders.found]
    parts = [_rows(one, rows & np.isfinite(one.values)) for one, rows in zip(leaders.found, chosen, strict=True)]
    columns: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    table = pd.DataFrame(columns).astype({"shard_group": "Int64"})
    table = table.sort_values([objective, MEMORY], kind="stable", ignore_index=True)
    return table if leaders.top is None else table.head(leaders.top)


def _rows(one: Timed, chosen: Any) -> dict[str, Any]:
    """Return the columns of the chosen batches of one candidate, shape (row,)."""
    batch, count = one.candidate.family.batch, int(chosen.sum())
    p, recipe, sharding = one.candidate.deployment.parallelism, one.candidate.recipe, one.candidate.shardings[one.sharding]
    outputs = one.outputs
    if outputs is None:
        step = one.candidate.at(one.sharding)
        outputs = outputs_of(step, step.deployment.prior.median, *_load(one.candidate))
    same = {
        "tensor_parallel": p.tensor,
        "sequence_parallel": p.sequence,
        "pipeline_parallel": p.pipeline,
        "virtual_pipeline_stages": recipe.virtual_stages,
        "pipeline_schedule": recipe.schedule,
        "context_parallel": p.context,
        "expert_parallel": p.expert,
        "data_parallel": p.data,
        "recompute": recipe.recompute,
        "zero_stage": sharding.zero_stage,
        "shard_group": np.nan if sharding.shard_group is None else float(sharding.shard_group),
        "precision": one.candidate.deployment.numerics.precision,
    }
    return {
        **{name: np.full(count, value, dtype=object if isinstance(value, str) else None) for name, value in same.items()},
        "global_batch_size": batch.global_batch_size[chosen].astype(int),
        "micro_batch_size": batch.micro_batch_size[chosen].astype(int),
        **{name: np.broadcast_to(np.asarray(outputs[name], dtype=float), chosen.shape)[chosen] for name in WANTED},
        MEMORY: one.candidate.memory_bytes[one.sharding][chosen],
    }
