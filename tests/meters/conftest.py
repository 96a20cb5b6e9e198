# ruff: noqa: N802, N803 -- the binding's own names
"""Test doubles: an NVML binding with the signatures of nvidia-ml-py, a powercap tree, a meter whose counts the test sets."""

import ctypes
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from effsim.meters.base import Channel, Meter, Reading
from effsim.meters.live import nvml


class NVMLError(Exception):
    """As in nvidia-ml-py: made of a code."""

    def __init__(self, value):
        super().__init__(value)
        self.value = value

    def __str__(self):
        return f"code {self.value}"


@dataclass
class Gpu:
    """What the fake driver says of one GPU; a value that is an exception is raised."""

    name: str = "NVIDIA H100 80GB HBM3"
    uuid: str = "GPU-0a"
    energy_mj: object = 0
    instant_mw: object = 100_000
    average_mw: object = 90_000
    usage_mw: object = 90_000
    limit_mw: object = 700_000
    architecture: int = 9
    mig: object = field(default_factory=lambda: NVMLError(3))
    mig_uuids: tuple[str, ...] = ()


def _or_raise(value):
    if isinstance(value, Exception):
        raise value
    return value() if callable(value) else value


class _Union(ctypes.Union):
    _fields_ = [("dVal", ctypes.c_double), ("uiVal", ctypes.c_uint), ("ulVal", ctypes.c_ulong), ("ullVal", ctypes.c_ulonglong)]


class FakeNvml:
    """The functions of nvidia-ml-py 13 that the meter calls, with their parameter names."""

    NVMLError = NVMLError

    def __init__(self, gpus=(), init_error=None):
        self.gpus, self.init_error, self.opened = list(gpus), init_error, 0

    def nvmlInit(self):
        if self.init_error is not None:
            raise self.init_error
        self.opened += 1

    def nvmlShutdown(self):
        self.opened -= 1

    def nvmlDeviceGetCount(self):
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index):
        return _or_raise(self.gpus[index])

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return next((SimpleNamespace(parent=gpu) for gpu in self.gpus if uuid in gpu.mig_uuids), None) or _or_raise(NVMLError(6))

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, migDevice):
        return migDevice.parent

    def nvmlDeviceGetIndex(self, handle):
        return self.gpus.index(handle)

    def nvmlDeviceGetName(self, handle):
        return handle.name

    def nvmlDeviceGetUUID(self, handle):
        return handle.uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return _or_raise(handle.energy_mj)

    def nvmlDeviceGetPowerUsage(self, handle):
        return _or_raise(handle.usage_mw)

    def nvmlDeviceGetArchitecture(self, device):
        return device.architecture

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle):
        return [100_000, _or_raise(handle.limit_mw)]

    def nvmlDeviceGetMigMode(self, device):
        return _or_raise(device.mig)

    def nvmlDeviceGetMaxMigDeviceCount(self, device):
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device, index):
        return device.mig_uuids[index] if index < len(device.mig_uuids) else _or_raise(NVMLError(6))

    def nvmlDeviceGetFieldValues(self, handle, fieldIds):
        return [self._field(handle, one) for one in fieldIds]

    def _field(self, handle, field_id):
        given = {185: handle.average_mw, 186: handle.instant_mw}[field_id]
        if isinstance(given, NVMLError):
            return SimpleNamespace(nvmlReturn=given.value, valueType=1, value=_Union())
        return SimpleNamespace(nvmlReturn=0, valueType=1, value=_Union(uiVal=_or_raise(given)))


@pytest.fixture
def fake_nvml(monkeypatch):
    """Return a function that puts a driver with the given GPUs in place of the installed binding."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def install(*gpus, init_error=None):
        driver = FakeNvml(gpus, init_error)
        monkeypatch.setattr(nvml, "pynvml", driver)
        return driver

    return install


@pytest.fixture
def powercap(tmp_path):
    """Return a function that writes powercap domains: folder name -> (name, energy in µJ) and gives the root."""
    root = tmp_path / "powercap"
    root.mkdir()

    def write(domains, range_uj=262_143_328_850):
        for folder, (name, energy_uj) in domains.items():
            place = root / folder
            place.mkdir(exist_ok=True)
            (place / "name").write_text(f"{name}\n")
            (place / "energy_uj").write_text(f"{energy_uj}\n")
            (place / "max_energy_range_uj").write_text(f"{range_uj}\n")
        return root

    return write


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self, t_s=100.0):
        self.t_s = t_s

    def __call__(self):
        return self.t_s


class ScriptedMeter(Meter):
    """Counts that the test sets, on a clock that the test moves; a count that is text is a failure with that reason."""

    title = "scripted"

    def __init__(self, clock, *channels, obstacles=()):
        self.clock, self._channels, self._obstacles, self.closed = clock, channels, tuple(obstacles), False
        self.counts = dict.fromkeys((channel.name for channel in channels), 0)

    @property
    def channels(self):
        return self._channels

    @property
    def obstacles(self):
        return self._obstacles

    def read(self, names=None):
        wanted = [name for name in self.counts if names is None or name in names]
        return tuple(
            Reading(name, self.clock(), None, self.counts[name]) if isinstance(self.counts[name], str) else Reading(name, self.clock(), self.counts[name])
            for name in wanted
        )

    def close(self):
        self.closed = True


COUNTER = Channel("nvml/gpu0/energy", "gpu0", "accelerator", "energy", 1e-3, period_s=0.1, accuracy_ratio=0.05, max_power_w=700.0)
POWER = Channel("nvml/gpu0/power", "gpu0", "accelerator", "power", 1e-3, period_s=0.1, accuracy_ratio=0.05, max_power_w=700.0, preference=1)
PACKAGE = Channel("rapl/package-0/energy", "package-0", "processor", "energy", 1e-6, wraps_at=262_143_328_850, period_s=0.001, max_power_w=2000.0)


@pytest.fixture
def doubles():
    """Return the doubles by name: tests do not import each other's files."""
    return SimpleNamespace(Clock=Clock, Meter=ScriptedMeter, Gpu=Gpu, NVMLError=NVMLError, COUNTER=COUNTER, POWER=POWER, PACKAGE=PACKAGE)
