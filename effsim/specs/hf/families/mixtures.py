"""Mixture-of-experts decoders with grouped-query attention."""

from effsim.specs.hf.assemble import GATED_ACTIVATIONS, Architecture, decoder, gated_ffn, grouped_attention, windowed
from effsim.specs.hf.fields import Fields
from effsim.specs.model import Attention, Ffn, MoeFfn, SparseIndexer


def routed(config: Fields, size: int, *, shared: int = 0, shared_gate: bool = False, router_bias: bool = False) -> MoeFfn:
    """Return the mixture that most configs state in the same fields; ``size`` and ``shared`` are intermediate widths."""
    return MoeFfn(
        kind="moe",
        experts=config.integer("num_local_experts", "num_experts", "n_routed_experts"),
        top_k=config.integer("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts"),
        expert_intermediate_size=size,
        activation=config.choice("hidden_act", "hidden_activation", allowed=GATED_ACTIVATIONS, default="silu"),
        shared_intermediate_size=shared,
        shared_gate=shared_gate,
        router_bias=router_bias,
    )


def mixtral(config: Fields) -> Architecture:
    """Mixtral: every layer a mixture."""
    mixer = grouped_attention(config, window=config.optional("sliding_window"))
    return decoder(config, [(mixer, routed(config, config.integer("intermediate_size")), 2)] * config.layers())


def qwen_ffns(config: Fields, layers: int) -> list[Ffn]:
    """Return Qwen's feed-forward part per layer: a mixture each ``decoder_sparse_step`` layers, but for ``mlp_only_layers``."""
    shared = config.optional("shared_expert_intermediate_size") or 0
    mixture = routed(config, config.integer("moe_intermediate_size"), shared=shared, shared_gate=shared > 0)
    step = config.optional("decoder_sparse_step") or 1
    dense_at = config.entries("mlp_only_layers")
    sparse = [i not in dense_at and (i + 1) % step == 0 for i in range(layers)]
    config.skip("intermediate_size")
    dense = mixture if all(sparse) else gated_ffn(config)
    return [mixture if here else dense for here in sparse]


def qwen3_moe(config: Fields) -> Architecture:
    """Qwen3 mixtures: head-wise norms of Q and K, no shared expert."""
    layers = config.layers()
    bias = config.flag("attention_bias")
    if not config.flag("use_sliding_window"):
        config.skip("sliding_window", "max_window_layers")
    norm = "head" if config.flag("use_qk_norm", default=True) else "none"
    mixer = grouped_attention(config, qkv_bias=bias, output_bias=bias, qk_norm=norm)
    return decoder(config, [(mixer, ffn, 2) for ffn in qwen_ffns(config, layers)])


def gpt_oss(config: Fields) -> Architecture:
    """gpt-oss: sinks, windowed and full attention in turn, biases on attention, router and experts."""
    layers = config.layers()
    bias = config.flag("attention_bias", default=True)
    mixer = grouped_attention(config, qkv_bias=bias, output_bias=bias, sinks=True)
    types = config.per_layer("layer_types", layers)
    if types is None:
        types = ["full_attention" if i % 2 else "sliding_attention" for i in range(layers)]
    ffn = routed(config, config.integer("intermediate_size"), router_bias=True).model_copy(update={"bias": True})
    return decoder(config, [(one, ffn, 2) for one in windowed(mixer, types, config.optional("sliding_window"), config)])


def minimax_m2(config: Fields) -> Architecture:
    """MiniMax-M2: norms over all of Q and of K, a correction term per expert."""
    config.choice("qk_norm_type", allowed={"per_layer": "full"}, default="per_layer")
    mixer = grouped_attention(config, qk_norm="full" if config.flag("use_qk_norm", default=True) else "none")
    config.needs_off("shared_intermediate_size")
    if any(kind != 1 for kind in config.entries("attn_type_list")):
        raise config.refuse("attn_type_list with entries other than 1 (full attention)")
    ffn = routed(config, config.integer("intermediate_size"), router_bias=config.flag("use_routing_bias", default=True))
    return decoder(config, [(mixer, ffn, 2)] * config.layers())


def minimax_m3(config: Fields) -> Architecture:
    """MiniMax-M3: block-sparse attention and mixtures, full attention and dense layers first."""
    layers = config.layers()
    config.needs_off("attention_output_gate")
    norm = config.choice("qk_norm_type", allowed={"per_head": "head"}, default="per_head") if config.flag("use_qk_norm") else "none"
    full = grouped_attention(config, qk_norm=norm)
    sparse, at = _block_indexer(config, layers)
    shared = (config.optional("n_shared_experts") or 0) * (config.optional("shared_intermediate_size") or 0)
    config.skip("moe_intermediate_size", "first_k_dense_replace", "use_gemma_norm")
    mixture = routed(config, config.integer("intermediate_size"), shared=shared, router_bias=config.flag("use_routing_bias"))
    is_mixture = config.per_layer("moe_layer_freq", layers) or [1] * layers
    dense = gated_ffn(config, config.integer("dense_intermediate_size")) if not all(is_mixture) else None
    mixers = [full.model_copy(update={"indexer": sparse}) if here else full for here in at]
    return decoder(config, [(mixer, mixture if moe else dense, 2) for mixer, moe in zip(mixers, is_mixture, strict=True)])


