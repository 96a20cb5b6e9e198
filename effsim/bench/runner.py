"""A run from the first case to the last: each row is on disk when the next case begins, so an interrupted run goes on where it stopped."""

import dataclasses
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from effsim._version import __version__
from effsim.bench.case import kernel
from effsim.bench.limits import clock_locked, power_limited
from effsim.bench.machine import libraries, machine
from effsim.bench.measure import Instruments, Settings, measure
from effsim.bench.plan import Planned, plan
from effsim.bench.run_file import Row, Run, read_run, write_run
from effsim.errors import SpecError

UNMEASURABLE: Final = (RuntimeError, MemoryError, TypeError, AttributeError, ImportError)
"""What libraries raise where a device lacks a kernel, a dtype or memory: the case is skipped with the reason."""

SAME: Final = ("effsim_version", "machine", "device", "libraries")
FREE: Final = ("limit_s", "only")
MAX_REASON: Final = 200
OVERHEAD_S: Final = 0.3


class Step(NamedTuple):
    """What a watcher of a run is told: cases done and in all, the case under way, and the time left [s]."""

    done: int
    total: int
    case: str
    left_s: float


Watcher = Callable[[Step], None]


def run_benchmarks(instruments: Instruments, settings: Settings, output: Path, watcher: Watcher | None = None, *, overwrite: bool = False) -> Run:
    """Measure and return the run, which ``output`` then holds.

    Args:
        instruments: Device, conditions and meter.
        settings: How long and how well.
        output: Run file; one that was interrupted or has fewer kernels, of the same machine, versions and settings, is continued.
        watcher: Is told of the progress.
        overwrite: Whether to begin anew over what ``output`` holds.

    Raises:
        SpecError: ``output`` holds a finished run, or that of another machine; or it cannot be written; or a kernel does not exist.
    """
    wanted = plan(instruments.device, settings)
    run = _begin(instruments, settings, output, {planned.case.key for planned in wanted}, overwrite=overwrite)
    todo = [planned for planned in wanted if planned.case.key not in {row.key for row in run.rows}]
    for limit_w in settings.power_limits_w:  # what the driver refuses is said before anything is measured
        with power_limited(instruments.device, limit_w):
            pass
    with clock_locked(instruments.device, settings.lock_clock_hz):
        write_run(output, run)
        try:
            run = _measure_all(run, todo, (instruments, settings), output, watcher)
        except BaseException:
            write_run(output, dataclasses.replace(read_run(output), status="interrupted", updated=_now()))
            raise
    run = dataclasses.replace(run, status="complete", updated=_now())
    write_run(output, run)
    return run


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _begin(instruments: Instruments, settings: Settings, output: Path, wanted: set[str], *, overwrite: bool) -> Run:
    device = instruments.device
    fresh = Run(
        effsim_version=__version__,
        started=_now(),
        updated=_now(),
        status="running",
        settings=_plain(settings),
        machine=machine(),
        device={**dataclasses.asdict(device.facts), "dtypes": list(device.dtypes)},
        libraries=libraries(device.facts.library),
        meter=instruments.meter.channels,
        rows=(),
    )
    if overwrite or not output.exists():
        return fresh
    found = read_run(output)
    if found.status == "complete" and wanted <= {row.key for row in found.rows} | {one["case"] for one in found.skipped}:
        raise SpecError(f"--output: {output} holds a finished run of {found.updated}; give another name, or --overwrite")
    differing = [name for name in SAME if getattr(found, name) != getattr(fresh, name)]
    differing += [f"settings.{name}" for name in fresh.settings if name not in FREE and found.settings.get(name) != fresh.settings[name]]
    if differing:
        raise SpecError(f"--output: {output} holds a run that differs in {', '.join(differing)}; give another name, or --overwrite")
    left = tuple(one for one in found.skipped if one["case"] not in wanted)
    return dataclasses.replace(found, status="running", settings=fresh.settings, meter=fresh.meter, skipped=left)


def _plain(settings: Settings) -> dict[str, object]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(settings).items()}


def _measure_all(run: Run, todo: list[Planned], how: tuple[Instruments, Settings], output: Path, watcher: Watcher | None) -> Run:
    _, settings = how
    start = time.perf_counter()
    before, each_s = len(run.rows), settings.warmup_s + settings.timing_s + settings.window_s * bool(how[0].meter.channels) + OVERHEAD_S
    for index, planned in enumerate(todo):
        spent_s = time.perf_counter() - start
        pace_s = spent_s / index if index else each_s
        if watcher is not None:
            watcher(Step(before + index, before + len(todo), planned.case.key, min(pace_s * (len(todo) - index), max(settings.limit_s - spent_s, 0.0))))
        if spent_s + each_s > settings.limit_s:
            reason = f"the time limit of {settings.limit_s:g} s"
            run = dataclasses.replace(run, skipped=(*run.skipped, *({"case": late.case.key, "reason": reason} for late in todo[index:])))
            break
        found = _one(planned, *how)
        if isinstance(found, Row):
            run = dataclasses.replace(run, rows=(*run.rows, found), updated=_now())
        else:
            run = dataclasses.replace(run, skipped=(*run.skipped, {"case": planned.case.key, "reason": found}), updated=_now())
        write_run(output, run)
    return run


def _one(planned: Planned, instruments: Instruments, settings: Settings) -> Row | str:
    """Return the row of a case, or why there is none."""
    device, case = instruments.device, planned.case
    if case.duty_ratio != 1.0 and not (instruments.meter.channels and settings.window_s):
        return "no meter of this device: see `effsim meters`"
    wanted_bytes = (case.held_bytes or case.bytes) * device.buffers(case.bytes)
    if not device.has_room(wanted_bytes):
        return f"needs {wanted_bytes:.3g} bytes, more than half of the device's {device.facts.memory_bytes:.3g}"
    try:
        with power_limited(device, case.power_limit_w):
            return measure(case, kernel(planned.kernel).prepare(case, device), instruments, settings)
    except UNMEASURABLE as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:MAX_REASON]
    finally:
        device.release()
