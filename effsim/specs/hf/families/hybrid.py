"""Hybrids of attention with state-space or linear-attention layers, and Gemma 4."""

from typing import Any

from effsim.errors import shown
from effsim.specs.hf.assemble import PLAIN_ACTIVATIONS, Architecture, decoder, gated_ffn, grouped_attention, windowed
from effsim.specs.hf.families.mixtures import qwen_ffns, routed
from effsim.specs.hf.fields import Fields
from effsim.specs.model import Attention, DenseFfn, Ffn, GatedDeltaNet, Mamba2, Mixer, MoeFfn

_NEMOTRON_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


def nemotron_h(config: Fields) -> Architecture:
    """Nemotron-H, Nano v2 and 3: each layer is one of Mamba-2, attention, feed-forward, mixture, with one norm."""
    pattern = config.get("hybrid_override_pattern")
    types = config.entries("layers_block_type")
    if not types:
        if not isinstance(pattern, str):
            raise config.refuse("nemotron_h without hybrid_override_pattern or layers_block_type")
        types = [_NEMOTRON_LETTERS.get(letter, letter) for letter in pattern]
    stated = config.optional("num_hidden_layers")
    if stated is not None and stated != len(types):
        raise config.refuse(f"num_hidden_layers {stated} beside {len(types)} entries of the layer pattern")
    config.skip("expand", "n_shared_experts", "moe_latent_size", "moe_shared_expert_intermediate_size", "moe_intermediate_size")
    config.skip("intermediate_size", "mamba_proj_bias", "attention_bias", "mlp_bias", "head_dim", "attention_head_dim", "num_query_groups")
    config.skip("n_routed_experts", "num_experts_per_tok", "hybrid_override_pattern", "use_conv_bias", "mlp_hidden_act")
    makers = {"mamba": _mamba2, "attention": _plain_attention, "mlp": _mlp, "moe": _nemotron_moe}
    newer = {"linear_attention": "mamba", "full_attention": "attention"}
    types = [newer.get(str(kind), kind) for kind in types]
    unknown = next((kind for kind in types if not isinstance(kind, str) or kind not in makers), None)
    if unknown is not None:
        raise config.refuse(f"layer type {shown(unknown)}")
    parts: dict[str, Any] = {kind: makers[kind](config) for kind in set(types)}
    layers: list[tuple[Mixer | None, Ffn | None, int]] = [
        (parts[kind], None, 1) if kind in {"mamba", "attention"} else (None, parts[kind], 1) for kind in types
    ]
    return decoder(config, layers)


def _mamba2(config: Fields) -> Mamba2:
    config.choice("mamba_hidden_act", allowed={"silu": "silu"}, default="silu")
    return Mamba2(
        kind="mamba2",
        heads=config.integer("mamba_num_heads"),
        head_dim=config.integer("mamba_head_dim"),
        groups=config.integer("n_groups"),
        state_dim=config.integer("ssm_state_size"),
        conv_kernel=config.integer("conv_kernel"),
        conv_bias=config.flag("use_conv_bias", default=True),
        projection_bias=config.flag("use_bias"),
    )


def _plain_attention(config: Fields) -> Attention:
    config.needs_off("attention_bias", "sliding_window")
    return grouped_attention(config)


def _mlp(config: Fields) -> DenseFfn:
    activation = config.choice("mlp_hidden_act", allowed=PLAIN_ACTIVATIONS, default="relu2")
    return DenseFfn(kind="dense", intermediate_size=config.integer("intermediate_size"), activation=activation, bias=config.flag("mlp_bias"))


def _nemotron_moe(config: Fields) -> MoeFfn:
    return MoeFfn(
        kind="moe",
        experts=config.integer("n_routed_experts"),
        top_k=config.integer("num_experts_per_tok"),
        expert_intermediate_size=config.integer("moe_intermediate_size"),
        activation=config.choice("mlp_hidden_act", allowed=PLAIN_ACTIVATIONS, default="relu2"),
        shared_intermediate_size=(config.optional("n_shared_experts") or 0) * config.integer("moe_shared_expert_intermediate_size"),
        router_bias=True,
        bias=config.flag("mlp_bias"),
        latent_size=config.optional("moe_latent_size") or None,
    )


