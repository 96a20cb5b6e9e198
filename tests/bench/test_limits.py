"""Limits and clocks are changed only when asked, within bounds, and put back whatever happens."""

# ruff: noqa: N802, N815 -- the names are NVML's
import sys
from types import SimpleNamespace

import pytest

from effsim.bench.conditions import Watch, remarks
from effsim.bench.devices.numpy_device import NumpyDevice
from effsim.bench.limits import clock_locked, power_limited
from effsim.errors import MeterUnavailableError, SpecError
from tests.bench.fakes import Accelerator


class Nvml:
    """As much of ``pynvml`` as is used, for one GPU whose NVML number is 3."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    nvmlClocksThrottleReasonGpuIdle, nvmlClocksThrottleReasonSwPowerCap = 0x1, 0x4

    class NVMLError(Exception):
        pass

    def __init__(self, allowed=True):
        self.allowed, self.limit_mw, self.locked = allowed, 700_000, None

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        assert uuid == "GPU-1234"
        return "handle"

    def nvmlDeviceGetIndex(self, handle):
        return 3

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle):
        return [200_000, 700_000]

    def nvmlDeviceGetPowerManagementLimit(self, handle):
        return self.limit_mw

    def nvmlDeviceSetPowerManagementLimit(self, handle, limit_mw):
        if not self.allowed:
            raise self.NVMLError("Insufficient Permissions")
        self.limit_mw = limit_mw

    def nvmlDeviceSetGpuLockedClocks(self, handle, low, high):
        if not self.allowed:
            raise self.NVMLError("Insufficient Permissions")
        self.locked = (low, high)

    def nvmlDeviceResetGpuLockedClocks(self, handle):
        self.locked = None

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return {1: 1755, 2: 2619}[kind]

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return 61

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return self.limit_mw

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return 0x4


@pytest.fixture
def nvml(monkeypatch, request):
    fake = Nvml(**getattr(request, "param", {}))
    properties = SimpleNamespace(uuid="1234")
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(get_device_properties=lambda name: properties)))
    return fake


def test_a_limit_holds_within_the_block_only(nvml):
    with power_limited(Accelerator(), 450.0):
        assert nvml.limit_mw == 450_000
    assert nvml.limit_mw == 700_000


def test_a_limit_is_put_back_after_an_interrupt(nvml):
    with pytest.raises(KeyboardInterrupt), power_limited(Accelerator(), 450.0):
        raise KeyboardInterrupt
    assert nvml.limit_mw == 700_000


def test_clocks_are_free_again_after_an_interrupt(nvml):
    seen = []

    def interrupted():
        with clock_locked(Accelerator(), 1.2e9):
            seen.append(nvml.locked)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert seen == [(1200, 1200)]
    assert nvml.locked is None


def test_unasked_nothing_is_touched():
    with power_limited(NumpyDevice(), None), clock_locked(NumpyDevice(), None):
        pass


def test_a_limit_outside_the_bounds_is_refused(nvml):
    with pytest.raises(SpecError, match="900 W is outside what Some GPU allows: 200 W to 700 W"), power_limited(Accelerator(), 900.0):
        pass
    assert nvml.limit_mw == 700_000


@pytest.mark.parametrize("nvml", [{"allowed": False}], indirect=True)
@pytest.mark.parametrize("act", [lambda: power_limited(Accelerator(), 450.0), lambda: clock_locked(Accelerator(), 1.2e9)])
@pytest.mark.usefixtures("nvml")
def test_without_the_right_it_says_so(act):
    with pytest.raises(MeterUnavailableError, match=r"Insufficient Permissions.*administrator rights"), act():
        pass


def test_only_nvidia_gpus_have_limits_here():
    with pytest.raises(SpecError, match="--power-limit: only NVIDIA GPUs"), power_limited(NumpyDevice(), 450.0):
        pass


@pytest.mark.usefixtures("nvml")
def test_conditions_of_a_gpu():
    watch = Watch(Accelerator())
    assert watch.meter_device == "gpu3"  # NVML's number, not PyTorch's
    found = watch.look()
    assert found == {
        "sm_clock_hz": 1.755e9, "memory_clock_hz": 2.619e9, "temperature_degc": 61, "power_limit_w": 700.0, "throttled_by": ["power limit"],
    }  # fmt: skip
    assert remarks(found, found, 8) == ("throttled by power limit",)


def test_conditions_of_a_processor():
    watch = Watch(NumpyDevice())
    assert watch.meter_device is None
    assert watch.look()["load"] >= 0.0
    assert remarks({"load": 9.0}, {}, 2) == ("other programs ran: load 9.0 on 2 cores",)


def test_an_amd_gpu_has_the_name_that_meters_give_it():
    assert Watch(Accelerator(kind="rocm")).meter_device == "amd0"
