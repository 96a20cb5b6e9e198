"""How a case is measured: warm-up, repeats until the median is known well enough, then a window long enough for the meter."""

import time
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Protocol

from effsim.bench.case import Case, Work
from effsim.bench.conditions import Watch, remarks
from effsim.bench.confidence import Median, median_interval
from effsim.bench.devices.base import Call, Device
from effsim.bench.machine import usable_cores
from effsim.bench.run_file import Row

MAX_TIMES: Final = 256
MAX_QUEUED: Final = 500
CHUNK_S: Final = 0.05  # of work queued at a time in a window
PERIOD_S: Final = 0.1  # of load and pause
MIN_SAMPLES, SOME_SAMPLES, BATCH_SAMPLES = 6, 20, 10


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how well to measure.

    Args:
        name: ``quick`` or ``default``.
        confidence: Of the interval of each median.
        relative_half_width: Half of that interval over the median, at which a case is done.
        warmup_s: Per case [s].
        timing_s: At most, per case; a case whose median is then not known well enough says so [s].
        window_s: Of sustained load for the meter [s]; 0: none.
        limit_s: Of the whole run [s]; cases that would pass it are skipped and named.
        only: Kernels; empty: all.
        power_limits_w: To measure at besides, at the user's request [W].
        lock_clock_hz: To hold, at the user's request [Hz].
        seed: Of the operands.
    """

    name: str = "default"
    confidence: float = 0.95
    relative_half_width: float = 0.02
    warmup_s: float = 0.15
    timing_s: float = 0.6
    window_s: float = 2.5
    limit_s: float = 450.0
    only: tuple[str, ...] = ()
    power_limits_w: tuple[float, ...] = ()
    lock_clock_hz: float | None = None
    seed: int = 0

    @property
    def quick(self) -> bool:
        """Whether only the most telling shapes are measured."""
        return self.name == "quick"


QUICK: Final = Settings("quick", relative_half_width=0.05, warmup_s=0.05, timing_s=0.3, window_s=1.0, limit_s=95.0)
DEFAULT: Final = Settings()


class Energy(NamedTuple):
    """What the meters say of a window."""

    energy_j: float | None
    low_j: float | None
    high_j: float | None
    devices: tuple[str, ...]
    reason: str


class EnergyMeter(Protocol):
    """What a runner needs of meters: :class:`effsim.bench.energy.Metered`, or a fake."""

    @property
    def channels(self) -> tuple[dict[str, Any], ...]:
        """What is read; empty: nothing."""
        ...

    def begin(self, name: str) -> None:
        """Open a window."""
        ...

    def end(self, name: str) -> Energy:
        """Close it."""
        ...


class Instruments(NamedTuple):
    """What a case is measured with."""

    device: Device
    watch: Watch
    meter: EnergyMeter


class _Runs(NamedTuple):
    """A call of so many kernel calls, and how it is launched."""

    run: Call
    calls: int
    launch: str


def measure(case: Case, work: Work, instruments: Instruments, settings: Settings) -> Row:
    """Return the row of a case: timed, then metered if there is a meter."""
    device, watch, meter = instruments
    before = watch.look()
    row = Row(case.kind, case.dtype, dict(case.shape), case.flop, case.bytes, case.duty_ratio, case.power_limit_w, work.implementation, buffers=work.buffers)
    runs = _Runs(work.run, work.calls, "eager")
    median: Median | None = None
    if case.duty_ratio > 0.0:
        runs = _warm(work, device, settings.warmup_s)
        median, samples = timed(runs.run, device, settings)
        wide = median.relative_half_width > settings.relative_half_width
        row = replace(
            row,
            launch=runs.launch,
            time_s=median.value / runs.calls,
            time_low_s=median.low / runs.calls,
            time_high_s=median.high / runs.calls,
            confidence=settings.confidence,
            samples=samples,
            calls_per_sample=runs.calls,
            notes=(f"interval of ±{median.relative_half_width:.1%}, wider than the {settings.relative_half_width:.0%} asked for",) if wide else (),
        )
    if meter.channels and settings.window_s:
        row = _metered(row, runs, median, instruments, settings.window_s)
    after = _look_under_load(runs, median, instruments)
    return replace(row, conditions={"before": before, "after": after}, notes=(*row.notes, *remarks(before, after, usable_cores())))


def _look_under_load(runs: _Runs, median: Median | None, instruments: Instruments) -> dict[str, Any]:
    """Return the conditions while queued work keeps the device busy; where calls return when they are done, right after."""
    device, watch, _ = instruments
    if median is not None and device.large:
        for _ in range(max(1, min(MAX_QUEUED, round(CHUNK_S / max(median.value, 1e-9))))):
            runs.run()
    found = watch.look()
    device.synchronize()
    return found


def _warm(work: Work, device: Device, warmup_s: float) -> _Runs:
    """Run until the clocks have risen and caches, allocators and autotuners have settled; record if the device can, in samples of fit length."""
    work.run()
    device.synchronize()
    start, runs = time.perf_counter(), 0
    while runs < 2 or time.perf_counter() - start < warmup_s:  # noqa: PLR2004 -- the first may compile
        work.run()
        device.synchronize()
        runs += 1
    each_s = min(device.seconds(work.run, 2))
    times = max(1, min(MAX_TIMES, round(device.sample_s / max(each_s, 1e-9))))
    if work.recordable:
        replay = device.recorded(work.run, times)
        if replay is not None:
            return _Runs(replay, work.calls * times, "graph")
    return _Runs(_repeated(work.run, times), work.calls * times, "eager")


def _repeated(run: Call, times: int) -> Call:
    if times == 1:
        return run

    def several() -> None:
        for _ in range(times):
            run()

    return several


def timed(run: Call, device: Device, settings: Settings) -> tuple[Median, int]:
    """Return the median time of a run and the samples taken: until it is known as well as asked for, or time is up."""
    start = time.perf_counter()
    samples: list[float] = device.seconds(run, 1)
    while True:
        spent_s = time.perf_counter() - start
        if len(samples) >= MIN_SAMPLES:
            median = median_interval(samples, settings.confidence)
            known = len(samples) >= SOME_SAMPLES and median.relative_half_width <= settings.relative_half_width
            if known or spent_s >= settings.timing_s:
                return median, len(samples)
        left = (settings.timing_s - spent_s) / max(samples[-1], 1e-9)
        samples += device.seconds(run, int(max(1, min(BATCH_SAMPLES, left))))


def _metered(row: Row, runs: _Runs, median: Median | None, instruments: Instruments, window_s: float) -> Row:
    device, _, meter = instruments
    meter.begin(row.key)
    try:
        elapsed_s, done = load(runs.run, device, (median.value if median else 0.0, row.duty_ratio), window_s)
    finally:
        energy = meter.end(row.key)
    calls = done * runs.calls
    values = (energy.energy_j, energy.low_j, energy.high_j)
    each = [None if value is None or not calls else value / calls for value in values]
    power = [None if value is None else value / elapsed_s for value in values]
    return replace(
        row,
        window_s=elapsed_s,
        window_calls=calls,
        sustained_time_s=elapsed_s / calls if calls and row.duty_ratio == 1.0 else None,
        energy_j=each[0],
        energy_low_j=each[1],
        energy_high_j=each[2],
        power_w=power[0],
        power_low_w=power[1],
        power_high_w=power[2],
        metered=energy.devices,
        notes=(*row.notes, *((energy.reason,) if energy.reason else ())),
    )


def load(run: Call, device: Device, pace: tuple[float, float], window_s: float) -> tuple[float, int]:
    """Issue runs for a window and return its length [s] and the runs done.

    Args:
        run: One run.
        device: That it runs on.
        pace: Time of a run [s], and the share of the window to be busy; 0: wait only.
        window_s: At least [s].
    """
    each_s, duty = pace
    start = time.perf_counter()
    if duty <= 0.0:
        time.sleep(window_s)
        return time.perf_counter() - start, 0
    period_s = CHUNK_S if duty == 1.0 else max(PERIOD_S, each_s / duty)
    chunk = max(1, round(period_s * duty / max(each_s, 1e-9)))
    done = 0
    while True:
        for _ in range(chunk):
            run()
        device.synchronize()
        done += chunk
        elapsed_s = time.perf_counter() - start
        if duty < 1.0:  # the pause makes up for whole runs: on average the share is kept
            pause_s = done * each_s / duty - elapsed_s
            if pause_s > 0.0:
                time.sleep(pause_s)
                elapsed_s = time.perf_counter() - start
        if elapsed_s >= window_s:
            return elapsed_s, done
