"""Products of a mixture of experts: tokens routed at random, each expert with weights of its own."""

import numpy as np

from effsim.bench.case import Case, Work, in_turn
from effsim.bench.devices.base import ITEM_BYTES, Device

SEED = 7
LARGE = ((16, 128, 8, 1536, 2048), (1024, 128, 8, 1536, 2048), (64, 8, 2, 14336, 4096), (128, 128, 8, 1536, 2048), (4096, 8, 2, 14336, 4096))
"""Tokens, experts, experts per token, n, k: the first like Qwen3-30B-A3B's gate and up, the third like Mixtral-8x7B's down."""
SMALL = ((16, 8, 2, 512, 256), (256, 8, 2, 512, 256))


def cases(device: Device, quick: bool) -> list[Case]:
    """Return few and many tokens per expert."""
    shapes = LARGE if device.large else SMALL
    return [case(shape, device.native) for shape in (shapes[:2] if quick else shapes)]


def routed(tokens: int, experts: int, top_k: int) -> list[int]:
    """Return the tokens of each expert when each token picks ``top_k`` different ones at random; the same for each call.

    >>> sum(routed(100, 8, 2))
    200
    """
    rng = np.random.default_rng(SEED)
    picked = np.argsort(rng.random((tokens, experts)), axis=1)[:, :top_k]
    return [int(count) for count in np.bincount(picked.ravel(), minlength=experts)]


def case(shape: tuple[int, int, int, int, int], dtype: str) -> Case:
    """Return one layer's product; the bytes are those of the experts that the tokens touch."""
    tokens, experts, top_k, n, k = shape
    rows, item = tokens * top_k, ITEM_BYTES[dtype]
    touched = sum(count > 0 for count in routed(tokens, experts, top_k))
    names = ("tokens", "experts", "top_k", "n", "k", "touched_experts", "fullest_expert")
    values = (*shape, touched, max(routed(tokens, experts, top_k)))
    return Case(
        "grouped_gemm",
        dict(zip(names, values, strict=True)),
        dtype,
        flop=2.0 * rows * n * k,
        bytes=float((rows * k + touched * k * n + rows * n) * item),
        held_bytes=float((rows * (k + n) + experts * k * n) * item),
    )


def prepare(case: Case, device: Device) -> Work:
    """Allocate tokens and experts."""
    rows = routed(case.whole("tokens"), case.whole("experts"), case.whole("top_k"))
    made = [device.grouped_gemm(rows, (case.whole("n"), case.whole("k")), case.dtype) for _ in range(device.buffers(case.bytes))]
    return in_turn([call for call, _ in made], made[0][1])
