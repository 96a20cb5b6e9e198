"""A power limit below the TDP: the clock drops until the accelerator keeps it."""

from typing import Any, Final

from effsim.specs import loading
from effsim.strategies.effect import StepsEffect
from effsim.strategies.job import TrainingJob, replace

TITLE = "Power limit"
KNOBS: Final[dict[str, tuple[Any, ...]]] = {"share": (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)}


def neutral(job: TrainingJob) -> dict[str, Any]:
    """Return no change."""
    return {"share": 1.0}


def apply(job: TrainingJob, *, share: float) -> TrainingJob:
    """Return the job with a share of its power limit, or of the TDP where it has none."""
    if share == 1.0:
        return job
    limit_w = loading.accelerator(job.accelerator).tdp.value if job.power_limit_w is None else job.power_limit_w
    return replace(job, power_limit_w=share * limit_w)


def steps(job: TrainingJob, changed: TrainingJob) -> StepsEffect:
    """Return exactly 1."""
    return StepsEffect(1.0, 1.0, 1.0, "You et al., Zeus, NSDI 2023, arXiv:2208.06102", "2023", "the clock changes when a sum is computed, not its result")


def quality(job: TrainingJob, changed: TrainingJob) -> str:
    """Return nothing: the result is the same."""
    return ""
