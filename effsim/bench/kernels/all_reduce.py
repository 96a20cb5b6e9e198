"""Sum of an array over several devices; only where there are several."""

from effsim.bench.case import Case, Work
from effsim.bench.devices.base import ITEM_BYTES, Device

SIZES_BYTES = (2**16, 2**26, 2**20, 2**12, 2**28)


def cases(device: Device, quick: bool) -> list[Case]:
    """Return sizes over two devices and over all."""
    counts = sorted({count for count in (2, device.facts.count) if 1 < count <= device.facts.count})
    sizes = SIZES_BYTES[:2] if quick else SIZES_BYTES
    return [case(size, count, device.native) for size in sizes for count in counts]


def case(size_bytes: int, devices: int, dtype: str) -> Case:
    """Return the sum of ``size_bytes`` per device; the bytes are those that a ring sends from each."""
    elements = size_bytes // ITEM_BYTES[dtype]
    return Case("all_reduce", {"elements": elements, "devices": devices}, dtype, flop=float(elements), bytes=2.0 * (devices - 1) / devices * size_bytes)


def prepare(case: Case, device: Device) -> Work:
    """Allocate the parts."""
    call, name = device.all_reduce(case.whole("elements"), case.dtype, case.whole("devices"))
    return Work(call, name, recordable=False)
