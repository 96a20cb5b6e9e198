"""Attention of one new token per sequence to all that is cached."""

from typing import Any

from effsim.bench.case import Case, Work, in_turn
from effsim.bench.devices.base import ITEM_BYTES, Device

LARGE = ((32, 2048, 32, 8, 128), (1, 8192, 32, 8, 128), (128, 1024, 32, 8, 128), (8, 8192, 64, 8, 128), (256, 4096, 32, 8, 128), (32, 2048, 32, 32, 128))
"""Batch, context, heads, key-value heads, width of a head."""
SMALL = ((8, 256, 8, 2, 64), (1, 1024, 8, 2, 64), (32, 256, 8, 8, 64))
FLEX = 2


def cases(device: Device, quick: bool) -> list[Case]:
    """Return batches and contexts; by default the first two also through flex attention where PyTorch compiles it."""
    shapes = LARGE if device.large else SMALL
    found = [case(shape, device.native) for shape in (shapes[:2] if quick else shapes)]
    flex = [case(shape, device.native, "flex") for shape in shapes[:FLEX]] if device.large and not quick else []
    return [*found, *flex]


def case(shape: tuple[int, int, int, int, int], dtype: str, method: str = "sdpa") -> Case:
    """Return attention of one query per sequence."""
    batch, context, heads, kv_heads, width = shape
    names = ("batch", "context", "heads", "kv_heads", "head_dim")
    moved = 2.0 * batch * (context * kv_heads + heads) * width * ITEM_BYTES[dtype]
    return Case(
        "decode_attention",
        {**dict(zip(names, shape, strict=True)), "method": method},
        dtype,
        flop=4.0 * batch * heads * width * context,
        bytes=moved,
    )


def prepare(case: Case, device: Device) -> Work:
    """Allocate one query per sequence and the cache.

    Raises:
        NotImplementedError: Flex attention, where the device has none.
    """
    batch, context, width = case.whole("batch"), case.whole("context"), case.whole("head_dim")
    attend, name = _method(str(case.shape["method"]), device)
    calls = []
    for _ in range(device.buffers(case.bytes)):
        query = device.random((batch, case.whole("heads"), 1, width), case.dtype)
        key, value = (device.random((batch, case.whole("kv_heads"), context, width), case.dtype) for _ in range(2))
        calls.append(lambda q=query, k=key, v=value: attend(q, k, v))
    return in_turn(calls, name)


def _method(method: str, device: Device) -> tuple[Any, str]:
    if method == "flex":
        compiled = device.flex_attention()
        return lambda q, k, v: compiled(q, k, v, enable_gqa=q.shape[1] != k.shape[1]), "torch flex_attention, compiled"
    name = "torch scaled_dot_product_attention" if device.facts.library == "torch" else "numpy, scores in memory"
    return lambda q, k, v: device.attention(q, k, v, causal=False), name
