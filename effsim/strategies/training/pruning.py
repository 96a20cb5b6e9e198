"""Structured pruning during training: narrower feed-forward layers after a dense beginning."""

from typing import Any, Final

from effsim.specs.models import model as load_model
from effsim.strategies.effect import StepsEffect
from effsim.strategies.job import TrainingJob, replace, with_model, with_stages
from effsim.strategies.scaling import FITS_SOURCE, tokens_for_size
from effsim.workload.pruning import prune_structured

TITLE = "Pruning during training"
KNOBS: Final[dict[str, tuple[Any, ...]]] = {"fraction": (0.0, 0.25, 0.5)}
DENSE_SHARE: Final = 0.1
"""Of the tokens before pruning; early-bird tickets are drawn within the first tenth or fifth of training (You et al., arXiv:1909.11957)."""

SOURCE: Final = f"Chen et al., EarlyBERT, arXiv:2101.00063; Evci et al., RigL, arXiv:1911.11134; sizes by {FITS_SOURCE}"
NOTE: Final = (
    "low: the same number of steps with comparable scores (EarlyBERT, BERT); median: a model of the smaller size trained from the start to the same loss; "
    "high: twice that in logarithm, a judgement. "
    "Unstructured sparsity (RigL) needs up to five times the steps at 80 % and saves nothing on dense units"
)


def neutral(job: TrainingJob) -> dict[str, Any]:
    """Return no change."""
    return {"fraction": 0.0}


def apply(job: TrainingJob, *, fraction: float) -> TrainingJob:
    """Return the job that drops a fraction of its feed-forward columns after a tenth of the tokens.

    Raises:
        SpecError: The job has stages already, or the fraction is outside [0, 1).
    """
    if fraction == 0.0:
        return job
    dense = load_model(job.model)
    narrow = with_model(replace(job), lambda net: prune_structured(net, fraction))
    return with_stages(narrow, [(DENSE_SHARE, {"model": dense})])


def steps(job: TrainingJob, changed: TrainingJob) -> StepsEffect:
    """Return the tokens of the smaller model to the loss of the larger one."""
    if changed.parameters == job.parameters:
        return StepsEffect(1.0, 1.0, 1.0, SOURCE, "2021", "nothing is pruned")
    _, median, high = tokens_for_size(changed.parameters, job.parameters, job.target_tokens)
    return StepsEffect(1.0, median, max(high, median**2), SOURCE, "2019 to 2024", NOTE)


def quality(job: TrainingJob, changed: TrainingJob) -> str:
    """Return what is known beyond the loss."""
    if changed.parameters == job.parameters:
        return ""
    return "scores comparable with 30 to 45 % less time on BERT (EarlyBERT, arXiv:2101.00063), not shown for large decoders; the result is a smaller model"
