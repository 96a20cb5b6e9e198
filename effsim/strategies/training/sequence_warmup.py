"""Short sequences at first, growing to the full length."""

from typing import Any, Final

from effsim.strategies.effect import StepsEffect
from effsim.strategies.job import TrainingJob, with_stages

TITLE = "Sequence length warm-up"
KNOBS: Final[dict[str, tuple[Any, ...]]] = {"share": (0.0, 0.1, 0.3)}
LENGTHS: Final = (8, 4, 2)
"""Fractions of the full length, in equal parts of the warm-up's tokens."""

SOURCE: Final = "Li et al., The Stability-Efficiency Dilemma, arXiv:2108.06084"
NOTE: Final = (
    "low: 2.2 times fewer tokens, with eight times the batch and four times the learning rate that the warm-up makes stable; median: 1, for at the same batch "
    "and rate no saving of tokens is established. Sequences are cut, so that early steps have fewer tokens"
)


def neutral(job: TrainingJob) -> dict[str, Any]:
    """Return no change."""
    return {"share": 0.0}


def apply(job: TrainingJob, *, share: float) -> TrainingJob:
    """Return the job with a share of its tokens in sequences of an eighth, a quarter and a half of the length.

    Raises:
        SpecError: The job has stages already.
    """
    if share == 0.0:
        return job
    return with_stages(job, [(share / len(LENGTHS), {"sequence_length": max(1, int(job.sequence_length) // n)}) for n in LENGTHS])


def steps(job: TrainingJob, changed: TrainingJob) -> StepsEffect:
    """Return the published range of tokens."""
    if job.stages == changed.stages:
        return StepsEffect(1.0, 1.0, 1.0, SOURCE, "2021-08", "no warm-up")
    return StepsEffect(1.0 / 2.2, 1.0, 1.0, SOURCE, "2021-08", NOTE)


def quality(job: TrainingJob, changed: TrainingJob) -> str:
    """Return what is known beyond the loss."""
    return "" if job.stages == changed.stages else "fewer loss spikes at large batches and learning rates (Li et al., arXiv:2108.06084)"