def _block_indexer(config: Fields, layers: int) -> tuple[SparseIndexer | None, list[int]]:
    sparse = config.part("sparse_attention_config")
    if sparse is None or not sparse.flag("use_sparse_attention"):
        return None, [0] * layers
    at = sparse.per_layer("sparse_attention_freq", layers) or [1] * layers
    without_values = sparse.per_layer("sparse_disable_index_value", layers) or [1] * layers
    if any(here and not bare for here, bare in zip(at, without_values, strict=True)):
        raise sparse.refuse("index values (sparse_disable_index_value = 0 on a sparse layer)")
    blocks = sparse.integer("sparse_topk_blocks")
    indexer = SparseIndexer(
        kind="block",
        heads=sparse.integer("sparse_num_index_heads"),
        head_dim=sparse.integer("sparse_index_dim"),
        top_k=blocks * sparse.integer("sparse_block_size"),
    )
    sparse.skip("sparse_local_block", "sparse_init_block", "sparse_score_type")
    sparse.check_all_read()
    return indexer, at


def mimo_v2_flash(config: Fields) -> Architecture:
    """MiMo-V2-Flash: windowed layers with sinks and more key-value heads, V narrower than Q and K, a correction term per expert."""
    layers = config.layers()
    bias = config.flag("attention_bias")
    full = grouped_attention(config, value_head_dim=config.optional("v_head_dim"), qkv_bias=bias, sinks=config.flag("add_full_attention_sink_bias"))
    window = Attention(
        heads=config.integer("swa_num_attention_heads"),
        kv_heads=config.integer("swa_num_key_value_heads"),
        head_dim=config.integer("swa_head_dim"),
        value_head_dim=config.optional("swa_v_head_dim"),
        qkv_bias=bias,
        sinks=config.flag("add_swa_attention_sink_bias"),
        window=config.integer("sliding_window", "sliding_window_size"),
    )
    config.skip("attention_chunk_size", "hybrid_block_size")
    config.needs_off("n_shared_experts")
    pattern = config.per_layer("hybrid_layer_pattern", layers) or [0] * layers
    is_mixture = config.per_layer("moe_layer_freq", layers) or [1] * layers
    mixture, dense = routed(config, config.integer("moe_intermediate_size"), router_bias=True), gated_ffn(config)
    return decoder(config, [(window if local else full, mixture if moe else dense, 2) for local, moe in zip(pattern, is_mixture, strict=True)])


def llama4(config: Fields) -> Architecture:
    """Llama 4: chunked attention in three of four layers, a shared expert as wide as a routed one, dense layers between mixtures."""
    layers = config.layers()
    bias = config.flag("attention_bias")
    full = grouped_attention(config, qkv_bias=bias, output_bias=bias)
    chunked = full.model_copy(update={"chunk": config.integer("attention_chunk_size")})
    config.skip("use_qk_norm")  # an L2 norm without weights
    rope = config.per_layer("no_rope_layers", layers)  # 1: with rotary positions, which go with chunks
    local = [bool(one) for one in rope] if rope else [(i + 1) % (config.optional("no_rope_layer_interval") or 4) != 0 for i in range(layers)]
    config.skip("layer_types")
    size = config.integer("intermediate_size")
    mixture = routed(config, size, shared=size)
    dense = gated_ffn(config, config.integer("intermediate_size_mlp"))
    step = config.optional("interleave_moe_layer_step") or 1
    sparse_at = config.entries("moe_layers") or range(step - 1, layers, step)
    return decoder(config, [(chunked if here else full, mixture if i in sparse_at else dense, 2) for i, here in enumerate(local)])


def step3p7(config: Fields) -> Architecture:
    """Step-3.5 and 3.7: a gate per head, windowed layers that may have more heads, one shared expert."""
    layers = config.layers()
    full = grouped_attention(config, qk_norm="head", head_gate=True)
    other = config.part("attention_other_setting")
    heads = other.integer("num_attention_heads") if other else config.optional("num_sliding_attention_heads") or full.heads
    types = config.per_layer("layer_types", layers) or ["full_attention"] * layers
    mixers = windowed(full, types, config.optional("sliding_window"), config)
    mixers = [mixer.model_copy(update={"heads": heads}) if mixer.window else mixer for mixer in mixers]
    shared = config.integer("share_expert_dim") * (config.optional("n_shared_experts") or 1)
    mixture = routed(config, config.integer("moe_intermediate_size"), shared=shared, router_bias=config.flag("use_moe_router_bias", default=True))
    dense, first = gated_ffn(config), config.integer("first_k_dense_replace")
    return decoder(config, [(mixer, dense if i < first else mixture, 2) for i, mixer in enumerate(mixers)])


FAMILIES = {
    "mixtral": mixtral,
    "qwen3_moe": qwen3_moe,
    "qwen3_vl_moe_text": qwen3_moe,
    "gpt_oss": gpt_oss,
    "minimax_m2": minimax_m2,
    "minimax_m3": minimax_m3,
    "minimax_m3_vl_text": minimax_m3,
    "mimo_v2_flash": mimo_v2_flash,
    "llama4_text": llama4,
    "step3p7": step3p7,
    "step3p5": step3p7,
}
