"""Reading the device's memory, by size: the maximum of an array."""

import functools

from effsim.bench.case import Case, Work, in_turn
from effsim.bench.devices.base import ITEM_BYTES, Device
from effsim.bench.kernels.copy import MIB


def cases(device: Device, quick: bool) -> list[Case]:
    """Return sizes, large first."""
    sizes = (1024, 64, 256, 8) if device.large else (64, 8, 1)
    return [case(size * MIB, device.native) for size in (sizes[:2] if quick else sizes)]


def case(size_bytes: int, dtype: str) -> Case:
    """Return the reading of so many bytes."""
    elements = size_bytes // ITEM_BYTES[dtype]
    return Case("read", {"elements": elements}, dtype, flop=float(elements), bytes=float(size_bytes))


def prepare(case: Case, device: Device) -> Work:
    """Allocate the arrays."""
    arrays = [device.random((case.whole("elements"),), case.dtype) for _ in range(device.buffers(case.bytes))]
    return in_turn([functools.partial(device.maximum, array) for array in arrays], f"{device.facts.library} maximum")
