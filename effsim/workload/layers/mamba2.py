"""Mamba-2 state-space mixer: a recurrence in decode, chunked matrix products in prefill."""

from effsim.specs.model import Mamba2
from effsim.workload.features import DECODE_SEQS, PREFILL_TOKENS, TOKENS
from effsim.workload.layers.common import Lowering, elementwise, gemm, norm, tensor_reduce
from effsim.workload.operations import CacheLayer, Operation

CHUNK = 256  # tokens of a chunk of the state-space-dual form; Dao and Gu, arXiv:2405.21060, section 6
STATE_BYTES = 4.0  # the recurrent state is kept in fp32 (mamba_ssm_cache_dtype of the published configs)


def lower(low: Lowering, mixer: Mamba2, count: float) -> list[Operation]:
    """Return the operations of ``count`` Mamba-2 layers on one tensor rank.

    Decode updates a state of ``heads · head_dim · state_dim`` numbers a sequence: decay, outer product, read-out, 6 FLOPs a
    number. Prefill per token: within a chunk of Q, ``Q · groups · state`` for C·B and ``Q · heads · head_dim`` for the product
    with X (causal halves of 2·Q·…), then ``4 · heads · head_dim · state`` to build and read chunk states.
    """
    heads = low.split("Mamba heads", mixer.heads)
    groups = max(1, mixer.groups // low.tensor)
    inner, byte = heads * mixer.head_dim, low.activation_bytes
    channels = inner + 2 * groups * mixer.state_dim
    state = float(inner * mixer.state_dim)
    ops = gemm(low, "mamba.input", count, (low.hidden, inner + channels + heads))
    ops.append(elementwise("mamba.conv", count, {TOKENS: float(channels)}, (2.0 * mixer.conv_kernel, byte, byte)))
    ops += _scan(low, mixer, count, state, (inner, groups))
    ops.append(norm(low, "mamba.gated_norm", count, width=inner))
    ops += gemm(low, "mamba.output", count, (inner, low.hidden))
    return ops + tensor_reduce(low, "mamba", count)


def _scan(low: Lowering, mixer: Mamba2, count: float, state: float, shape: tuple[int, int]) -> list[Operation]:
    inner, groups = shape
    byte, moved = low.activation_bytes, float(inner * 2 + 2 * groups * mixer.state_dim)
    within = CHUNK * (groups * mixer.state_dim + inner)
    prefill = within + 4.0 * state
    return [
        Operation(
            "mamba.scan_decode",
            "scan",
            count,
            {DECODE_SEQS: 6.0 * state},
            {DECODE_SEQS: state * STATE_BYTES + moved * byte},
            {DECODE_SEQS: state * STATE_BYTES + inner * byte},
        ),
        Operation(
            "mamba.scan_prefill",
            "scan",
            count,
            {PREFILL_TOKENS: prefill},
            {PREFILL_TOKENS: moved * byte + state * STATE_BYTES / CHUNK},
            {PREFILL_TOKENS: inner * byte + state * STATE_BYTES / CHUNK},
            low.base.compute,
            kernels=5.0,
        ),
    ]


def cache(low: Lowering, mixer: Mamba2, layers: float) -> CacheLayer:
    """Return the state that these layers keep per sequence, whatever its length."""
    heads, groups = low.split("Mamba heads", mixer.heads), max(1, mixer.groups // low.tensor)
    inner = heads * mixer.head_dim
    convolution = (inner + 2 * groups * mixer.state_dim) * (mixer.conv_kernel - 1) * low.activation_bytes
    return CacheLayer(bytes_per_sequence=layers * (inner * mixer.state_dim * STATE_BYTES + convolution))
