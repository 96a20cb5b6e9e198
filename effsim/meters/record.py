"""Writes counters to a file as they are read, for replay and for windows found later."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TextIO

from effsim.errors import MeterUnavailableError, SpecError
from effsim.meters.base import Channel, Meter
from effsim.meters.joules import Tally, Track, between
from effsim.meters.recording import header, line

PERIOD_S: Final = 0.1
Report = Callable[[str, float], None]


def record(
    path: Path,
    meters: Iterable[Meter],
    duration_s: float | None = None,
    period_s: float = PERIOD_S,
    progress: Report | None = None,
) -> int:
    """Record all channels of open meters until the time is up or the user interrupts, and return how many readings were kept.

    What is read goes to ``PATH.partial`` line by line; the file gets its name at the end, also when interrupted. A recording
    that was killed can be read under its partial name.

    Args:
        path: Must not exist.
        meters: Open ones; they stay open.
        duration_s: None: until interrupted.
        period_s: Between two looks.
        progress: Takes what is being done and the share done.

    Raises:
        MeterUnavailableError: Nothing can be read.
        SpecError: The file exists or cannot be written, or a time is not positive.
    """
    listed = tuple(meters)
    channels = tuple(channel for meter in listed for channel in meter.channels)
    if not channels:
        obstacles = "; ".join(str(obstacle) for meter in listed for obstacle in meter.obstacles)
        raise MeterUnavailableError(f"nothing to record: {obstacles or 'no meter was given'}")
    if not 0.0 < period_s < math.inf or (duration_s is not None and not duration_s > 0.0):
        raise SpecError(f"expected a positive duration and period in seconds, got {duration_s} and {period_s}")
    if path.exists():
        raise SpecError(f"{path} exists already; give the recording another name")
    partial = path.with_name(f"{path.name}.partial")
    kept = 0
    try:
        with partial.open("x", encoding="utf-8") as stream:
            stream.write(header(channels, time.time() - time.monotonic()) + "\n")
            with contextlib.suppress(KeyboardInterrupt):
                for share in _paced(duration_s, period_s):
                    kept += _written(stream, listed)
                    if progress is not None:
                        progress(f"{kept} readings", share)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except FileExistsError:
        raise SpecError(f"{partial} exists: another recording runs, or one was killed; read or remove it first") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror}") from None
    return kept


def _written(stream: TextIO, meters: tuple[Meter, ...]) -> int:
    readings = [reading for meter in meters for reading in meter.read()]
    stream.writelines(f"{line(reading)}\n" for reading in readings)
    stream.flush()
    return len(readings)


def _paced(duration_s: float | None, period_s: float) -> Iterator[float]:
    """Yield the share of the time that has passed, once per period, at its start and at its end; looks that were missed are not made up."""
    start_s = time.monotonic()
    step = 0
    while True:
        passed_s = time.monotonic() - start_s
        yield 0.0 if duration_s is None else min(1.0, passed_s / duration_s)
        if duration_s is not None and passed_s >= duration_s:
            return
        step = max(step + 1, int(passed_s / period_s) + 1)
        due_s = step * period_s if duration_s is None else min(step * period_s, duration_s)
        time.sleep(max(0.0, start_s + due_s - time.monotonic()))


def watched(meters: Iterable[Meter], period_s: float = 1.0, rounds: int | None = None) -> Iterator[tuple[tuple[str, ...], ...]]:
    """Yield rows of channel, power now and energy since the start, once per period, until interrupted.

    Args:
        meters: Open ones; they stay open.
        period_s: Between two looks.
        rounds: How many looks; ``None``: without end.

    Raises:
        MeterUnavailableError: Nothing can be read.
    """
    listed = tuple(meters)
    channels = {channel.name: channel for meter in listed for channel in meter.channels}
    if not channels:
        obstacles = "; ".join(str(obstacle) for meter in listed for obstacle in meter.obstacles)
        raise MeterUnavailableError(f"nothing to watch: {obstacles or 'no meter was given'}")
    tracks = {name: Track(channel) for name, channel in channels.items()}
    begun: dict[str, Tally] = {}
    done = 0
    while rounds is None or done < rounds:
        tallies = {reading.channel: tracks[reading.channel].push(reading) for meter in listed for reading in meter.read()}
        for name, tally in tallies.items():
            if tally.counted:
                begun.setdefault(name, tally)
        yield tuple(_watch_row(channels[name], begun.get(name), tally) for name, tally in tallies.items())
        done += 1
        if rounds is None or done < rounds:
            time.sleep(period_s)


WATCH_COLUMNS: Final = ("channel", "scope", "since (s)", "energy (J)", "power (W)", "")


def _watch_row(channel: Channel, begun: Tally | None, tally: Tally) -> tuple[str, ...]:
    energy = between(channel, begun, tally) if begun is not None else None
    energy_j, mean_w = (None, None) if energy is None else (energy.value_j, energy.power_w)
    power_w = tally.power_w if channel.quantity == "power" and tally.counted else mean_w
    passed_s = 0.0 if energy is None else energy.time_s
    return (channel.name, channel.scope, f"{passed_s:.1f}", *("" if value is None else f"{value:.4g}" for value in (energy_j, power_w)), tally.reason)
