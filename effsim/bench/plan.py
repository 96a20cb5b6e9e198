"""Which cases a run measures, and in which order: the most telling of every kernel first, so that a short run loses the least."""

import dataclasses
from typing import Final

from effsim.bench.case import NAMES, Case, kernel
from effsim.bench.devices.base import Device
from effsim.bench.measure import Settings

FIRST: Final = "idle"
LIMITED: Final = ("gemm", "decode_attention", "transformer")
LIMITED_CASES: Final = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Planned:
    """A case and the kernel that prepares it."""

    kernel: str
    case: Case


def plan(device: Device, settings: Settings) -> list[Planned]:
    """Return what to measure, in order; power limits that the user asks for come last, one after the other.

    Raises:
        SpecError: A kernel that does not exist.
    """
    placed = []
    for name in settings.only or NAMES:
        cases = kernel(name).cases(device, settings.quick)
        placed += [((index / len(cases), name != FIRST, name), Planned(name, case)) for index, case in enumerate(cases)]
    ordered = [planned for _, planned in sorted(placed, key=lambda pair: pair[0])]
    seen: dict[str, int] = {}
    telling = []
    for planned in ordered:
        seen[planned.kernel] = seen.get(planned.kernel, 0) + 1
        if planned.kernel in LIMITED and seen[planned.kernel] <= LIMITED_CASES:
            telling.append(planned)
    for limit_w in settings.power_limits_w:
        ordered += [dataclasses.replace(planned, case=dataclasses.replace(planned.case, power_limit_w=limit_w)) for planned in telling]
    return ordered
