"""A device whose calls take a time that is written down, and a meter that counts what it is told."""

import dataclasses

from effsim.bench.conditions import Watch
from effsim.bench.devices.base import Facts
from effsim.bench.devices.numpy_device import NumpyDevice
from effsim.bench.measure import Energy, Instruments, Settings

TINY = Settings("quick", relative_half_width=0.5, warmup_s=0.0, timing_s=0.005, window_s=0.0, limit_s=60.0)


class Meter:
    """Counts ``power_w`` per second of a clock; without channels it counts nothing."""

    def __init__(self, power_w=None, clock=None, reason=""):
        self.power_w, self.clock, self.reason, self.windows = power_w, clock, reason, {}

    @property
    def channels(self):
        return () if self.power_w is None else ({"name": "fake/energy", "device": "package-0"},)

    def begin(self, name):
        self.windows[name] = self.clock()

    def end(self, name):
        elapsed_s = self.clock() - self.windows.pop(name)
        if self.reason:
            return Energy(None, None, None, (), self.reason)
        joules = self.power_w * elapsed_s
        return Energy(joules, 0.9 * joules, 1.1 * joules, ("package-0",), "")


def small_device():
    """The CPU, said to have no cache: one set of operands, quick to make."""
    device = NumpyDevice()
    device.facts = dataclasses.replace(device.facts, cache_bytes=0)
    return device


def instruments(device=None, meter=None):
    device = device or small_device()
    return Instruments(device, Watch(device), meter or Meter())


class Scripted(NumpyDevice):
    """NumPy arrays, but each timed run takes the next of the given times."""

    def __init__(self, times_s):
        super().__init__()
        self.times_s = list(times_s)
        self.taken = 0

    def seconds(self, run, samples):
        found = [self.times_s[(self.taken + index) % len(self.times_s)] for index in range(samples)]
        self.taken += samples
        return found


class Accelerator(NumpyDevice):
    """The facts of a GPU over NumPy arrays of next to no size: for plans."""

    def __init__(self, memory_bytes=80 * 2**30, count=1, kind="cuda"):
        super().__init__()
        self.facts = Facts("cuda:0", "torch", kind, "Some GPU", memory_bytes, 50 * 2**20, 132, count)
        self.dtypes = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8")
