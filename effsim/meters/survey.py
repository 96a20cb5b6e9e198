"""The table of meters: what was found, what it covers, how often it moves, and what to do where something is missing."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Final

from effsim.meters.base import Channel, Meter, Reading

LOOK_S: Final = 1.0
PAUSE_S: Final = 0.001
FEWEST_MOVES: Final = 3
"""Changes of a count below which nothing is said of its period."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a channel, or what keeps a device from being one.

    Args:
        meter: As tables name it.
        device: Blank where it concerns the whole meter.
        model: The name that the driver reports.
        scope: What it covers; blank of what is not read.
        reads: ``energy counter`` or ``power``, with the time that a reading is the mean of.
        period_s: Median time between two changes, as seen just now; ``None`` where it moved too seldom to tell.
        documented_period_s: The same by its documentation.
        resolution: One count, in ``unit``.
        unit: ``J`` or ``W``.
        power_w: Mean power while it was looked at.
        state: ``ok``, ``absent``, ``denied`` or ``failed``.
        remedy: What to do, or what a reader must know.
    """

    meter: str
    device: str
    model: str
    scope: str
    reads: str
    period_s: float | None
    documented_period_s: float | None
    resolution: float | None
    unit: str
    power_w: float | None
    state: str
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; what is absent is ``None``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a look at one channel gave: the times of its changes and its failures, its first and last count."""

    changes_s: tuple[float, ...]
    reasons: tuple[str, ...]
    first: Reading | None
    last: Reading | None


def survey(meters: Iterable[Meter], look_s: float = LOOK_S) -> tuple[Row, ...]:
    """Look at meters for a while and return a row for each channel and each obstacle.

    Args:
        meters: Open ones; they stay open.
        look_s: How long; periods longer than a third of it stay unknown.
    """
    rows: list[Row] = []
    for meter in meters:
        seen = _watched(meter, look_s) if meter.channels else {}
        rows += [_row(meter, channel, seen[channel.name]) for channel in meter.channels]
        rows += [
            Row(
                meter.title,
                obstacle.device,
                "",
                "",
                "",
                None,
                None,
                None,
                "",
                None,
                obstacle.state,
                "; ".join(filter(None, (obstacle.reason, obstacle.remedy))),
            )
            for obstacle in meter.obstacles
        ]
    return tuple(rows)


def _watched(meter: Meter, look_s: float) -> dict[str, _Seen]:
    changes: dict[str, list[float]] = {channel.name: [] for channel in meter.channels}
    reasons: dict[str, list[str]] = {channel.name: [] for channel in meter.channels}
    first, last = dict[str, Reading](), dict[str, Reading]()
    for reading in _readings(meter, look_s):
        if reading.count is None:
            reasons[reading.channel].append(reading.reason)
            continue
        before = last.get(reading.channel)
        if before is not None and before.count != reading.count:
            changes[reading.channel].append(reading.t_s)
        first.setdefault(reading.channel, reading)
        last[reading.channel] = reading
    return {name: _Seen(tuple(changes[name]), tuple(reasons[name]), first.get(name), last.get(name)) for name in changes}


def _readings(meter: Meter, look_s: float) -> Iterator[Reading]:
    end_s = time.monotonic() + look_s
    while time.monotonic() < end_s:
        yield from meter.read()
        time.sleep(PAUSE_S)


def _row(meter: Meter, channel: Channel, seen: _Seen) -> Row:
    moved_s = [later - earlier for earlier, later in pairwise(seen.changes_s)]
    period_s = median(moved_s) if len(moved_s) >= FEWEST_MOVES else None
    kind = "energy counter" if channel.quantity == "energy" else "power"
    averaged = f", mean of {channel.averaging_s:g} s" if channel.averaging_s else ""
    failing = seen.last is None
    return Row(
        meter=meter.title,
        device=channel.device,
        model=channel.model,
        scope=channel.scope,
        reads=kind + averaged,
        period_s=period_s,
        documented_period_s=channel.period_s,
        resolution=channel.unit_size,
        unit="J" if channel.quantity == "energy" else "W",
        power_w=_power_w(channel, seen, period_s),
        state="failed" if failing else "ok",
        remedy="; ".join(filter(None, (channel.note, seen.reasons[-1] if seen.reasons else ""))),
    )


def _power_w(channel: Channel, seen: _Seen, period_s: float | None) -> float | None:
    """Return the last power read; of a counter that moved often enough, its growth between the first and the last change."""
    if seen.last is None or seen.first is None or seen.last.count is None or seen.first.count is None:
        return None
    if channel.quantity == "power":
        return seen.last.count * channel.unit_size
    grown, time_s = (seen.last.count - seen.first.count) * channel.unit_size, seen.last.t_s - seen.first.t_s
    return grown / time_s if period_s is not None and grown > 0.0 else None


COLUMNS: Final = ("meter", "device", "scope", "reads", "period", "resolution", "power", "state", "model, or what to do")


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as a table for people shows it.

    >>> row = Row("NVML", "gpu0", "NVIDIA H100", "accelerator", "energy counter", 0.0998, 0.1, 0.001, "J", 70.2, "ok", "")
    >>> cells(row)[4:]
    ('99.8 ms', '0.001 J', '70.2 W', 'ok', 'NVIDIA H100')
    """
    period = _duration(row.period_s) or (f"({_duration(row.documented_period_s)} documented)" if row.documented_period_s else "")
    resolution = "" if row.resolution is None else f"{row.resolution:g} {row.unit}"
    power = "" if row.power_w is None else f"{row.power_w:.4g} W"
    return (row.meter, row.device, row.scope, row.reads, period, resolution, power, row.state, "; ".join(filter(None, (row.model, row.remedy))))


def _duration(time_s: float | None) -> str:
    return "" if time_s is None else f"{time_s * 1e3:.3g} ms" if time_s < 1.0 else f"{time_s:.3g} s"


def plain_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in columns of equal width, for machines without Rich.

    >>> print(plain_table(("a", "b"), [("1", "22"), ("333", "4")]))
    a    b
    1    22
    333  4
    """
    listed = [tuple(columns), *map(tuple, rows)]
    widths = [max(len(row[index]) for row in listed) for index in range(len(listed[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in listed)
