"""Zeus as a back end: AMD GPUs, Apple silicon, Jetson, by its newer and older method names."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from effsim.meters.live import zeus


class AMDGPUs:
    def __init__(self, count=2, counts=True):
        self.count, self.counts = count, counts

    def __len__(self):
        return self.count

    def get_name(self, gpu_index):
        return "AMD Instinct MI300X"

    def get_power_management_limit_constraints(self, gpu_index):
        return (0, 750_000)

    def supports_get_total_energy_consumption(self, gpu_index):
        return self.counts

    def get_total_energy_consumption(self, gpu_index):
        return 1000 + gpu_index

    def get_instant_power_usage(self, gpu_index):
        return 140_000


class OldAMDGPUs(AMDGPUs):
    """As before Zeus 0.13: names in camel case only."""

    def __getattribute__(self, name):
        if name.startswith(("get_", "supports_")):
            raise AttributeError(name)
        camel = {"getName": "get_name", "supportsGetTotalEnergyConsumption": "supports_get_total_energy_consumption"}
        camel |= {"getTotalEnergyConsumption": "get_total_energy_consumption", "getInstantPowerUsage": "get_instant_power_usage"}
        camel |= {"getPowerManagementLimitConstraints": "get_power_management_limit_constraints"}
        return object.__getattribute__(self, camel.get(name, name))


class NVIDIAGPUs(AMDGPUs):
    pass


@dataclass
class Apple:
    cpu_total_mj: int | None = 10
    gpu_mj: int | None = 20
    ane_mj: int | None = None
    dram_mj: int | None = 5
    efficiency_cores_mj: tuple[int, ...] = (1, 2)


@dataclass
class Jetson:
    cpu_energy_mj: float | None = 10.0
    gpu_energy_mj: float | None = 20.0
    total_energy_mj: float | None = 50.0


class AppleSilicon:
    def __init__(self, measurement):
        self.measurement = measurement

    def get_total_energy_consumption(self):
        return self.measurement


class NoSuchChipError(Exception):
    pass


@pytest.fixture
def install(monkeypatch):
    def put(gpus=None, soc=None, amd=True):
        def get_soc():
            if soc is None:
                raise NoSuchChipError
            return soc

        monkeypatch.setattr(zeus, "zeus_gpu", SimpleNamespace(amdsmi_is_available=lambda: amd and gpus is not None, get_gpus=lambda: gpus))
        monkeypatch.setattr(zeus, "zeus_soc", SimpleNamespace(get_soc=get_soc))
        return zeus.Live()

    return put


@pytest.mark.parametrize("gpus", [AMDGPUs(), OldAMDGPUs()], ids=["snake", "camel"])
def test_amd_gpus(install, gpus):
    meter = install(gpus)
    assert {reading.channel: reading.count for reading in meter.read()} == {
        "zeus/amd0/energy": 1000, "zeus/amd0/power": 140_000, "zeus/amd1/energy": 1001, "zeus/amd1/power": 140_000,
    }  # fmt: skip
    assert meter.channels[0].max_power_w == 750.0
    assert {channel.scope for channel in meter.channels} == {"accelerator"}
    assert not meter.obstacles


def test_amd_gpus_without_a_good_counter_give_power(install):
    assert [channel.quantity for channel in install(AMDGPUs(1, counts=False)).channels] == ["power"]


def test_a_chiplet_without_power_is_an_obstacle(install):
    class Dual(AMDGPUs):
        def get_instant_power_usage(self, gpu_index):
            if gpu_index:
                raise RuntimeError("chiplet of a dual-die GPU")
            return super().get_instant_power_usage(gpu_index)

        def supports_get_total_energy_consumption(self, gpu_index):
            return False

    meter = install(Dual())
    assert [channel.device for channel in meter.channels] == ["amd0"]
    assert "amd1: RuntimeError: chiplet" in str(meter.obstacles[0])


def test_nvidia_gpus_are_left_to_nvml(install):
    meter = install(NVIDIAGPUs())
    assert not meter.channels
    assert "not its AMD GPUs" in str(meter.obstacles[0])


def test_apple_silicon(install):
    meter = install(soc=AppleSilicon(Apple()))
    assert {channel.device: channel.scope for channel in meter.channels} == {"cpu": "processor", "gpu": "accelerator", "dram": "memory"}
    assert {reading.channel: reading.count for reading in meter.read()} == {"zeus/cpu/energy": 10, "zeus/gpu/energy": 20, "zeus/dram/energy": 5}


def test_a_jetson_board_contains_its_parts(install):
    meter = install(soc=AppleSilicon(Jetson()))
    assert {channel.device: channel.scope for channel in meter.channels} == {"cpu": "processor", "gpu": "accelerator", "board": "platform"}


def test_a_failing_reading_keeps_its_reason(install):
    soc = AppleSilicon(Jetson())
    meter = install(soc=soc)
    soc.measurement = None
    assert all(reading.count is None and "AttributeError" in reading.reason for reading in meter.read())
    assert meter.read(frozenset({"zeus/gpu/energy"}))[0].channel == "zeus/gpu/energy"


def test_nothing_found(install):
    assert "finds no AMD GPU" in str(install().obstacles[0])


def test_without_zeus_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(zeus, "zeus_gpu", None)
    assert 'pip install "effsim[meters]"' in str(zeus.Live().obstacles[0])
