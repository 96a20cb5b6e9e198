"""Copying within the device's memory, by size: reads and writes."""

import functools

from effsim.bench.case import Case, Work, in_turn
from effsim.bench.devices.base import ITEM_BYTES, Device

MIB = 2**20


def cases(device: Device, quick: bool) -> list[Case]:
    """Return sizes from the memory's to those that fit into a cache; operands take turns, so that no cache holds them."""
    sizes = (1024, 64, 8, 256, 2) if device.large else (64, 8, 1)
    return [case(size * MIB, device.native) for size in (sizes[:3] if quick else sizes)]


def case(size_bytes: int, dtype: str) -> Case:
    """Return the copy of so many bytes."""
    return Case("copy", {"elements": size_bytes // ITEM_BYTES[dtype]}, dtype, bytes=2.0 * size_bytes)


def prepare(case: Case, device: Device) -> Work:
    """Allocate sources and targets."""
    shape = (case.whole("elements"),)
    pairs = [(device.zeros(shape, case.dtype), device.random(shape, case.dtype)) for _ in range(device.buffers(case.bytes))]
    return in_turn([functools.partial(device.copy, target, source) for target, source in pairs], f"{device.facts.library} copy")
