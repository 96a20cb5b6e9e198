"""Causal attention over whole prompts."""

from effsim.bench.case import Case, Work, in_turn
from effsim.bench.devices.base import ITEM_BYTES, Device

LARGE = ((1, 4096, 32, 8, 128), (8, 1024, 32, 8, 128), (1, 16384, 32, 8, 128), (4, 2048, 32, 32, 128), (8, 2048, 32, 8, 64))
"""Batch, context, heads, key-value heads, width of a head."""
SMALL = ((1, 256, 8, 2, 64), (4, 128, 8, 8, 64), (1, 512, 8, 2, 64))


def cases(device: Device, quick: bool) -> list[Case]:
    """Return prompts, long and short."""
    shapes = LARGE if device.large else SMALL
    return [case(shape, device.native) for shape in (shapes[:2] if quick else shapes)]


def case(shape: tuple[int, int, int, int, int], dtype: str) -> Case:
    """Return attention of all tokens of a prompt to those before them; FLOPs are those under the diagonal and on it."""
    batch, context, heads, kv_heads, width = shape
    pairs = context * (context + 1) / 2.0
    names = ("batch", "context", "heads", "kv_heads", "head_dim")
    moved = 2.0 * batch * context * (heads + kv_heads) * width * ITEM_BYTES[dtype]
    return Case("prefill_attention", dict(zip(names, shape, strict=True)), dtype, flop=4.0 * batch * heads * width * pairs, bytes=moved)


def prepare(case: Case, device: Device) -> Work:
    """Allocate queries, keys and values."""
    batch, context, width = case.whole("batch"), case.whole("context"), case.whole("head_dim")
    calls = []
    for _ in range(device.buffers(case.bytes)):
        query, key, value = (
            device.random((batch, heads, context, width), case.dtype) for heads in (case.whole("heads"), case.whole("kv_heads"), case.whole("kv_heads"))
        )
        calls.append(lambda q=query, k=key, v=value: device.attention(q, k, v, causal=True))
    return in_turn(calls, "torch scaled_dot_product_attention" if device.facts.library == "torch" else "numpy, scores in memory")
