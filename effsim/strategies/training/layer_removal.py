"""Fewer layers from the start."""

from typing import Any, Final

from effsim.errors import SpecError
from effsim.specs.model import Model, Transformer
from effsim.strategies.effect import StepsEffect
from effsim.strategies.job import TrainingJob, with_model
from effsim.strategies.scaling import FITS_SOURCE, tokens_for_gap, tokens_for_size
from effsim.workload.pruning import remove_layers

TITLE = "Layer removal"
KNOBS: Final[dict[str, tuple[Any, ...]]] = {"fraction": (0.0, 0.125, 0.25, 0.5)}
SHAPE_GAP: Final = 0.01  # of the loss; a judgement
NOTE: Final = (
    "tokens with which the smaller model reaches the loss of the larger one, by two fits of the same scaling law; high: with 1 % more loss from the shape, "
    "which moves the loss by a few percent over a wide range (Kaplan et al., arXiv:2001.08361, section 3.1). Infinite where no number of tokens reaches it"
)


def neutral(job: TrainingJob) -> dict[str, Any]:
    """Return no change."""
    return {"fraction": 0.0}


def apply(job: TrainingJob, *, fraction: float) -> TrainingJob:
    """Return the job on a model without a fraction of its layers.

    Raises:
        SpecError: The model has no layers to remove, or the fraction is outside [0, 1).
    """
    return job if fraction == 0.0 else with_model(job, lambda net: shallower(net, fraction))


def shallower(net: Model, fraction: float) -> Transformer:
    """Return a transformer with fewer layers.

    Raises:
        SpecError: It is no transformer.
    """
    if not isinstance(net, Transformer):
        raise SpecError(f"layers: {net.name} is a plain dense network; layers are removed from transformers")
    return remove_layers(net, fraction)


def steps(job: TrainingJob, changed: TrainingJob) -> StepsEffect:
    """Return the tokens of the smaller model to the loss of the larger one."""
    if changed.parameters == job.parameters:
        return StepsEffect(1.0, 1.0, 1.0, FITS_SOURCE, "2022 to 2024", "the same model")
    low, median, high = tokens_for_size(changed.parameters, job.parameters, job.target_tokens)
    shape = tokens_for_gap(SHAPE_GAP, job.parameters, job.target_tokens)[2]
    return StepsEffect(low, median, high * shape, FITS_SOURCE, "2022 to 2024", NOTE)


def quality(job: TrainingJob, changed: TrainingJob) -> str:
    """Return what is known beyond the loss."""
    if changed.parameters == job.parameters:
        return ""
    return (
        "removed after training and healed, up to half of the layers cost little on question answering, but reasoning and the loss suffer "
        "(Gromov et al., arXiv:2403.17887); the result is a smaller model, cheaper to serve"
    )
