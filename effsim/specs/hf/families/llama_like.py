"""Dense decoders with RMS norm, grouped-query attention and a gated feed-forward layer."""

from dataclasses import replace
from typing import Any

from effsim.errors import shown
from effsim.specs.hf.assemble import Architecture, decoder, gated_ffn, grouped_attention, windowed
from effsim.specs.hf.fields import Fields
from effsim.specs.model import Attention, DenseFfn


def _uniform(config: Fields, mixers: list[Attention], *, norms: int = 2, tied: bool = False, mlp_bias: bool = False) -> Architecture:
    ffn = gated_ffn(config, bias=mlp_bias)
    return decoder(config, [(mixer, ffn, norms) for mixer in mixers], tied=tied)


def llama(config: Fields) -> Architecture:
    """Llama 1 to 3, SmolLM, Yi and others: one bias switch for all four projections."""
    bias = config.flag("attention_bias")
    mixer = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    return _uniform(config, [mixer] * config.layers(), mlp_bias=config.flag("mlp_bias"))


def mistral(config: Fields) -> Architecture:
    """Mistral: as Llama without biases, every layer windowed where a window is stated."""
    mixer = grouped_attention(config, window=config.optional("sliding_window"))
    return _uniform(config, [mixer] * config.layers())


def _qwen_windows(config: Fields, mixer: Attention) -> list[Attention]:
    """Return Qwen's attention per layer: only with ``use_sliding_window`` are those from ``max_window_layers`` on windowed."""
    layers = config.layers()
    window, first = config.optional("sliding_window"), config.optional("max_window_layers")
    types = config.per_layer("layer_types", layers)
    if not config.flag("use_sliding_window"):
        window = None
    if types is None:
        types = ["sliding_attention" if window and i >= (layers if first is None else first) else "full_attention" for i in range(layers)]
    return windowed(mixer, types, window, config)


def qwen2(config: Fields) -> Architecture:
    """Qwen2 and 2.5: biases on Q, K and V only."""
    return _uniform(config, _qwen_windows(config, grouped_attention(config, qkv_bias=True)))


def mimo(config: Fields) -> Architecture:
    """MiMo: Qwen2's layers; its token prediction layers are other parameters, which its published size includes.

    Each such layer is one more layer, a projection (2 h, h) and three norms (h).
    """
    mixer = grouped_attention(config, qkv_bias=config.flag("attention_bias", default=True))
    config.needs_off("use_mrope")
    result = _uniform(config, _qwen_windows(config, mixer))
    hidden, size, heads = result.hidden_size, config.integer("intermediate_size"), (mixer.heads + 2 * mixer.kv_heads) * mixer.head_dim
    attention = hidden * (heads + mixer.heads * mixer.head_dim) + (heads if mixer.qkv_bias else 0)
    layer = attention + 3 * hidden * size + 2 * hidden + 2 * hidden * hidden + 3 * hidden
    return replace(result, other_parameters=layer * (config.optional("num_nextn_predict_layers") or 0))


def qwen3(config: Fields) -> Architecture:
    """Qwen3: head-wise norms of Q and K, no bias unless stated."""
    bias = config.flag("attention_bias")
    return _uniform(config, _qwen_windows(config, grouped_attention(config, qkv_bias=bias, output_bias=bias, qk_norm="head")))


def phi3(config: Fields) -> Architecture:
    """Phi-3 and Phi-4: fused projections without bias, every layer windowed where a window is stated."""
    mixer = grouped_attention(config, window=config.optional("sliding_window"))
    return _uniform(config, [mixer] * config.layers())


def _alternating(config: Fields, mixer: Attention, pattern: int) -> list[Attention]:
    """Return Gemma's attention per layer: of each ``pattern`` layers the last is global, unless ``layer_types`` says otherwise."""
    layers = config.layers()
    types = config.per_layer("layer_types", layers)
    if types is None:
        types = ["full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in range(layers)]
    return windowed(mixer, types, config.integer("sliding_window"), config)


def gemma2(config: Fields) -> Architecture:
    """Gemma 2: four norms per layer, windowed and global attention in turn, tied embedding."""
    bias = config.flag("attention_bias")
    mixer = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    return _uniform(config, _alternating(config, mixer, 2), norms=4, tied=True)


GEMMA3_DEFAULTS: dict[str, Any] = {
    "vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096,
    "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 131_072,
}  # fmt: skip
"""What Gemma 3 configs leave out: the defaults of Gemma3TextConfig (transformers 5.23)."""


def gemma3(config: Fields) -> Architecture:
    """Gemma 3: as Gemma 2 with head-wise norms of Q and K, five windowed layers to one global."""
    config = config.with_defaults(GEMMA3_DEFAULTS)
    bias = config.flag("attention_bias")
    mixer = grouped_attention(config, qkv_bias=bias, output_bias=bias, qk_norm="head")
    pattern = config.optional("sliding_window_pattern", "_sliding_window_pattern") or 6
    return _uniform(config, _alternating(config, mixer, pattern), norms=4, tied=True)


def nemotron_nas(config: Fields) -> Architecture:
    """Llama-Nemotron from architecture search: each layer has its own attention and feed-forward width, or none."""
    layers = config.per_layer("block_configs", config.layers())
    if layers is None:
        raise config.refuse("nemotron-nas without block_configs")
    bias = config.flag("attention_bias")
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    config.skip("intermediate_size", "num_key_value_heads")
    return decoder(config, [_nas_layer(Fields(layer, f"{config.where}: block_configs"), config, hidden, heads, bias=bias) for layer in layers])


def _nas_layer(layer: Fields, config: Fields, hidden: int, heads: int, *, bias: bool) -> tuple[Attention | None, DenseFfn | None, int]:
    mixer, ffn = None, None
    attention, mlp = layer.part("attention"), layer.part("ffn")
    if attention is None or mlp is None:
        raise layer.refuse("a block without attention and ffn entries")
    attention.needs_off("replace_with_linear", "sparsify", "unshifted_sink", "use_prefill_window_in_sink_attention", "num_sink_tokens")
    mlp.needs_off("replace_with_linear", "sparsify")
    if not attention.flag("no_op"):
        group = attention.integer("n_heads_in_group")
        window = attention.optional("window_length")
        mixer = Attention(heads=heads, kv_heads=heads // group, head_dim=hidden // heads, qkv_bias=bias, output_bias=bias, window=window)
    if not mlp.flag("no_op"):
        multiplier = mlp.get("ffn_mult")
        if not isinstance(multiplier, (int, float)) or isinstance(multiplier, bool) or multiplier <= 0:
            raise mlp.refuse(f"ffn_mult = {shown(multiplier)}")
        # As in the model's own code: two thirds of the width, rounded up to a multiple of 256.
        ffn = gated_ffn(config, -(-int(2 * multiplier * hidden / 3) // 256) * 256)
    return mixer, ffn, int(mixer is not None) + int(ffn is not None)


FAMILIES = {
    "llama": llama,
    "mistral": mistral,
    "ministral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "qwen3_vl_text": qwen3,
    "mimo": mimo,
    "phi3": phi3,
    "gemma2": gemma2,
    "gemma3_text": gemma3,
    "nemotron-nas": nemotron_nas,
}
