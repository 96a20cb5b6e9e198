"""A lock of the clock below its highest: what is bound by the core takes longer, at a lower voltage."""

from typing import Any, Final

from effsim.strategies.effect import StepsEffect
from effsim.strategies.job import TrainingJob, replace

TITLE = "Clock"
KNOBS: Final[dict[str, tuple[Any, ...]]] = {"share": (1.0, 0.9, 0.8, 0.7, 0.6)}


def neutral(job: TrainingJob) -> dict[str, Any]:
    """Return no change."""
    return {"share": 1.0}


def apply(job: TrainingJob, *, share: float) -> TrainingJob:
    """Return the job with a share of its clock."""
    return job if share == 1.0 else replace(job, clock=share * (1.0 if job.clock is None else job.clock))


def steps(job: TrainingJob, changed: TrainingJob) -> StepsEffect:
    """Return exactly 1."""
    return StepsEffect(1.0, 1.0, 1.0, "You et al., Zeus, NSDI 2023, arXiv:2208.06102", "2023", "the clock changes when a sum is computed, not its result")


def quality(job: TrainingJob, changed: TrainingJob) -> str:
    """Return nothing: the result is the same."""
    return ""
