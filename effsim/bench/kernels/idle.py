"""Power of the device while nothing is asked of it; the library is loaded and, on a GPU, its context held."""

from effsim.bench.case import Case, Work
from effsim.bench.devices.base import Device


def cases(device: Device, quick: bool) -> list[Case]:
    """Return one case; without a meter there is nothing to see."""
    del device, quick
    return [Case("idle", duty_ratio=0.0)]


def prepare(case: Case, device: Device) -> Work:
    """Do nothing."""
    del case, device
    return Work(lambda: None, "none")
