"""Multi-head latent attention: a narrow cache shared by all heads, expanded in prefill, absorbed in decode."""

import dataclasses

from effsim.specs.model import Attention, LatentAttention
from effsim.workload.features import DECODE_SEQS, ONE, PREFILL_TOKENS, TOKENS, Feature
from effsim.workload.layers import attention
from effsim.workload.layers.common import Lowering, elementwise, gemm, norm, tensor_reduce
from effsim.workload.operations import CacheLayer, Operation


def lower(low: Lowering, mixer: LatentAttention, count: float) -> list[Operation]:
    """Return the operations of ``count`` latent-attention layers on one tensor rank.

    Prefill expands the latent to ``heads · (nope + v)`` numbers a token and attends as usual. Decode multiplies the query by
    the expansion matrix instead (``heads · nope · rank``), reads ``rank + rope`` numbers per cached token for all heads
    together, and expands the result (``heads · rank · v``). Source: DeepSeek-V2 report, arXiv:2405.04434, section 2.1 and
    appendix C.
    """
    heads = low.split("attention heads", mixer.heads)
    rank, rope, nope, value = mixer.kv_lora_rank, mixer.qk_rope_head_dim, mixer.qk_nope_head_dim, mixer.v_head_dim
    query_in = low.hidden if mixer.q_lora_rank is None else mixer.q_lora_rank
    down = rank + rope + (mixer.q_lora_rank or 0)
    byte = low.activation_bytes
    ops = gemm(low, "attention.down", count, (low.hidden, down))
    ops.append(norm(low, "attention.latent_norm", count, width=rank + (mixer.q_lora_rank or 0)))
    ops += gemm(low, "attention.query_up", count, (query_in, heads * (nope + rope)))
    ops.append(elementwise("attention.rotary", count, {TOKENS: float(heads * rope + rope)}, (3.0, byte, byte)))
    if low.phase == "serve":
        ops.append(elementwise("attention.cache_write", count, {TOKENS: float(rank + rope)}, (1.0, byte, low.kv_bytes)))
    if mixer.indexer is not None:
        ops += attention.indexer(low, mixer.indexer, count, query_in)
    ops += gemm(low, "attention.kv_up", count, (rank, heads * (nope + value)), rows={PREFILL_TOKENS: 1.0})
    ops += _decode_products(low, mixer, count, heads)
    window = mixer.indexer.top_k if mixer.indexer else None
    expanded = Attention(heads=heads, kv_heads=heads, head_dim=nope + rope, value_head_dim=value, window=window)
    shape = attention.Heads(heads, heads, nope + rope, value)
    ops += [op for op in attention.score(low, expanded, count, shape) if op.kind == "prefill_attention"]
    ops.append(_decode_score(low, mixer, count, heads))
    ops += attention.ring(low, count, rank + rope)
    ops += gemm(low, "attention.output", count, (heads * value, low.hidden))
    return ops + tensor_reduce(low, "attention", count)


def _decode_products(low: Lowering, mixer: LatentAttention, count: float, heads: int) -> list[Operation]:
    """Return the two absorbed products; their weights are those of ``kv_up``, so they hold no memory of their own."""
    if low.phase == "train":
        return []
    rank, nope, value = mixer.kv_lora_rank, mixer.qk_nope_head_dim, mixer.v_head_dim
    products = []
    for name, inner, cols in (("attention.absorb_query", nope, rank), ("attention.absorb_value", rank, value)):
        (product,) = gemm(low, name, count, (inner, cols), rows={DECODE_SEQS: float(heads)}, fmt=low.base)
        read = {**product.read, ONE: heads * inner * cols * low.base.weight_bytes}
        products.append(dataclasses.replace(product, read=read, groups={ONE: float(heads)}, weight_bytes=0.0))
    return products


def _decode_score(low: Lowering, mixer: LatentAttention, count: float, heads: int) -> Operation:
    """Return the decode kernel: every head against one shared latent key of ``rank + rope``, value the first ``rank`` of it."""
    keys = Feature("decode_keys", mixer.indexer.top_k if mixer.indexer else 0)
    width = mixer.kv_lora_rank + mixer.qk_rope_head_dim
    flop = heads * (2.0 * (width + mixer.kv_lora_rank) + attention.SOFTMAX_FLOP)
    per_query = heads * width * low.activation_bytes
    read = {DECODE_SEQS: per_query, keys: width * low.kv_bytes}
    write = {DECODE_SEQS: heads * mixer.kv_lora_rank * low.activation_bytes}
    return Operation("attention.decode", "decode_attention", count, {keys: flop}, read, write, low.base.compute, rows={DECODE_SEQS: 1.0}, kernels=2.0)


def cache(low: Lowering, mixer: LatentAttention, layers: float) -> CacheLayer:
    """Return what these layers keep per token: ``rank + rope`` numbers a layer, the same on every tensor rank."""
    index = mixer.indexer.head_dim if mixer.indexer and not mixer.indexer.reused else 0
    return CacheLayer(layers * ((mixer.kv_lora_rank + mixer.qk_rope_head_dim) * low.kv_bytes + index))
