"""Under which conditions a kernel ran: clocks, temperature, throttling, load."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from effsim.bench.devices.base import Device
from effsim.bench.machine import installed, module, read

REASONS: Final = {
    "GpuIdle": "idle",
    "ApplicationsClocksSetting": "application clocks",
    "SwPowerCap": "power limit",
    "HwSlowdown": "hardware slowdown",
    "SyncBoost": "sync boost",
    "SwThermalSlowdown": "temperature",
    "HwThermalSlowdown": "temperature (hardware)",
    "HwPowerBrakeSlowdown": "power brake",
    "DisplayClockSetting": "display clocks",
}
"""Names of NVML's clock event reasons, ``nvmlClocksThrottleReason*`` (NVML API reference, nvmlClocksEventReasons)."""

HARMLESS: Final = {"idle"}
BUSY_LOAD_RATIO: Final = 1.2


class Watch:
    """Looks at the conditions of a device.

    Args:
        device: To look at.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.nvml, self.handle = _open(device)

    @property
    def meter_device(self) -> str | None:
        """The name under which meters know the device; ``None``: a processor, or a chip that holds both."""
        kind, number = self._device.facts.kind, self._device.facts.name.partition(":")[2] or "0"
        if self.nvml is not None:
            return f"gpu{self.nvml.nvmlDeviceGetIndex(self.handle)}"
        return {"cuda": f"gpu{number}", "rocm": f"amd{number}"}.get(kind)

    def look(self) -> dict[str, Any]:
        """Return what can be read now; what cannot is left out."""
        return self._gpu() if self.nvml is not None else _cpu()

    def _gpu(self) -> dict[str, Any]:
        nvml, handle = self.nvml, self.handle
        queries: dict[str, Callable[[], Any]] = {
            "sm_clock_hz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM) * 1e6,
            "memory_clock_hz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM) * 1e6,
            "temperature_degc": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "power_limit_w": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) * 1e-3,
            "throttled_by": lambda: _reasons(nvml, nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
        }
        found = {}
        for name, query in queries.items():
            try:
                found[name] = query()
            except (nvml.NVMLError, AttributeError):
                continue
        return found


def _open(device: Device) -> tuple[Any, Any]:
    """Return NVML and the handle of the device, found by its UUID, for PyTorch's numbers are not always NVML's."""
    if device.facts.kind != "cuda" or not installed("pynvml"):
        return None, None
    nvml = module("pynvml")
    try:
        nvml.nvmlInit()
        properties: Any = module("torch").cuda.get_device_properties(device.facts.name)
        uuid = getattr(properties, "uuid", None)
        if uuid is not None:
            return nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        return nvml, nvml.nvmlDeviceGetHandleByIndex(int(device.facts.name.partition(":")[2]))
    except nvml.NVMLError:
        return None, None


def _reasons(nvml: Any, bits: int) -> list[str]:
    return [words for name, words in REASONS.items() if bits & int(getattr(nvml, f"nvmlClocksThrottleReason{name}", 0))]


def _cpu(root: Path = Path("/")) -> dict[str, Any]:
    clocks = [float(found) for found in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", read(root / "proc/cpuinfo"), re.MULTILINE)]
    zones = [read(path).strip() for path in sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))]
    degrees = [int(text) / 1000.0 for text in zones if text.lstrip("-").isdigit()]
    found: dict[str, Any] = {}
    if clocks:
        found["clock_hz"] = sum(clocks) / len(clocks) * 1e6
    if degrees:
        found["temperature_degc"] = max(degrees)
    if hasattr(os, "getloadavg"):
        found["load"] = os.getloadavg()[0]
    return found


def remarks(before: Mapping[str, Any], after: Mapping[str, Any], cores: int) -> tuple[str, ...]:
    """Return what a reader of the row must know of the conditions.

    >>> remarks({"load": 0.5}, {"throttled_by": ["idle", "power limit"]}, 8)
    ('throttled by power limit',)
    """
    slowed = [reason for reason in after.get("throttled_by", ()) if reason not in HARMLESS]
    notes = [f"throttled by {', '.join(slowed)}"] if slowed else []
    if before.get("load", 0.0) > BUSY_LOAD_RATIO * cores:
        notes.append(f"other programs ran: load {before['load']:.1f} on {cores} cores")
    return tuple(notes)
