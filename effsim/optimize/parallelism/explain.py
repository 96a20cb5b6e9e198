"""Why one split takes longer than another: the parts of a step side by side."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd

from effsim.catalog import suggest
from effsim.cost.deployment import deploy
from effsim.cost.recipe import Step
from effsim.cost.training import estimate_step
from effsim.cost.training_phases import PHASE_WORDS
from effsim.cost.training_step import training_step
from effsim.errors import InfeasibleError, SpecError
from effsim.optimize.parallelism.result import ARGUMENTS, ParallelismSearch
from effsim.optimize.parallelism.search import search_parallelism
from effsim.optimize.parallelism.space import Job, Space
from effsim.results import Result
from effsim.workload.operations import Parallelism

NOTABLE = 0.002  # of the step: smaller differences are left out of the sentence
UNITS = {"step_time_s": "s", "energy_j_per_step": "J per step", "energy_per_token_j": "J per token", "memory_bytes": "bytes"}


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison(Result):
    """A given split beside the best.

    Args:
        given: Row of the given split, with the best values of the dimensions that were left open; None where none of them fits.
        best: Row of the best.
        parts: Columns part, ``best_s``, ``given_s``, ``difference_s``: the parts of a step, which sum to it; None where nothing fits.
        summary: In a sentence.
    """

    given: dict[str, Any] | None
    best: dict[str, Any]
    parts: pd.DataFrame | None
    summary: str


def compare(job: Job, found: ParallelismSearch, given: Mapping[str, Any]) -> Comparison:
    """Return a given split beside the best of a search, part by part.

    Args:
        job: That was searched.
        found: The search.
        given: Values of the dimensions, as in :class:`Space`; those left open take their best.

    Raises:
        SpecError: A dimension is unknown.
    """
    known = [*(field.name for field in dataclasses.fields(Space)), "global_batch_size"]
    for name in given:
        if name not in known:
            raise SpecError(f"compare: no dimension {name!r}; {suggest(name, known)}dimensions: {', '.join(known)}")
    words = " ".join(f"{name}={value}" for name, value in given.items())
    best = _row(found)
    try:
        other = search_parallelism(_of_batch(job, given), found.objective, space=Space(**_with_precision(given, best)), top=1)
    except InfeasibleError as error:
        return Comparison(None, best, None, f"{words}: {error}")
    row = _row(other)
    of_best, of_given = _parts(job, found.arguments()), _parts(job, other.arguments())
    parts = pd.DataFrame({"part": of_best.phase.map(PHASE_WORDS), "best_s": of_best.time_s, "given_s": of_given.time_s})
    parts["difference_s"] = parts.given_s - parts.best_s
    return Comparison(row, best, parts, _sentence(words, found.objective, (best, row), parts))


def _of_batch(job: Job, given: Mapping[str, Any]) -> Job:
    return dataclasses.replace(job, global_batch_size=given.get("global_batch_size", job.global_batch_size))


def _with_precision(given: Mapping[str, Any], best: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits of a split: a dimension that is None is left open, but for groups, where it stands for all ranks."""
    known = {name: value for name, value in given.items() if name != "global_batch_size" and (value is not None or name == "shard_group")}
    return {"precision": best["precision"], **known, **({"shard_group": 0} if "shard_group" in known and known["shard_group"] is None else {})}


def _row(found: ParallelismSearch) -> dict[str, Any]:
    row = {str(name): value for name, value in found.best.iloc[0].to_dict().items()}
    return {**row, **found.arguments()}


def _parts(job: Job, chosen: Mapping[str, Any]) -> pd.DataFrame:
    """Return phases and times of a step; times sum to the step's."""
    phases: pd.DataFrame = estimate_step(_step(job, chosen), chosen["global_batch_size"], chosen["micro_batch_size"], job.sequence_length).phases
    return phases


def _step(job: Job, chosen: Mapping[str, Any]) -> Step:
    ranks = Parallelism(
        chosen["tensor_parallel"],
        chosen["pipeline_parallel"],
        expert=chosen["expert_parallel"],
        data=job.num_accelerators // (chosen["tensor_parallel"] * chosen["pipeline_parallel"] * chosen["context_parallel"]),
        context=chosen["context_parallel"],
        sequence=chosen["sequence_parallel"],
    )
    recipe = dataclasses.replace(
        job.recipe,
        recompute=chosen["recompute"],
        zero_stage=chosen["zero_stage"],
        virtual_stages=chosen["virtual_pipeline_stages"],
        schedule=chosen["pipeline_schedule"],
        shard_group=chosen["shard_group"],
    )
    deployment = deploy(job.model, job.accelerator, ranks, dataclasses.replace(job.settings, precision=chosen["precision"]))
    return training_step(deployment, recipe)


def _sentence(words: str, objective: str, rows: tuple[dict[str, Any], dict[str, Any]], parts: pd.DataFrame) -> str:
    best, row = (one[objective] for one in rows)
    if row <= best:
        return f"{words}: it is the best, or as good ({row:.4g} {UNITS[objective]})."
    said = f"{words}: {row:.4g} {UNITS[objective]}, {100.0 * (row / best - 1.0):.1f} % more than the best"
    notable = parts[parts.difference_s.abs() > NOTABLE * parts.best_s.sum()].sort_values("difference_s", key=abs, ascending=False)
    listed = "; ".join(f"{one.part} {one.difference_s:+.3g} s" for one in notable.itertuples())
    kept = ", ".join(f"{name}={row_value}" for name, row_value in rows[1].items() if name in ARGUMENTS and rows[0][name] != row_value)
    return f"{said}; by part: {listed or 'no part differs by 0.2 %'}. It differs in {kept}."
