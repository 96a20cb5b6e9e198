"""Gated delta net: linear attention whose matrix state forgets and corrects itself."""

from effsim.specs.model import GatedDeltaNet
from effsim.workload.features import DECODE_SEQS, PREFILL_TOKENS, TOKENS
from effsim.workload.layers.common import Lowering, elementwise, gemm, norm, tensor_reduce
from effsim.workload.operations import CacheLayer, Operation

CHUNK = 64  # tokens of a chunk of the WY form; Yang et al., arXiv:2412.06464, section 3.3
STATE_BYTES = 4.0  # kept in fp32


def lower(low: Lowering, mixer: GatedDeltaNet, count: float) -> list[Operation]:
    """Return the operations of ``count`` gated-delta-net layers on one tensor rank.

    The state has ``value_heads · d_k · d_v`` numbers a sequence. Decode: decay, prediction, correction and read-out, 8 FLOPs a
    number. Prefill per token and value head: ``6 d_k d_v`` against the state and ``C (3 d_k + 2 d_v)`` within a chunk of C.
    """
    key_heads = max(1, mixer.key_heads // low.tensor)
    value_heads = low.split("delta-net value heads", mixer.value_heads)
    keys, values, byte = key_heads * mixer.key_head_dim, value_heads * mixer.value_head_dim, low.activation_bytes
    channels = 2 * keys + values
    ops = gemm(low, "delta_net.input", count, (low.hidden, channels + values + 2 * value_heads))
    ops.append(elementwise("delta_net.conv", count, {TOKENS: float(channels)}, (2.0 * mixer.conv_kernel + 4.0, byte, byte)))
    ops += _scan(low, mixer, count, value_heads)
    ops.append(norm(low, "delta_net.gated_norm", count, width=values))
    ops += gemm(low, "delta_net.output", count, (values, low.hidden))
    return ops + tensor_reduce(low, "delta_net", count)


def _scan(low: Lowering, mixer: GatedDeltaNet, count: float, heads: int) -> list[Operation]:
    d_k, d_v, byte = mixer.key_head_dim, mixer.value_head_dim, low.activation_bytes
    state = float(heads * d_k * d_v)
    moved = heads * (2.0 * d_k + d_v) * byte
    prefill = heads * (6.0 * d_k * d_v + CHUNK * (3.0 * d_k + 2.0 * d_v))
    return [
        Operation(
            "delta_net.scan_decode",
            "scan",
            count,
            {DECODE_SEQS: 8.0 * state},
            {DECODE_SEQS: state * STATE_BYTES + moved},
            {DECODE_SEQS: state * STATE_BYTES + heads * d_v * byte},
        ),
        Operation(
            "delta_net.scan_prefill",
            "scan",
            count,
            {PREFILL_TOKENS: prefill},
            {PREFILL_TOKENS: moved + state * STATE_BYTES / CHUNK},
            {PREFILL_TOKENS: heads * d_v * byte + state * STATE_BYTES / CHUNK},
            low.base.compute,
            kernels=5.0,
        ),
    ]


def cache(low: Lowering, mixer: GatedDeltaNet, layers: float) -> CacheLayer:
    """Return the state that these layers keep per sequence, whatever its length."""
    value_heads = low.split("delta-net value heads", mixer.value_heads)
    channels = 2 * max(1, mixer.key_heads // low.tensor) * mixer.key_head_dim + value_heads * mixer.value_head_dim
    state = value_heads * mixer.key_head_dim * mixer.value_head_dim * STATE_BYTES
    return CacheLayer(bytes_per_sequence=layers * (state + channels * (mixer.conv_kernel - 1) * low.activation_bytes))
