"""How many sequences a step has, against the critical batch size."""

from typing import Any, Final

from effsim.errors import SpecError
from effsim.strategies.effect import StepsEffect
from effsim.strategies.job import TrainingJob, replace
from effsim.strategies.scaling import FITS_SOURCE, between_fits, critical_batch_tokens, examples_over_least

TITLE = "Batch size"
KNOBS: Final[dict[str, tuple[Any, ...]]] = {"scale": (0.25, 0.5, 1.0, 2.0, 4.0)}
DOUBT: Final = 3.0
"""Factor either way on the critical batch size; a judgement: Kaplan's fit is of models up to 1.5 billion parameters and another tokenizer."""

SOURCE: Final = (
    "McCandlish et al., arXiv:1812.06162; Kaplan et al., arXiv:2001.08361, figure 10; Zhang et al., arXiv:2410.21676; "
    f"Merrill et al., arXiv:2505.23971; losses by {FITS_SOURCE}"
)
NOTE: Final = (
    "examples grow as 1 + B / B_crit, B_crit = 2.1e8 L^-4.8 tokens, L from the scaling laws at the job's size and tokens; a factor of 3 either way: later work "
    "finds that B_crit grows with the data rather than the size, and that it rises early and then levels off. The learning rate is taken to be tuned anew"
)


def neutral(job: TrainingJob) -> dict[str, Any]:
    """Return no change."""
    return {"scale": 1.0}


def apply(job: TrainingJob, *, scale: float) -> TrainingJob:
    """Return the job with a multiple of its sequences per step.

    Raises:
        SpecError: No whole number of sequences.
    """
    if scale == 1.0:
        return job
    size = float(job.global_batch_size) * scale
    if size < 1.0 or not size.is_integer():
        raise SpecError(f"global_batch_size: {job.global_batch_size} x {scale:g} is no whole number of sequences")
    return replace(job, global_batch_size=int(size))


def steps(job: TrainingJob, changed: TrainingJob) -> StepsEffect:
    """Return the examples at the new batch over those at the old, by the critical batch size."""
    if job.batch_tokens == changed.batch_tokens:
        return StepsEffect(1.0, 1.0, 1.0, SOURCE, "2018 to 2025", "the same batch")
    critical = critical_range(job)
    low, median, high = sorted(examples_over_least(changed.batch_tokens, b) / examples_over_least(job.batch_tokens, b) for b in critical)
    return StepsEffect(low, median, high, SOURCE, "2018 to 2025", NOTE)


def critical_range(job: TrainingJob) -> tuple[float, float, float]:
    """Return the critical batch size at the job's final loss: low, median, high [tokens]."""
    low, median, high = between_fits(lambda fit: critical_batch_tokens(fit.loss(job.parameters, job.target_tokens)))
    return low / DOUBT, median, high * DOUBT


def quality(job: TrainingJob, changed: TrainingJob) -> str:
    """Return nothing: at the same loss no other effect is established."""
    return ""
