"""What a search over splits answers with."""

import dataclasses
from typing import Any

import pandas as pd

from effsim.results import Result

ARGUMENTS = (
    "tensor_parallel", "pipeline_parallel", "virtual_pipeline_stages", "context_parallel", "expert_parallel", "sequence_parallel",
    "micro_batch_size", "recompute", "zero_stage", "shard_group", "pipeline_schedule", "precision", "global_batch_size",
)  # fmt: skip
"""Columns that are arguments of :func:`effsim.estimate_training`; ``data_parallel`` follows from them."""


@dataclasses.dataclass(frozen=True, slots=True)
class ParallelismSearch(Result):
    """The best splits of a job, and what became of the others.

    Args:
        best: A row per split, best first: arguments of :func:`effsim.estimate_training`, ``data_parallel``, and what they give.
        objective: What it is sorted by.
        considered: Combinations looked at: those whose ranks multiply to the accelerators.
        feasible: Of those, how many fit and divide.
        refused: Of those, how many do not, by reason.
        examples: A sentence for each reason.
        timed: Combinations whose step was worked out; the others were ruled out by a bound.
        complete: Whether the search ran to its end.
    """

    best: pd.DataFrame
    objective: str
    considered: int
    feasible: int
    refused: dict[str, int]
    examples: dict[str, str]
    timed: int
    complete: bool = True

    def arguments(self, place: int = 0) -> dict[str, Any]:
        """Return one row as arguments of :func:`effsim.estimate_training`."""
        row = self.best.iloc[place]
        chosen = {name: row[name].item() if hasattr(row[name], "item") else row[name] for name in ARGUMENTS}
        return {**chosen, "shard_group": None if pd.isna(chosen["shard_group"]) else int(chosen["shard_group"])}

    def to_frame(self) -> pd.DataFrame:
        """Return the table of the best."""
        return self.best
