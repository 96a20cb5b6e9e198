"""What a kernel costs that has next to nothing to do: issued from Python, and replayed from a recording where the device has one."""

from effsim.bench.case import Case, Work
from effsim.bench.devices.base import ITEM_BYTES, Device

ELEMENTS = 16
CALLS = 32


def cases(device: Device, quick: bool) -> list[Case]:
    """Return issued and recorded calls."""
    del quick
    modes = ("replayed", "issued") if device.large else ("issued",)
    return [case(mode, device.native) for mode in modes]


def case(mode: str, dtype: str) -> Case:
    """Return the sum of two arrays of 16 elements."""
    return Case("launch", {"elements": ELEMENTS, "mode": mode}, dtype, flop=float(ELEMENTS), bytes=3.0 * ELEMENTS * ITEM_BYTES[dtype])


def prepare(case: Case, device: Device) -> Work:
    """Allocate two small arrays."""
    left, right, out = (device.zeros((ELEMENTS,), case.dtype) for _ in range(3))

    def run() -> None:
        for _ in range(CALLS):
            device.add(left, right, out)

    return Work(run, f"{device.facts.library} add", calls=CALLS, recordable=case.shape["mode"] == "replayed")
