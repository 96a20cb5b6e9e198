"""NVIDIA GPUs through NVML: the energy counter, and power beside it.

The counter (Volta and newer) holds millijoules since the driver was loaded. Momentary and averaged power are read too, so that
two ways to the same joules can be compared.
"""

import contextlib
import os
from dataclasses import replace
from typing import Any, Final

from effsim.meters import facts
from effsim.meters.base import Channel, Obstacle, Source, SourceMeter

try:
    import pynvml
except ImportError:
    pynvml = None

MILLI: Final = 1e-3
AMPERE: Final = 7
GA100: Final = ("A100", "A30", "A800", "PG506", "PG509")
"""Cards of the one Ampere chip whose plain power reading is momentary; the last two are boards of the A100."""

FIELD_AVERAGE: Final = 185
FIELD_INSTANT: Final = 186
"""NVML_FI_DEV_POWER_AVERAGE and NVML_FI_DEV_POWER_INSTANT of nvml.h."""

FIELD_UNION: Final = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Members of nvmlValue_t in the order of nvmlValueType_t."""

NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, GPU_IS_LOST, VERSION_MISMATCH = 3, 4, 9, 12, 15, 18
"""Codes of nvmlReturn_t."""

HELP: Final = {
    NOT_SUPPORTED: ("this GPU or driver does not offer it", "", "absent"),
    NO_PERMISSION: (
        "the driver refuses it to this user",
        "container: start it with --gpus all and NVIDIA_DRIVER_CAPABILITIES=utility; else ask the administrator for access to /dev/nvidia*",
        "denied",
    ),
    DRIVER_NOT_LOADED: ("the NVIDIA driver is installed but not loaded", "as root: modprobe nvidia; then see whether nvidia-smi answers", "failed"),
    LIBRARY_NOT_FOUND: (
        "no NVIDIA driver: libnvidia-ml is not found",
        "with an NVIDIA GPU: install its driver; in a container: start it with --gpus all",
        "absent",
    ),
    GPU_IS_LOST: ("the GPU has fallen off the bus", "restart the machine", "failed"),
    VERSION_MISMATCH: ("the driver in the kernel and its library differ in version", "restart the machine, or reload the nvidia modules", "failed"),
}


class Live(SourceMeter):
    """Reads every GPU that CUDA_VISIBLE_DEVICES leaves visible; the whole card, also where MIG splits it."""

    title = "NVML"

    def __init__(self) -> None:
        super().__init__()
        self._open = False
        if pynvml is None:
            self._obstacles.append(Obstacle("", "the package nvidia-ml-py is not installed", "with an NVIDIA GPU: pip install nvidia-ml-py"))
            return
        try:
            pynvml.nvmlInit()
            self._open = True
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            self._obstacles.append(_obstacle("", error))
            return
        shown = _visible(count)
        for index in range(count):
            if index in shown:
                self._add(index, shown[index])
            else:
                hidden = f"hidden by CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']}"
                self._obstacles.append(Obstacle(f"gpu{index}", hidden, "name it there, or unset it"))
        if not count:
            self._obstacles.append(Obstacle("", "the NVIDIA driver finds no GPU"))

    def _failure(self, error: Exception) -> str | None:
        return str(_obstacle("", error)) if isinstance(error, pynvml.NVMLError) else None

    def close(self) -> None:
        """Let go of the driver."""
        if self._open:
            self._open = False
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def _add(self, index: int, note: str) -> None:
        device = f"gpu{index}"
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            model = _text(pynvml.nvmlDeviceGetName(handle))
        except pynvml.NVMLError as error:
            self._obstacles.append(_obstacle(device, error))
            return
        notes = "; ".join(filter(None, (_mig(handle), note)))
        base = Channel(
            name="",
            device=device,
            scope="accelerator",
            quantity="power",
            unit_size=MILLI,
            model=model,
            period_s=facts.NVML_POWER_PERIOD.value,
            accuracy_ratio=facts.NVML_ACCURACY.value,
            max_power_w=_limit_w(handle),
            note=notes,
        )
        counter = replace(base, name=f"nvml/{device}/energy", quantity="energy", period_s=facts.NVML_COUNTER_PERIOD.value)
        found = [self._try(Source(counter, lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)), "energy counter")]
        instant = replace(base, name=f"nvml/{device}/power", preference=1)
        mean = replace(base, name=f"nvml/{device}/power_average", preference=2, averaging_s=facts.NVML_AVERAGING.value)
        found.append(self._try(Source(instant, lambda: _field(handle, FIELD_INSTANT)), None))
        found.append(self._try(Source(mean, lambda: _field(handle, FIELD_AVERAGE)), None))
        if not any(found[1:]):
            plain = replace(instant, averaging_s=facts.NVML_AVERAGING.value if _averages(handle, model) else 0.0)
            found.append(self._try(Source(plain, lambda: pynvml.nvmlDeviceGetPowerUsage(handle)), "power"))

    def _try(self, source: Source, named: str | None) -> bool:
        """Keep a source that answers; of one that does not, note why where it has a name of its own."""
        try:
            source.read()
        except (pynvml.NVMLError, AttributeError) as error:  # a binding older than the call
            if named is not None:
                told = _obstacle(source.channel.device, error)
                self._obstacles.append(replace(told, reason=f"{named}: {told.reason}"))
            return False
        self._sources.append(source)
        return True


def _field(handle: Any, field: int) -> float:
    """Return a power field in mW.

    Raises:
        NVMLError: The driver has no such field, or no value of it.
    """
    (answer,) = pynvml.nvmlDeviceGetFieldValues(handle, [field])
    if answer.nvmlReturn:
        raise pynvml.NVMLError(answer.nvmlReturn)
    return float(getattr(answer.value, FIELD_UNION[answer.valueType]))


def _averages(handle: Any, model: str) -> bool:
    """Return whether the plain power reading is a mean of 1 s; of an unknown architecture it is taken to be."""
    try:
        architecture = pynvml.nvmlDeviceGetArchitecture(handle)
    except pynvml.NVMLError:
        return True
    return architecture > AMPERE or (architecture == AMPERE and not any(name in model.replace("-", " ").split() for name in GA100))


def _limit_w(handle: Any) -> float | None:
    """Return the largest power limit that the card accepts."""
    try:
        return float(pynvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)[1]) * MILLI
    except pynvml.NVMLError:
        return None


def _mig(handle: Any) -> str:
    """Return a note where MIG splits the card: its meters know only the whole."""
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
        most = pynvml.nvmlDeviceGetMaxMigDeviceCount(handle) if current else 0
    except pynvml.NVMLError:
        return ""
    instances = 0
    for index in range(most):
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            instances += 1
    return f"MIG is on: the meter counts the whole card, which {instances} instance{'' if instances == 1 else 's'} share" if current else ""


def _visible(count: int) -> dict[int, str]:
    """Return the GPUs that CUDA may use, by NVML index, each with a note where that is not sure; CUDA ignores what follows an invalid entry."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return dict.fromkeys(range(count), "")
    shown: dict[int, str] = {}
    for entry in (part.strip() for part in given.split(",")):
        index = int(entry) if entry.isdecimal() else _index_of(entry, count)
        if index is None or index >= count:
            break
        shown[index] = "" if not entry.isdecimal() or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or _alike(count) else _UNSURE
    return shown


