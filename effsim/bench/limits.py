"""Power limits and clocks of an NVIDIA GPU, set only at the user's explicit request and put back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from effsim.bench.conditions import Watch
from effsim.bench.devices.base import Device
from effsim.bench.machine import module
from effsim.errors import MeterUnavailableError, SpecError


@contextmanager
def power_limited(device: Device, limit_w: float | None) -> Iterator[None]:
    """Hold a GPU at a power limit within the block; the limit found is put back, also after an error or an interrupt.

    Args:
        device: To limit.
        limit_w: ``None``: change nothing.

    Raises:
        SpecError: Outside what the GPU allows, or no NVIDIA GPU.
        MeterUnavailableError: The driver does not permit it.
    """
    if limit_w is None:
        yield
        return
    nvml, handle = _driver(device, "--power-limit")
    low, high = (bound * 1e-3 for bound in nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle))
    if not low <= limit_w <= high:
        raise SpecError(f"--power-limit: {limit_w:g} W is outside what {device.facts.model} allows: {low:g} W to {high:g} W")
    before = nvml.nvmlDeviceGetPowerManagementLimit(handle)
    _permitted(nvml, "--power-limit", lambda: nvml.nvmlDeviceSetPowerManagementLimit(handle, round(limit_w * 1e3)))
    try:
        yield
    finally:
        nvml.nvmlDeviceSetPowerManagementLimit(handle, before)


@contextmanager
def clock_locked(device: Device, clock_hz: float | None) -> Iterator[None]:
    """Hold the clock of a GPU within the block; afterwards it is free again.

    Args:
        device: To hold.
        clock_hz: ``None``: change nothing.

    Raises:
        SpecError: No NVIDIA GPU.
        MeterUnavailableError: The driver does not permit it.
    """
    if clock_hz is None:
        yield
        return
    nvml, handle = _driver(device, "--lock-clock")
    megahertz = round(clock_hz * 1e-6)
    _permitted(nvml, "--lock-clock", lambda: nvml.nvmlDeviceSetGpuLockedClocks(handle, megahertz, megahertz))
    try:
        yield
    finally:
        nvml.nvmlDeviceResetGpuLockedClocks(handle)


def _driver(device: Device, option: str) -> tuple[Any, Any]:
    if device.facts.kind != "cuda":
        raise SpecError(f"{option}: only NVIDIA GPUs have it here; measured is {device.facts.name} ({device.facts.model})")
    module("pynvml")
    watch = Watch(device)
    if watch.nvml is None:
        raise MeterUnavailableError(f"{option}: the NVIDIA driver cannot be reached; see `effsim meters`")
    return watch.nvml, watch.handle


def _permitted(nvml: Any, option: str, act: Any) -> None:
    try:
        act()
    except nvml.NVMLError as error:
        raise MeterUnavailableError(f"{option}: the driver refuses ({error}); changing limits needs administrator rights: leave the option out") from None
