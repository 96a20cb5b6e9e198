"""The command behind ``effsim bench`` and ``python -m effsim.bench``: opens the device and the meters, runs, and says what came out."""

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from effsim.bench.conditions import Watch
from effsim.bench.devices.base import Device
from effsim.bench.devices.numpy_device import NumpyDevice
from effsim.bench.devices.torch_device import TorchDevice, available
from effsim.bench.energy import Metered
from effsim.bench.machine import installed, module
from effsim.bench.measure import DEFAULT, QUICK, Instruments, Settings
from effsim.bench.plan import plan
from effsim.bench.progress import watching
from effsim.bench.run_file import Run
from effsim.bench.runner import run_benchmarks
from effsim.errors import SpecError
from effsim.meters import Monitor

LIBRARIES: Final = ("auto", "numpy", "torch")


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What a user may ask for.

    Args:
        quick: The most telling shapes only, in less than two minutes.
        output: Run file; ``None``: named after the device, in the working folder.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        library: ``auto``: PyTorch where installed, else NumPy.
        only: Kernels; empty: all.
        overwrite: Whether to begin anew.
        power_limits_w: To set, one after the other, for a few kernels [W].
        lock_clock_hz: To hold throughout [Hz].
        limit_s: Of the run [s]; ``None``: that of the settings.
        seed: Of the operands.
    """

    quick: bool = False
    output: Path | None = None
    device: str = "auto"
    library: str = "auto"
    only: tuple[str, ...] = ()
    overwrite: bool = False
    power_limits_w: tuple[float, ...] = ()
    lock_clock_hz: float | None = None
    limit_s: float | None = None
    seed: int = 0


def open_device(name: str = "auto", library: str = "auto", seed: int = 0) -> Device:
    """Return the device asked for; by default the fastest that there is.

    Raises:
        SpecError: It is not there, or the library does not drive it.
        MissingExtraError: PyTorch is asked for and not installed.
    """
    if library not in LIBRARIES:
        raise SpecError(f"--library: {library!r} is none; choose from {', '.join(LIBRARIES)}")
    if library == "numpy" or (library == "auto" and name in {"auto", "cpu"} and not installed("torch")):
        if name not in {"auto", "cpu"}:
            raise SpecError(f"--device: NumPy runs on the cpu only, not on {name!r}")
        return NumpyDevice(seed)
    return TorchDevice(available(module("torch"))[0] if name == "auto" else name, seed)


def settings_of(options: Options) -> Settings:
    """Return how to measure.

    Raises:
        SpecError: A time limit or power limit that is not above 0.
    """
    base = QUICK if options.quick else DEFAULT
    given = [("--time-limit", options.limit_s), ("--lock-clock", options.lock_clock_hz), *(("--power-limit", limit_w) for limit_w in options.power_limits_w)]
    for option, value in given:
        if value is not None and not 0.0 < value < float("inf"):
            raise SpecError(f"{option}: expected a number above 0, got {value:g}")
    return dataclasses.replace(
        base,
        only=options.only,
        power_limits_w=options.power_limits_w,
        lock_clock_hz=options.lock_clock_hz,
        seed=options.seed,
        limit_s=base.limit_s if options.limit_s is None else options.limit_s,
    )


@contextmanager
def instruments(options: Options) -> Iterator[Instruments]:
    """Open the device, and the meters for as long as the block lasts."""
    device = open_device(options.device, options.library, options.seed)
    watch = Watch(device)
    with Monitor() as monitor:
        yield Instruments(device, watch, Metered(monitor, device, watch))


def listed(options: Options) -> list[str]:
    """Return the cases that these options would measure."""
    return [planned.case.key for planned in plan(open_device(options.device, options.library, options.seed), settings_of(options))]


def execute(options: Options) -> tuple[Run, Path]:
    """Measure; return the run and the file that holds it."""
    settings = settings_of(options)
    with instruments(options) as opened:
        output = options.output or default_output(opened.device, settings)
        with watching() as watcher:
            return run_benchmarks(opened, settings, output, watcher, overwrite=options.overwrite), output


def default_output(device: Device, settings: Settings) -> Path:
    """Return the file name of a run: the same for the same device, so that asking again continues what was interrupted."""
    words = re.sub(r"[^a-z0-9]+", "-", f"{device.facts.model} {device.facts.library}".lower()).strip("-")
    return Path(f"bench-{words}-{settings.name}.json")
