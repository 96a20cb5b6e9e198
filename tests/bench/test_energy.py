"""The energy of the device under test, and of no other, out of what a machine meters."""

import itertools

import pytest

from effsim.bench.conditions import Watch
from effsim.bench.devices.numpy_device import NumpyDevice
from effsim.bench.energy import Metered
from effsim.meters import Channel, Meter, Monitor, Reading
from tests.bench.fakes import Accelerator

CHANNELS = (
    Channel("nvml/gpu0/energy", "gpu0", "accelerator", "energy", 1e-3),
    Channel("nvml/gpu1/energy", "gpu1", "accelerator", "energy", 1e-3),
    Channel("rapl/package-0", "package-0", "processor", "energy", 1e-6),
    Channel("rapl/dram-0", "dram-0", "memory", "energy", 1e-6),
    Channel("rapl/psys", "psys", "platform", "energy", 1e-6),
)
JOULES = {"gpu0": 300.0, "gpu1": 7.0, "package-0": 40.0, "dram-0": 5.0, "psys": 90.0}


class Counters(Meter):
    """Each look is one second on; each counter then stands higher by its joules, unless it fails."""

    title = "counters"
    obstacles = ()

    def __init__(self, failing=()):
        self.times, self.failing = itertools.count(), failing
        self.now_s = 0.0

    @property
    def channels(self):
        return CHANNELS

    def read(self, names=None):
        self.now_s = float(next(self.times))
        return tuple(
            Reading(one.name, self.now_s, None if one.device in self.failing else JOULES[one.device] * self.now_s / one.unit_size, "refused")
            for one in CHANNELS
            if names is None or one.name in names
        )


def metered(device, failing=()):
    counters = Counters(failing)
    monitor = Monitor([counters], sample_period_s=None, clock=lambda: counters.now_s)
    found = Metered(monitor, device, Watch(device))
    found.begin("window")
    return found, found.end("window")


def test_a_gpu_is_its_own_counter():
    found, energy = metered(Accelerator())
    assert [channel["name"] for channel in found.channels] == ["nvml/gpu0/energy"]
    assert energy.energy_j == pytest.approx(300.0)
    assert energy.devices == ("gpu0",)
    assert energy.low_j <= 300.0 <= energy.high_j


def test_a_processor_is_its_package_and_its_memory():
    _, energy = metered(NumpyDevice())
    assert energy.energy_j == pytest.approx(45.0)
    assert energy.devices == ("package-0", "dram-0")


def test_one_blank_part_makes_the_sum_blank():
    _, energy = metered(NumpyDevice(), failing=("dram-0",))
    assert energy.energy_j is None
    assert "refused" in energy.reason