_UNSURE: Final = "CUDA may number unlike GPUs in another order: set CUDA_DEVICE_ORDER=PCI_BUS_ID"


def _alike(count: int) -> bool:
    try:
        return len({_text(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index))) for index in range(count)}) <= 1
    except pynvml.NVMLError:
        return False


def _index_of(entry: str, count: int) -> int | None:
    """Return the index of a GPU named by its UUID or the start of it, or by the UUID of one of its MIG instances."""
    try:
        if entry.startswith("MIG-"):
            parent = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(pynvml.nvmlDeviceGetHandleByUUID(entry))
            return int(pynvml.nvmlDeviceGetIndex(parent))
        uuids = [_text(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index))) for index in range(count)]
    except pynvml.NVMLError:
        return None
    matches = [index for index, uuid in enumerate(uuids) if entry.startswith("GPU-") and uuid.startswith(entry)]
    return matches[0] if len(matches) == 1 else None


def _obstacle(device: str, error: Exception) -> Obstacle:
    reason, remedy, state = HELP.get(getattr(error, "value", 0), (str(error), "", "failed"))
    return Obstacle(device, reason, remedy, state)  # type: ignore[arg-type]


def _text(given: Any) -> str:
    """Return a name as text; bindings before 11.515 give bytes."""
    return given.decode(errors="replace") if isinstance(given, bytes) else str(given)
