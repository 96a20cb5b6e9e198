"""Mixtures with multi-head latent attention: DeepSeek V2 to V3.2, Kimi K2, GLM-5."""

from effsim.errors import shown
from effsim.specs.hf.assemble import Architecture, decoder, gated_ffn
from effsim.specs.hf.families.mixtures import routed
from effsim.specs.hf.fields import Fields
from effsim.specs.model import Ffn, LatentAttention, SparseIndexer


def _attention(config: Fields, indexer: SparseIndexer | None = None) -> LatentAttention:
    config.needs_off("attention_bias")
    config.skip("num_key_value_heads", "head_dim", "qk_head_dim")  # follow from the fields below
    return LatentAttention(
        kind="latent_attention",
        heads=config.integer("num_attention_heads"),
        q_lora_rank=config.optional("q_lora_rank"),
        kv_lora_rank=config.integer("kv_lora_rank"),
        qk_nope_head_dim=config.integer("qk_nope_head_dim"),
        qk_rope_head_dim=config.integer("qk_rope_head_dim"),
        v_head_dim=config.integer("v_head_dim"),
        indexer=indexer,
    )


def _ffns(config: Fields, layers: int) -> list[Ffn]:
    """Return dense layers first, then a mixture each ``moe_layer_freq`` layers, with shared experts side by side.

    From V3 on each expert has a correction term, which configs written by transformers do not state; V2 states another ``topk_method``.
    """
    size = config.integer("moe_intermediate_size")
    shared = (config.optional("n_shared_experts") or 0) * size
    corrected = config.get("topk_method") in (None, "noaux_tc")
    mixture, dense = routed(config, size, shared=shared, router_bias=corrected), gated_ffn(config)
    types = config.per_layer("mlp_layer_types", layers)
    first, every = config.optional("first_k_dense_replace") or 0, config.optional("moe_layer_freq") or 1
    if types is None:
        types = ["sparse" if i >= first and i % every == 0 else "dense" for i in range(layers)]
    unknown = next((kind for kind in types if kind not in ("sparse", "dense")), None)
    if unknown is not None:
        raise config.refuse(f"mlp_layer_types entry {shown(unknown)}")
    return [mixture if kind == "sparse" else dense for kind in types]


def deepseek_v3(config: Fields) -> Architecture:
    """DeepSeek V2, V3, V3.1, R1 and Kimi K2; token prediction heads are not part of the served model."""
    mixer = _attention(config)
    return decoder(config, [(mixer, ffn, 2) for ffn in _ffns(config, config.layers())])


def sparse_latent(config: Fields) -> Architecture:
    """DeepSeek V3.2 and GLM-5: an indexer picks keys; GLM-5.2 reuses its choice in following layers (``indexer_types``)."""
    layers = config.layers()
    indexer = SparseIndexer(heads=config.integer("index_n_heads"), head_dim=config.integer("index_head_dim"), top_k=config.integer("index_topk"))
    if any(kind not in ("deepseek_sparse_attention", "indexed_attention") for kind in config.entries("layer_types")):
        raise config.refuse("layer_types with entries other than deepseek_sparse_attention")
    types = config.per_layer("indexer_types", layers)
    if types is None:
        config.needs_off("index_topk_freq", "index_topk_pattern")
        types = ["full"] * layers
    unknown = next((kind for kind in types if kind not in ("full", "shared")), None)
    if unknown is not None:
        raise config.refuse(f"indexer_types entry {shown(unknown)}")
    config.skip("index_topk_freq", "index_skip_topk_offset", "index_topk_pattern", "index_share_for_mtp_iteration", "indexer_rope_interleave")
    own = _attention(config, indexer)
    reuse = own.model_copy(update={"indexer": indexer.model_copy(update={"reused": True})})
    return decoder(config, [(own if kind == "full" else reuse, ffn, 2) for kind, ffn in zip(types, _ffns(config, layers), strict=True)])


def deepseek_v4(config: Fields) -> Architecture:
    """Refuse DeepSeek V4."""
    raise config.refuse(
        "DeepSeek V4's compressed attention (compress_ratios), grouped output projection (o_groups), hyper-connections (hc_mult) and hash routing"
    )


def kimi_linear(config: Fields) -> Architecture:
    """Refuse Kimi Linear and K3."""
    parts = ["Kimi delta attention with a decay per channel (linear_attn_config.kda_layers)"]
    parts += [f"{key} = {shown(config.get(key))}" for key in ("attn_res_block_size", "mla_use_output_gate") if config.get(key)]
    if config.get("hidden_act") not in (None, "silu"):
        parts.append(f"hidden_act = {shown(config.get('hidden_act'))}")
    raise config.refuse(", ".join(parts))


FAMILIES = {
    "deepseek_v2": deepseek_v3,
    "deepseek_v3": deepseek_v3,
    "kimi_k2": deepseek_v3,
    "deepseek_v32": sparse_latent,
    "glm_moe_dsa": sparse_latent,
    "deepseek_v4": deepseek_v4,
    "deepseek_ref": deepseek_v4,
    "kimi_linear": kimi_linear,
}
