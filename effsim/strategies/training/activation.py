"""Which activation function the feed-forward layers use, at equal parameters."""

from typing import Any, Final

from effsim.errors import SpecError
from effsim.specs.model import GATED, DenseFfn, Model, MoeFfn, Transformer
from effsim.specs.models import model as load_model
from effsim.strategies.effect import Range, StepsEffect, relative
from effsim.strategies.job import TrainingJob, with_model

TITLE = "Activation function"
KNOBS: Final[dict[str, tuple[Any, ...]]] = {"function": ("relu", "gelu", "swiglu", "squared_relu")}
GRANULARITY: Final = 64  # columns, as tiles and ranks want them

AGAINST_RELU: Final[dict[str, Range]] = {
    "relu": (1.0, 1.0, 1.0),
    "gelu": (0.93, 0.99, 1.02),
    "silu": (0.98, 1.03, 1.1),
    "geglu": (0.65, 0.72, 1.0),
    "swiglu": (0.65, 0.72, 1.0),
    "squared_relu": (0.65, 0.72, 1.0),
}
SOURCE: Final = (
    "Shazeer, GLU Variants Improve Transformer, arXiv:2002.05202, table 1; Narang et al., arXiv:2102.11972, table 1; "
    "So et al., Primer, arXiv:2109.08668; Zhang et al., ReLU² Wins, arXiv:2402.03804; Zhao et al., arXiv:2605.20798"
)
NOTE: Final = (
    "losses at 65,536 and 524,288 steps of a 220 million parameter encoder-decoder, turned into steps with L = E + B / S^0.28 through the ReLU rows; "
    "high end: most changes to the architecture do not carry over to 1 to 3 billion parameters. Squared ReLU: on a par with SwiGLU at 1.3 billion; "
    "Primer's saving of 1.7 to 4.2 is of the squared ReLU together with a convolution, hence not used"
)


def neutral(job: TrainingJob) -> dict[str, Any]:
    """Return the model's activation."""
    return {"function": _activation(load_model(job.model))}


def apply(job: TrainingJob, *, function: str) -> TrainingJob:
    """Return the job with another activation; a gated one has three matrices, each two thirds as wide, and back."""
    return job if neutral(job)["function"] == function else with_model(job, lambda net: _changed(net, function))


def steps(job: TrainingJob, changed: TrainingJob) -> StepsEffect:
    """Return the steps that published losses amount to, relative to the job's activation."""
    base, other = (neutral(j)["function"] for j in (job, changed))
    if base == other:
        return StepsEffect(1.0, 1.0, 1.0, SOURCE, "2020 to 2026", "the same function")
    return StepsEffect(*relative(AGAINST_RELU[other], AGAINST_RELU[base]), SOURCE, "2020 to 2026", NOTE)


def quality(job: TrainingJob, changed: TrainingJob) -> str:
    """Return what is known beyond the loss."""
    function = neutral(changed)["function"]
    sparse = function in {"relu", "squared_relu"} and function != neutral(job)["function"]
    return "most activations are zero, which sparse inference can use (Zhang et al., arXiv:2402.03804)" if sparse else ""


def _activation(net: Model) -> str:
    if not isinstance(net, Transformer):
        return net.activation
    found = next((block.ffn.activation for block in net.blocks if block.ffn is not None), None)
    if found is None:
        raise SpecError(f"activation: {net.name} has no feed-forward layers")
    return found


def _changed(net: Model, function: str) -> Model:
    if not isinstance(net, Transformer):
        if function in GATED:
            raise SpecError(f"activation: {net.name} is a plain dense network, which has no gate")
        return net.model_copy(update={"activation": function})
    blocks = tuple(block if block.ffn is None else block.model_copy(update={"ffn": _ffn(block.ffn, function)}) for block in net.blocks)
    return net.model_copy(update={"blocks": blocks, "published_parameters": None, "active_parameters": None})


def _ffn(ffn: DenseFfn | MoeFfn, function: str) -> DenseFfn | MoeFfn:
    matrices = {True: 3, False: 2}
    factor = matrices[ffn.activation in GATED] / matrices[function in GATED]
    fields = ("intermediate_size",) if isinstance(ffn, DenseFfn) else ("expert_intermediate_size", "shared_intermediate_size")
    widths = {name: _width(getattr(ffn, name), factor) for name in fields}
    return ffn.model_copy(update={"activation": function, **widths})


def _width(columns: int, factor: float) -> int:
    if factor == 1.0 or columns == 0:
        return columns
    return max(GRANULARITY, round(columns * factor / GRANULARITY) * GRANULARITY)
