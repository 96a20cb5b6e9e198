"""Work on each element by itself: a sum of two arrays, a gated activation, a norm."""

import functools

from effsim.bench.case import Case, Work, in_turn
from effsim.bench.devices.base import ITEM_BYTES, Device

FLOP_PER_ELEMENT = {"add": 1.0, "silu_mul": 6.0, "rms_norm": 4.0}
ARRAYS_MOVED = {"add": 3.0, "silu_mul": 3.0, "rms_norm": 2.0}
WIDTH = 4096


def cases(device: Device, quick: bool) -> list[Case]:
    """Return rows of hidden states as a decoding batch and a prompt have them."""
    rows = (8192, 64, 1024) if device.large else (256, 8)
    names = tuple(FLOP_PER_ELEMENT)
    wanted = [(count, name) for count in (rows[:2] if quick else rows) for name in (names[1:] if quick else names)]
    return [case(name, count, device.native) for count, name in wanted]


def case(name: str, rows: int, dtype: str) -> Case:
    """Return one operation on (rows, 4096)."""
    elements = rows * WIDTH
    moved = ARRAYS_MOVED[name] * elements * ITEM_BYTES[dtype]
    return Case("elementwise", {"operation": name, "rows": rows, "width": WIDTH}, dtype, flop=FLOP_PER_ELEMENT[name] * elements, bytes=moved)


def prepare(case: Case, device: Device) -> Work:
    """Allocate operands."""
    shape, name = (case.whole("rows"), WIDTH), str(case.shape["operation"])
    calls = []
    for _ in range(device.buffers(case.bytes)):
        left, right, out = device.random(shape, case.dtype), device.random(shape, case.dtype), device.zeros(shape, case.dtype)
        weight = device.random((WIDTH,), case.dtype)
        calls.append(
            {
                "add": functools.partial(device.add, left, right, out),
                "silu_mul": functools.partial(device.gated, left, right),
                "rms_norm": functools.partial(device.normalized, left, weight),
            }[name]
        )
    return in_turn(calls, f"{device.facts.library}, {name}")
