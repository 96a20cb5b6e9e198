"""Why one split takes longer than another: the parts of a step side by side."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from effsim.catalog import suggest
from effsim.cost.deployment import deploy
from effsim.cost.evaluate import evaluate
from effsim.cost.training_step import Batch, Step, costs_of, micro_batch, micro_iteration, phases, training_step
from effsim.errors import InfeasibleError, SpecError
from effsim.optimize.parallelism.result import ARGUMENTS, ParallelismSearch
from effsim.optimize.parallelism.search import search_parallelism
from effsim.optimize.parallelism.space import Job, Space
from effsim.results import Result
from effsim.workload.features import feature_matrix
from effsim.workload.operations import OpTable, Parallelism

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
    known = [field.name for field in dataclasses.fields(Space)]
    for name in given:
        if name not in known:
            raise SpecError(f"compare: no dimension {name!r}; {suggest(name, known)}dimensions: {', '.join(known)}")
    words = " ".join(f"{name}={value}" for name, value in given.items())
    best = _row(found)
    try:
        other = search_parallelism(job, found.objective, space=Space(**_with_precision(given, best)), top=1)
    except InfeasibleError as error:
        return Comparison(None, best, None, f"{words}: {error}")
    row = _row(other)
    parts = pd.DataFrame({"part": list(PARTS), "best_s": _parts(job, found.arguments()), "given_s": _parts(job, other.arguments())})
    parts["difference_s"] = parts.given_s - parts.best_s
    return Comparison(row, best, parts, _sentence(words, found.objective, (best, row), parts))


def _with_precision(given: Mapping[str, Any], best: Mapping[str, Any]) -> dict[str, Any]:
    return {"precision": best["precision"], **given}


def _row(found: ParallelismSearch) -> dict[str, Any]:
    row: dict[str, Any] = found.best.iloc[0].to_dict()
    return {**row, **found.arguments()}


PARTS = (
    "forward", "backward", "recomputation", "collectives of layers, exposed", "uneven stages, sends, host", "bubble",
    "exchange of gradients and weights, exposed", "update",
)  # fmt: skip


def _parts(job: Job, chosen: Mapping[str, Any]) -> list[float]:
    """Return the times of :data:`PARTS` [s]; they sum to the step."""
    step, batch = _step(job, chosen)
    median, p = step.deployment.prior.median, step.deployment.parallelism
    micro = micro_batch(step, median, batch)
    run = {name: float(value[0]) for name, value in phases(step, median, batch, micro).items() if np.ndim(value)}
    share = float(batch.global_batch_size[0] / (batch.micro_batch_size[0] * p.data * p.pipeline))
    kernels = [share * _kernels_s(step, table, batch) for table in (step.forward, step.backward, step.repeated)]
    collectives_s = share * float(micro.total().time_s[0]) - sum(kernels)
    rest_s = run["compute_s"] - sum(kernels) - collectives_s
    return [*kernels, collectives_s, rest_s, run["bubble_s"], run["exchange_s"], run["update_s"]]


def _step(job: Job, chosen: Mapping[str, Any]) -> tuple[Step, Batch]:
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
    sizes = (chosen["global_batch_size"], chosen["micro_batch_size"], job.sequence_length)
    return training_step(deployment, recipe), Batch(*(np.array([float(size)]) for size in sizes))


def _kernels_s(step: Step, table: OpTable | None, batch: Batch) -> float:
    """Return the time of a table's operations without its collectives [s]."""
    if table is None:
        return 0.0
    costs = costs_of(step, table, step.deployment.prior.median)
    count = costs.count.copy()
    count[len(count) - table.num_collectives :] = 0.0
    alone = evaluate(dataclasses.replace(costs, count=count), feature_matrix(table.features, micro_iteration(step, batch)))
    return float(alone.time_s[0])


def _sentence(words: str, objective: str, rows: tuple[dict[str, Any], dict[str, Any]], parts: pd.DataFrame) -> str:
    best, row = (one[objective] for one in rows)
    if row <= best:
        return f"{words}: it is the best, or as good ({row:.4g} {UNITS[objective]})."
    said = f"{words}: {row:.4g} {UNITS[objective]}, {100.0 * (row / best - 1.0):.1f} % more than the best"
    notable = parts[parts.difference_s.abs() > NOTABLE * parts.best_s.sum()].sort_values("difference_s", key=abs, ascending=False)
    listed = ", ".join(f"{one.part} {one.difference_s:+.3g} s" for one in notable.itertuples())
    kept = ", ".join(f"{name}={row_value}" for name, row_value in rows[1].items() if name in ARGUMENTS and rows[0][name] != row_value)
    return f"{said}; of the step: {listed or 'no part differs by 0.2 %'}. It differs in {kept}."
