"""Multi-head and grouped-query attention: full, windowed, chunked, or sparse behind an indexer."""

from effsim.specs.model import Attention, SparseIndexer
from effsim.workload.features import DECODE_SEQS, PREFILL_TOKENS, TOKENS, Feature
from effsim.workload.layers.common import Lowering, collective, elementwise, gemm, tensor_reduce
from effsim.workload.operations import CacheLayer, Operation

_NAIVE_TRAFFIC = {"serve": (2.0, 2.0), "train": (3.0, 3.5)}
"""Times that naive attention reads and writes a score: product, masked softmax, value product; dropout and its byte mask in training."""
SOFTMAX_FLOP = 5.0  # maximum, subtract, exponential, sum, divide: per score


def lower(low: Lowering, mixer: Attention, count: float) -> list[Operation]:
    """Return the operations of ``count`` attention layers on one tensor rank.

    Scores and values cost ``2 (d_k + d_v)`` FLOPs per head and (query, key) pair; a causal query at position p reads p keys.
    Decode reads the cache once per sequence, whatever the number of query heads in a group.
    """
    heads = low.split("attention heads", mixer.heads)
    kv_heads = kv_heads_of_rank(low, mixer)
    d_k, d_v = mixer.head_dim, mixer.value_head_dim or mixer.head_dim
    own = 0 if mixer.shares_kv else kv_heads
    projected = heads * d_k * (2 if mixer.output_gate else 1) + own * (d_k if mixer.values_are_keys else d_k + d_v)
    ops = gemm(low, "attention.qkv", count, (low.hidden, projected), bias=mixer.qkv_bias)
    ops += _rotate(low, mixer, count, (heads + own) * d_k, own * (d_k + d_v))
    if mixer.indexer is not None:
        ops += indexer(low, mixer.indexer, count, low.hidden)
    ops += score(low, mixer, count, Heads(heads, kv_heads, d_k, d_v))
    ops += ring(low, count, kv_heads * (d_k + d_v))
    if mixer.head_gate:
        ops += gemm(low, "attention.head_gate", count, (low.hidden, heads))
    if mixer.output_gate:
        byte = low.activation_bytes
        ops.append(elementwise("attention.gate", count, {TOKENS: float(heads * d_v)}, (5.0, 2 * byte, byte)))
    ops += gemm(low, "attention.output", count, (heads * d_v, low.hidden), bias=mixer.output_bias)
    return ops + tensor_reduce(low, "attention", count)


def kv_heads_of_rank(low: Lowering, mixer: Attention) -> int:
    """Return a tensor rank's key-value heads: an even share, or one that several ranks hold alike.

    Raises:
        SpecError: Neither number divides the other, which engines refuse, too.
    """
    if mixer.kv_heads < low.tensor and low.tensor % mixer.kv_heads == 0:
        return 1
    return low.split("key-value heads", mixer.kv_heads)


class Heads:
    """Head counts and widths of one tensor rank: query heads, key-value heads, key width, value width."""

    __slots__ = ("keys", "kv", "query", "values")

    def __init__(self, query: int, kv: int, keys: int, values: int) -> None:
        """Keep the four numbers."""
        self.query, self.kv, self.keys, self.values = query, kv, keys, values


def _rotate(low: Lowering, mixer: Attention, count: float, rotated: int, cached: int) -> list[Operation]:
    """Rotary embedding (6 FLOPs a pair, with the Q and K norms where there are any) and the write into the KV cache."""
    byte = low.activation_bytes
    flop = 3.0 + (4.0 if mixer.qk_norm != "none" else 0.0)
    ops = [elementwise("attention.rotary", count, {TOKENS: float(rotated)}, (flop, byte, byte))]
    if low.phase == "serve":
        ops.append(elementwise("attention.cache_write", count, {TOKENS: float(cached)}, (1.0, byte, low.kv_bytes)))
    return ops


