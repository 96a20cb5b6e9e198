"""Models with layer norm and a plain feed-forward layer: GPT-2, OPT, BLOOM, MPT, Falcon, BERT."""

from typing import Any

from effsim.specs.hf.assemble import PLAIN_ACTIVATIONS, Architecture, decoder
from effsim.specs.hf.fields import Fields
from effsim.specs.model import Attention, DenseFfn


def _attention(config: Fields, heads: int, *, bias: bool, kv_heads: int | None = None) -> Attention:
    hidden = config.integer("hidden_size", "n_embd", "d_model", "n_embed")
    if hidden % heads:
        raise config.refuse(f"hidden size {hidden}, no multiple of {heads} heads")
    return Attention(heads=heads, kv_heads=kv_heads or heads, head_dim=hidden // heads, qkv_bias=bias, output_bias=bias)


def _mlp(size: int, activation: str, *, bias: bool) -> DenseFfn:
    return DenseFfn.model_validate({"kind": "dense", "intermediate_size": size, "activation": activation, "bias": bias})


def gpt2(config: Fields) -> Architecture:
    """GPT-2: learned positions, biases everywhere, tied embedding."""
    config = config.with_defaults({"vocab_size": 50_257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12})
    config.needs_off("add_cross_attention")
    config.skip("n_ctx")
    mixer = _attention(config, config.integer("n_head", "num_attention_heads"), bias=True)
    activation = config.choice("activation_function", allowed=PLAIN_ACTIVATIONS, default="gelu_new")
    ffn = _mlp(config.optional("n_inner") or 4 * config.integer("n_embd", "hidden_size"), activation, bias=True)
    layers = config.layers("n_layer", "num_hidden_layers")
    return decoder(config, [(mixer, ffn, 2)] * layers, tied=True, norm="layer", learned_positions=config.integer("n_positions"))


def opt(config: Fields) -> Architecture:
    """OPT: learned positions with an offset of 2, biases everywhere, tied embedding."""
    hidden = config.integer("hidden_size")
    if config.optional("word_embed_proj_dim") not in (None, hidden):
        raise config.refuse(f"word_embed_proj_dim = {config.get('word_embed_proj_dim')} unlike hidden_size")
    if not config.flag("do_layer_norm_before", default=True):
        raise config.refuse("do_layer_norm_before = False")
    config.needs_off("_remove_final_layer_norm")
    config.skip("layer_norm_elementwise_affine", "layerdrop", "prefix")
    bias = config.flag("enable_bias", default=True)
    activation = config.choice("activation_function", allowed=PLAIN_ACTIVATIONS, default="relu")
    layer = (_attention(config, config.integer("num_attention_heads"), bias=bias), _mlp(config.integer("ffn_dim"), activation, bias=bias), 2)
    positions = config.integer("max_position_embeddings") + 2
    return decoder(config, [layer] * config.layers(), tied=True, norm="layer", learned_positions=positions)


def bloom(config: Fields) -> Architecture:
    """BLOOM: a norm after the embedding, biases everywhere, tied embedding; its linear position bias has no weights."""
    config.skip("n_inner", "unk_token_id", "seq_length", "offset_alibi")
    heads = config.integer("n_head", "num_attention_heads")
    hidden = config.integer("hidden_size", "n_embed")
    layer = (_attention(config, heads, bias=True), _mlp(4 * hidden, "gelu", bias=True), 2)
    copy = config.with_defaults({"hidden_size": hidden})
    return decoder(copy, [layer] * config.layers("n_layer", "num_hidden_layers"), tied=True, norm="layer", embedding_norm=True)


def mpt(config: Fields) -> Architecture:
    """MPT: positions are learned unless ALiBi is on; no biases in layers and norms unless ``no_bias`` is off."""
    attention = config.part("attn_config") or Fields({}, config.where)
    attention.needs_off("qk_ln", "qk_gn")
    alibi = attention.flag("alibi")
    config.skip("embedding_fraction", "ffn_config", "init_config", "norm_type", "logit_scale", "use_norm_bias")
    bias = not config.flag("no_bias", default=True)
    heads = config.integer("n_heads", "num_attention_heads")
    mixer = _attention(config, heads, bias=bias, kv_heads=attention.optional("kv_n_heads"))
    ffn = _mlp(config.integer("d_model") * (config.optional("expansion_ratio") or 4), "gelu", bias=bias)
    learned = config.integer("max_seq_len") if config.flag("learned_pos_emb", default=True) and not alibi else 0
    layers = config.layers("n_layers", "num_hidden_layers")
    return decoder(config, [(mixer, ffn, 2)] * layers, tied=True, norm="layer", norm_bias=bias, learned_positions=learned)


def falcon(config: Fields) -> Architecture:
    """Falcon 7B to 180B: attention and feed-forward side by side, one or few key-value heads, tied embedding."""
    heads = config.integer("num_attention_heads", "n_head")
    new = config.flag("new_decoder_architecture")
    if new:
        kv_heads = config.optional("num_kv_heads") or heads
    else:
        kv_heads = 1 if config.flag("multi_query", default=True) else heads
    config.skip("num_kv_heads", "multi_query", "ffn_hidden_size")
    parallel = config.flag("parallel_attn", default=True)
    stated = config.optional("num_ln_in_parallel_attn")
    norms = (stated or 2) if new else (1 if parallel else 2)
    bias = config.flag("bias")
    size = config.optional("ffn_hidden_size") or 4 * config.integer("hidden_size")
    activation = config.choice("activation", allowed=PLAIN_ACTIVATIONS, default="gelu")
    layer = (_attention(config, heads, bias=bias, kv_heads=kv_heads), _mlp(size, activation, bias=bias), norms)
    return decoder(config, [layer] * config.layers("num_hidden_layers", "n_layer"), tied=True, norm="layer")


BERT_DEFAULTS: dict[str, Any] = {"type_vocab_size": 2, "hidden_act": "gelu"}


def bert(config: Fields) -> Architecture:
    """BERT with its masked-language head: norms after each part, token types; pooler and head transform are other parameters.

    The head is a dense layer (h, h) with bias, a norm, and the tied decoder with a bias per word; the pooler is (h, h) with
    bias; next-sentence prediction is (h, 2) with bias.
    """
    config = config.with_defaults(BERT_DEFAULTS)
    config.choice("position_embedding_type", allowed={"absolute": "absolute"}, default="absolute")
    config.needs_off("is_decoder", "add_cross_attention")
    hidden = config.integer("hidden_size")
    mixer = _attention(config, config.integer("num_attention_heads"), bias=True)
    activation = config.choice("hidden_act", allowed=PLAIN_ACTIVATIONS, default="gelu")
    layer = (mixer, _mlp(config.integer("intermediate_size"), activation, bias=True), 2)
    result = decoder(
        config, [layer] * config.layers(), tied=True, norm="layer", causal=False, embedding_norm=True, final_norm=False,
        head_bias=True, learned_positions=config.integer("max_position_embeddings"), token_types=config.integer("type_vocab_size"),
    )  # fmt: skip
    square = hidden * hidden + hidden
    return Architecture(result.hidden_size, result.vocab_size, result.blocks, result.extra, other_parameters=2 * square + 2 * hidden + 2 * hidden + 2)


FAMILIES = {"gpt2": gpt2, "opt": opt, "bloom": bloom, "mpt": mpt, "falcon": falcon, "bert": bert}
