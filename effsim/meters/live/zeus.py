"""What Zeus reads and this package does not: AMD GPUs, Apple silicon, Jetson. NVIDIA GPUs and RAPL are left to their own meters."""

import contextlib
from collections.abc import Callable
from typing import Any, Final

from effsim.meters import facts
from effsim.meters.base import Channel, Obstacle, Scope, Source, SourceMeter

try:
    from zeus.device import gpu as zeus_gpu
    from zeus.device import soc as zeus_soc
except ImportError:
    zeus_gpu = zeus_soc = None

MILLI: Final = 1e-3
SOC_PARTS: Final[dict[str, tuple[str, Scope]]] = {
    "cpu_total_mj": ("cpu", "processor"),
    "gpu_mj": ("gpu", "accelerator"),
    "gpu_sram_mj": ("gpu-sram", "accelerator"),
    "ane_mj": ("ane", "accelerator"),
    "dram_mj": ("dram", "memory"),
    "cpu_energy_mj": ("cpu", "processor"),
    "gpu_energy_mj": ("gpu", "accelerator"),
    "total_energy_mj": ("board", "platform"),
}
"""Counters of Zeus' measurements on a chip that holds CPU and GPU (Apple's first, then Jetson's) -> device and scope; their parts are left out."""


class Live(SourceMeter):
    """Reads the counters that Zeus offers on machines of these kinds."""

    title = "Zeus"

    def __init__(self) -> None:
        super().__init__()
        if zeus_gpu is None:
            self._obstacles.append(Obstacle("", "the package zeus is not installed", 'for AMD GPUs, Apple silicon and Jetson: pip install "effsim[meters]"'))
            return
        self._add_gpus()
        self._add_soc()
        if not self._sources and not self._obstacles:
            self._obstacles.append(Obstacle("", "Zeus finds no AMD GPU, Apple silicon or Jetson"))

    def _failure(self, error: Exception) -> str | None:
        return f"{type(error).__name__}: {error}"

    def _add_gpus(self) -> None:
        try:
            if not zeus_gpu.amdsmi_is_available():
                return
            gpus = zeus_gpu.get_gpus()
        except Exception as error:
            self._obstacles.append(Obstacle("", f"AMD GPUs: {type(error).__name__}: {error}", state="failed"))
            return
        if type(gpus).__name__.startswith("NVIDIA"):  # with both kinds in a machine, Zeus takes the NVIDIA ones
            self._obstacles.append(Obstacle("", "Zeus reads the NVIDIA GPUs of this machine, not its AMD GPUs"))
            return
        for index in range(len(gpus)):
            device = f"amd{index}"
            try:
                model = _call(gpus, "get_name", "getName", index)
                limit_w = _call(gpus, "get_power_management_limit_constraints", "getPowerManagementLimitConstraints", index)[1] * MILLI
                if _call(gpus, "supports_get_total_energy_consumption", "supportsGetTotalEnergyConsumption", index):
                    self._keep(device, "energy", model, limit_w, _reader(gpus, "get_total_energy_consumption", "getTotalEnergyConsumption", index))
                self._keep(device, "power", model, limit_w, _reader(gpus, "get_instant_power_usage", "getInstantPowerUsage", index))
            except Exception as error:
                self._obstacles.append(Obstacle(device, f"{type(error).__name__}: {error}", state="failed"))

    def _keep(self, device: str, quantity: Any, model: str, limit_w: float, read: Callable[[], float]) -> None:
        read()  # what does not answer now is an obstacle, not a channel
        preference = 0 if quantity == "energy" else 1
        channel = Channel(f"zeus/{device}/{quantity}", device, "accelerator", quantity, MILLI, model, max_power_w=limit_w, preference=preference)
        self._sources.append(Source(channel, read))

    def _add_soc(self) -> None:
        soc = None
        with contextlib.suppress(Exception):  # no such chip is no fault; get_soc raises for it
            soc = zeus_soc.get_soc()
        if soc is None or type(soc).__name__ == "EmptySoC":
            return

        def read(field: str) -> float:
            return float(getattr(_call(soc, "get_total_energy_consumption", "getTotalEnergyConsumption"), field))

        try:
            now = _call(soc, "get_total_energy_consumption", "getTotalEnergyConsumption")
        except Exception as error:
            self._obstacles.append(Obstacle("", f"{type(soc).__name__}: {type(error).__name__}: {error}", state="failed"))
            return
        for field, (device, scope) in SOC_PARTS.items():
            if getattr(now, field, None) is not None:
                name, period_s = f"zeus/{device}/energy", facts.SOC_PERIOD.value
                channel = Channel(name, device, scope, "energy", MILLI, type(soc).__name__, period_s=period_s)
                self._sources.append(Source(channel, lambda field=field: read(field)))  # type: ignore[misc]


def _call(owner: Any, name: str, older: str, *arguments: Any) -> Any:
    """Call a method by its name, or by that of Zeus before 0.13."""
    return (getattr(owner, name, None) or getattr(owner, older))(*arguments)


def _reader(owner: Any, name: str, older: str, index: int) -> Callable[[], float]:
    return lambda: float(_call(owner, name, older, index))
