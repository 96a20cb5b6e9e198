"""What a family's reader hands back, and the pieces that many families share."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from effsim.errors import shown
from effsim.specs.hf.fields import MAX_NUMBER, Fields
from effsim.specs.model import Attention, Block, DenseFfn, Ffn, Mixer

GATED_ACTIVATIONS: Final = {
    "silu": "swiglu", "swish": "swiglu", "swigluoai": "swiglu", "gelu": "geglu", "gelu_new": "geglu", "gelu_pytorch_tanh": "geglu", "gelu_tanh": "geglu",
}  # fmt: skip
PLAIN_ACTIVATIONS: Final = {
    "relu": "relu", "gelu": "gelu", "gelu_new": "gelu", "gelu_fast": "gelu", "gelu_pytorch_tanh": "gelu", "quick_gelu": "gelu",
    "relu2": "squared_relu", "silu": "silu",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Architecture:
    """The fields of :class:`~effsim.specs.model.Transformer` that a config decides.

    ``other_parameters``: weights beside the text model, of small extras; a vision tower is added by the importer.
    """

    hidden_size: int
    vocab_size: int
    blocks: tuple[Block, ...]
    extra: dict[str, Any] = field(default_factory=dict)
    other_parameters: int = 0


def merge_layers(layers: Iterable[tuple[Mixer | None, Ffn | None, int]]) -> tuple[Block, ...]:
    """Return one block per kind of layer ``(mixer, ffn, norms)``, in the order of first appearance.

    Where in the stack a layer stands is not kept: nothing downstream depends on it.
    """
    return tuple(Block(repeat=count, mixer=mixer, ffn=ffn, norms=norms) for (mixer, ffn, norms), count in Counter(layers).items())


def head_dim(config: Fields, hidden: int, heads: int) -> int:
    """Return the size of a head: stated, or the hidden size over the heads."""
    stated = config.optional("head_dim", "attention_head_dim")
    if stated:
        return stated
    if hidden % heads:
        raise config.refuse(f"hidden_size {hidden} is no multiple of num_attention_heads {heads}, and head_dim is not stated")
    return hidden // heads


def grouped_attention(config: Fields, **extra: Any) -> Attention:
    """Return the attention that most decoders state in the same fields; ``extra`` sets or overrides fields of the spec."""
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    fields: dict[str, Any] = {
        "heads": heads,
        "kv_heads": config.optional("num_key_value_heads") or heads,
        "head_dim": head_dim(config, hidden, heads),
    }
    return Attention(**{**fields, **extra})


def gated_ffn(config: Fields, size: int | None = None, *, bias: bool = False) -> DenseFfn:
    """Return a feed-forward layer of three matrices."""
    activation = config.choice("hidden_act", "hidden_activation", allowed=GATED_ACTIVATIONS, default="silu")
    return DenseFfn(kind="dense", intermediate_size=size or config.integer("intermediate_size"), activation=activation, bias=bias)


def common(config: Fields, *, tied: bool = False) -> dict[str, Any]:
    """Return embedding tying and context length; ``tied`` is the architecture's default."""
    return {
        "tie_embeddings": config.flag("tie_word_embeddings", default=tied),
        "max_context_tokens": context_tokens(config),
    }


def context_tokens(config: Fields) -> int | None:
    """Return the tokens that positions reach: those stated, or what YaRN stretches the original ones to where that is more.

    The other scalings are in the stated number already (llama3, longrope). Source: vLLM 0.11, config/model.py,
    _get_and_verify_max_len.
    """
    stated = config.optional("max_position_embeddings", "n_positions", "seq_length", "max_seq_len", "model_max_length") or None
    scaling = config.get("rope_scaling", "rope_parameters")
    if not isinstance(scaling, dict) or "yarn" not in {scaling.get("rope_type"), scaling.get("type")}:
        return stated
    factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
    if not isinstance(factor, (int, float)) or not isinstance(original, int) or not 0 < factor * original <= MAX_NUMBER:
        return stated
    return max(stated or 1, int(factor * original))


def decoder(config: Fields, layers: Iterable[tuple[Mixer | None, Ffn | None, int]], *, tied: bool = False, **extra: Any) -> Architecture:
    """Return a decoder with RMS norm unless ``extra`` says otherwise."""
    return Architecture(
        hidden_size=config.integer("hidden_size", "n_embd", "d_model"),
        vocab_size=config.integer("vocab_size"),
        blocks=merge_layers(layers),
        extra={**common(config, tied=tied), **extra},
    )


def windowed(mixer: Attention, types: Sequence[Any], window: int | None, config: Fields) -> list[Attention]:
    """Return one attention per layer type ``full_attention`` or ``sliding_attention``."""
    if "sliding_attention" in types and window is None:
        raise config.refuse("sliding_attention layers without sliding_window")
    sliding = mixer.model_copy(update={"window": window})
    by_type = {"full_attention": mixer, "sliding_attention": sliding}
    unknown = next((kind for kind in types if not isinstance(kind, str) or kind not in by_type), None)
    if unknown is not None:
        raise config.refuse(f"layer type {shown(unknown)}")
    return [by_type[kind] for kind in types]