def qwen_hybrid(config: Fields) -> Architecture:
    """Qwen3-Next and Qwen3.5: three gated delta nets to one attention with an output gate; dense or mixture with a gated shared expert."""
    layers = config.layers()
    interval = config.optional("full_attention_interval") or 4
    types = config.per_layer("layer_types", layers)
    if types is None:
        types = ["full_attention" if (i + 1) % interval == 0 else "linear_attention" for i in range(layers)]
    bias = config.flag("attention_bias")
    gate = config.flag("attn_output_gate", default=True)
    config.choice("output_gate_type", allowed={"swish": "swish", "silu": "swish"}, default="swish")
    mixers: dict[str, Mixer] = {
        "full_attention": grouped_attention(config, qkv_bias=bias, output_bias=bias, qk_norm="head", output_gate=gate),
        "linear_attention": GatedDeltaNet(
            kind="gated_delta_net",
            key_heads=config.integer("linear_num_key_heads"),
            value_heads=config.integer("linear_num_value_heads"),
            key_head_dim=config.integer("linear_key_head_dim"),
            value_head_dim=config.integer("linear_value_head_dim"),
            conv_kernel=config.integer("linear_conv_kernel_dim"),
        ),
    }
    unknown = next((kind for kind in types if not isinstance(kind, str) or kind not in mixers), None)
    if unknown is not None:
        raise config.refuse(f"layer type {shown(unknown)}")
    mixture = config.optional("num_experts")
    ffns: list[Ffn] = qwen_ffns(config, layers) if mixture else [gated_ffn(config)] * layers
    return decoder(config, [(mixers[kind], ffn, 2) for kind, ffn in zip(types, ffns, strict=True)])


def gemma4(config: Fields) -> Architecture:
    """Gemma 4: windowed layers, global ones with wider heads whose values are made from the keys; optionally a mixture beside the dense part.

    The dense part runs beside the mixture on every token, as a shared expert does. Per layer one scalar, and with a mixture
    the router's scales, are counted as other parameters.
    """
    config.needs_off("hidden_size_per_layer_input", "num_kv_shared_layers", "use_double_wide_mlp")
    config.skip("vocab_size_per_layer_input", "attention_k_eq_v", "global_head_dim", "num_global_key_value_heads")
    layers, hidden = config.layers(), config.integer("hidden_size")
    bias = config.flag("attention_bias")
    local = grouped_attention(config, qkv_bias=bias, output_bias=bias, qk_norm="head")
    types = config.per_layer("layer_types", layers)
    if types is None:
        raise config.refuse("gemma4 without layer_types")
    shared_kv = config.flag("attention_k_eq_v")
    wide = {
        "head_dim": config.optional("global_head_dim") or local.head_dim,
        "kv_heads": (config.optional("num_global_key_value_heads") if shared_kv else None) or local.kv_heads,
        "values_are_keys": shared_kv,
    }
    mixers = windowed(local, types, config.integer("sliding_window"), config)
    mixers = [mixer if mixer.window else mixer.model_copy(update=wide) for mixer in mixers]
    dense: Ffn = gated_ffn(config)
    norms, other = 4, layers
    if config.flag("enable_moe_block"):
        dense = routed(config, config.integer("moe_intermediate_size"), shared=config.integer("intermediate_size"))
        norms, other = 7, layers * (1 + hidden + dense.experts)
    result = decoder(config, [(mixer, dense, norms) for mixer in mixers], tied=True)
    return Architecture(result.hidden_size, result.vocab_size, result.blocks, result.extra, other_parameters=other)


FAMILIES = {
    "nemotron_h": nemotron_h,
    "qwen3_next": qwen_hybrid,
    "qwen3_5_text": qwen_hybrid,
    "qwen3_5_moe_text": qwen_hybrid,
    "gemma4_text": gemma4,
}