def score(low: Lowering, mixer: Attention, count: float, heads: Heads) -> list[Operation]:
    """Return the score-softmax-value kernels, prefill and decode apart."""
    window = mixer.indexer.top_k if mixer.indexer else mixer.window or 0
    chunk = mixer.chunk or 0
    byte = low.activation_bytes
    naive = low.attention == "naive"
    pairs = Feature("prefill_pairs") if naive else Feature("prefill_pairs", window, chunk, low.causal)
    pairs = pairs._replace(causal=False) if naive else pairs  # the whole square is computed, then masked
    fresh = Feature("prefill_keys", window, chunk)
    cached = Feature("decode_keys", window, chunk)
    per_pair = heads.query * (2.0 * (heads.keys + heads.values) + SOFTMAX_FLOP)
    per_query = heads.query * heads.keys * byte
    per_output = heads.query * heads.values * byte
    stored = heads.kv * (heads.keys + heads.values)
    prefill_read = {PREFILL_TOKENS: per_query, fresh: stored * (low.kv_bytes if low.phase == "serve" else byte)}
    prefill_write: dict[Feature, float] = {PREFILL_TOKENS: per_output}
    kernels = 1.0
    if naive:
        read, write = _NAIVE_TRAFFIC[low.phase]
        prefill_read[pairs], prefill_write[pairs] = heads.query * byte * read, heads.query * byte * write
        kernels = 3.0
    dtype = low.base.compute
    return [
        Operation(
            "attention.prefill",
            "prefill_attention",
            count,
            {pairs: per_pair},
            prefill_read,
            prefill_write,
            dtype,
            cols=heads.values,
            inner=heads.keys,
            kernels=kernels,
        ),
        Operation(
            "attention.decode",
            "decode_attention",
            count,
            {cached: per_pair},
            {DECODE_SEQS: per_query, cached: stored * low.kv_bytes},
            {DECODE_SEQS: per_output},
            dtype,
            rows={DECODE_SEQS: float(heads.kv)},
        ),
    ]


def ring(low: Lowering, count: float, numbers: int) -> list[Operation]:
    """Return the passing round of keys and values among context ranks: each ends up having seen those of all."""
    ranks = low.parallelism.context
    if ranks == 1:
        return []
    return [collective("attention.ring", count, "all_gather", "context", {TOKENS: ranks * numbers * low.activation_bytes})]


def indexer(low: Lowering, spec: SparseIndexer, count: float, query_width: int) -> list[Operation]:
    """Return the indexer: its projections, and one narrow score of every query with every cached key, at one byte a number.

    Its one key head is replicated over tensor ranks. Source: DeepSeek-V3.2-Exp report (2025-09), section 2.1. A layer that
    takes the choice of an earlier one has no work.
    """
    if spec.reused:
        return []
    width = low.hidden if spec.kind == "block" else query_width
    head_weights = spec.heads if spec.kind == "lightning" else 0
    ops = gemm(low, "indexer.query", count, (width, spec.heads * spec.head_dim))
    ops += gemm(low, "indexer.key", count, (low.hidden, spec.head_dim + head_weights))
    pairs, cached, fresh = Feature("prefill_pairs", 0, 0, low.causal), Feature("decode_keys"), Feature("prefill_keys")
    flop, dtype = spec.heads * (2.0 * spec.head_dim + 2.0), low.base.compute
    ops.append(Operation("indexer.prefill", "prefill_attention", count, {pairs: flop}, {fresh: float(spec.head_dim)}, {pairs: 4.0}, dtype, kernels=2.0))
    ops.append(Operation("indexer.decode", "decode_attention", count, {cached: flop}, {cached: float(spec.head_dim)}, {cached: 4.0}, dtype, kernels=2.0))
    return ops


def cache(low: Lowering, mixer: Attention, layers: float) -> CacheLayer:
    """Return what these layers keep per token: ``2 · kv_heads · head_dim`` numbers a layer, replicated where ranks exceed heads."""
    kv_heads = kv_heads_of_rank(low, mixer)
    numbers = 0 if mixer.shares_kv else kv_heads * (mixer.head_dim + (mixer.value_head_dim or mixer.head_dim))
    index = mixer.indexer.head_dim if mixer.indexer and not mixer.indexer.reused else 0
    return CacheLayer(layers * (numbers * low.kv_bytes + index), mixer.window or mixer.chunk or 0)
