"""Progressive stacking: a shallow model first, its layers repeated to the full depth."""

from typing import Any, Final

from effsim.specs.models import model as load_model
from effsim.strategies.effect import StepsEffect
from effsim.strategies.job import TrainingJob, with_stages
from effsim.strategies.training.layer_removal import shallower

TITLE = "Progressive layer stacking"
KNOBS: Final[dict[str, tuple[Any, ...]]] = {"growth": (1, 2, 4)}
SMALL_SHARE: Final = 0.05
"""Of the tokens on the shallow model: 10 of about 200 billion in Du et al."""

SOURCE: Final = "Du et al., Stacking Your Transformers, arXiv:2405.15319; Kaddour et al., No Train No Gain, arXiv:2307.06440"
NOTE: Final = (
    "low: a 7 billion parameter model at the loss of 300 billion tokens after 194 billion (growth by 4); high: with a fully decayed learning rate the gain "
    "vanished on BERT and T5; median: their geometric mean"
)


def neutral(job: TrainingJob) -> dict[str, Any]:
    """Return no change."""
    return {"growth": 1}


def apply(job: TrainingJob, *, growth: int) -> TrainingJob:
    """Return the job that begins with the layers divided by a growth factor.

    Raises:
        SpecError: The job has stages already, or its model has no layers to stack.
    """
    if growth == 1:
        return job
    return with_stages(job, [(SMALL_SHARE, {"model": shallower(load_model(job.model), 1.0 - 1.0 / growth)})])


def steps(job: TrainingJob, changed: TrainingJob) -> StepsEffect:
    """Return the published range of tokens."""
    if job.stages == changed.stages:
        return StepsEffect(1.0, 1.0, 1.0, SOURCE, "2023 to 2024", "no stacking")
    low = 194.0 / 300.0
    return StepsEffect(low, low**0.5, 1.0, SOURCE, "2023 to 2024", NOTE)


def quality(job: TrainingJob, changed: TrainingJob) -> str:
    """Return what is known beyond the loss."""
    return "" if job.stages == changed.stages else "scores on eight benchmarks at least as good at equal loss (Du et al., arXiv:2405.15319)"
