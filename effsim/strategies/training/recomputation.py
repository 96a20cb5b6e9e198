"""What the backward pass computes again instead of keeping it."""

from typing import Any, Final

from effsim.strategies.effect import StepsEffect
from effsim.strategies.job import TrainingJob, replace

TITLE = "Recomputation"
KNOBS: Final[dict[str, tuple[Any, ...]]] = {"mode": ("none", "selective", "full")}


def neutral(job: TrainingJob) -> dict[str, Any]:
    """Return the job's mode."""
    return {"mode": job.recompute}


def apply(job: TrainingJob, *, mode: Any) -> TrainingJob:
    """Return the job with another mode."""
    return job if mode == job.recompute else replace(job, recompute=mode)


def steps(job: TrainingJob, changed: TrainingJob) -> StepsEffect:
    """Return exactly 1."""
    return StepsEffect(
        1.0, 1.0, 1.0, "Chen et al., arXiv:1604.06174; Korthikanti et al., arXiv:2205.05198", "2022", "the same sums are computed twice: gradients are the same"
    )


def quality(job: TrainingJob, changed: TrainingJob) -> str:
    """Return nothing: the result is the same."""
    return ""
