"""Structured pruning: fewer columns, heads or layers, hence smaller shapes that every device is faster on."""

from typing import Any

from effsim.errors import SpecError
from effsim.specs.model import Attention, Block, DenseFfn, Mlp, Model, MoeFfn, Transformer


def prune_structured(model: Model, fraction: float, *, granularity: int = 64) -> Model:
    """Return a model without a fraction of the columns of each feed-forward layer, rounded to ``granularity`` columns.

    A plain dense network loses that share of each hidden layer. Whether quality holds is another question; the pruned model has
    no published size.

    Args:
        model: To prune.
        fraction: Of the columns to remove, 0 up to 1.
        granularity: Columns are kept in multiples of it, as tiles want them; 1 for tiny networks.

    Raises:
        SpecError: The fraction is outside [0, 1).
    """
    _check(fraction)
    if isinstance(model, Mlp):
        inner = tuple(max(1, round(size * (1.0 - fraction))) for size in model.layer_sizes[1:-1])
        return model.model_copy(update={"layer_sizes": (model.layer_sizes[0], *inner, model.layer_sizes[-1])})
    blocks = tuple(block.model_copy(update={"ffn": _narrower(block.ffn, 1.0 - fraction, granularity)}) for block in model.blocks)
    return _unpublished(model, blocks)


def remove_layers(model: Transformer, fraction: float) -> Transformer:
    """Return a model without a fraction of the layers of each block, at least one layer of each staying.

    Raises:
        SpecError: The fraction is outside [0, 1).
    """
    _check(fraction)
    blocks = tuple(block.model_copy(update={"repeat": max(1, round(block.repeat * (1.0 - fraction)))}) for block in model.blocks)
    return _unpublished(model, blocks)


def prune_heads(model: Transformer, fraction: float) -> Transformer:
    """Return a model without a fraction of its key-value groups, each with the query heads that share it.

    Raises:
        SpecError: The fraction is outside [0, 1).
    """
    _check(fraction)
    blocks = tuple(block.model_copy(update={"mixer": _fewer(block.mixer, 1.0 - fraction)}) for block in model.blocks)
    return _unpublished(model, blocks)


def _check(fraction: float) -> None:
    if not 0.0 <= fraction < 1.0:
        raise SpecError(f"fraction: must lie in [0, 1), got {fraction:g}")


def _narrower(ffn: DenseFfn | MoeFfn | None, kept: float, granularity: int) -> Any:
    if ffn is None:
        return None
    field = "intermediate_size" if isinstance(ffn, DenseFfn) else "expert_intermediate_size"
    width = getattr(ffn, field)
    return ffn.model_copy(update={field: min(width, max(granularity, round(width * kept / granularity) * granularity))})


def _fewer(mixer: Any, kept: float) -> Any:
    if not isinstance(mixer, Attention):
        return mixer
    groups = max(1, round(mixer.kv_heads * kept))
    return mixer.model_copy(update={"kv_heads": groups, "heads": groups * (mixer.heads // mixer.kv_heads)})


def _unpublished(model: Transformer, blocks: tuple[Block, ...]) -> Transformer:
    return model.model_copy(update={"blocks": blocks, "published_parameters": None, "active_parameters": None})
