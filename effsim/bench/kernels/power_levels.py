"""Power at several levels of load: a large product or a copy issued in a share of each tenth of a second; clocks and limits are left alone."""

import dataclasses

from effsim.bench.case import Case, Work
from effsim.bench.devices.base import Device
from effsim.bench.kernels import copy, gemm

SHARES = (0.5, 0.1, 0.25, 0.75, 0.9)


def cases(device: Device, quick: bool) -> list[Case]:
    """Return shares of a product that keeps the matrix units busy and, by default, of a copy."""
    product = gemm.case(gemm.LARGE[0] if device.large else gemm.SMALL[0], device.native)
    traffic = copy.case((256 if device.large else 64) * copy.MIB, device.native)
    wanted = [(product, share) for share in (SHARES[:2] if quick else SHARES)] + ([] if quick else [(traffic, share) for share in SHARES[:2]])
    return [dataclasses.replace(case, kind=f"{case.kind}_duty", duty_ratio=share) for case, share in wanted]


def prepare(case: Case, device: Device) -> Work:
    """Allocate the operands of the kernel underneath."""
    return (gemm.prepare if case.kind == "gemm_duty" else copy.prepare)(case, device)
