"""What the log formats share: options, times, numbers with units, building a recording from rows."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from effsim.errors import SpecError, shown
from effsim.meters.base import Channel, Reading
from effsim.meters.recording import Recording

EPOCH_2001_S: Final = 978_307_200.0
"""A plain number above this is taken for Unix time, below it for seconds since the start."""

MILLISECONDS_FROM: Final = 1e11
FORMS: Final = ("%Y/%m/%d %H:%M:%S.%f", "%Y/%m/%d %H:%M:%S", "%d-%m-%Y %H:%M:%S.%f", "%m-%d-%Y %H:%M:%S.%f")
"""What ``datetime.fromisoformat`` does not read: nvidia-smi's, and PTDaemon's with the day or the month first."""
ABSENT: Final = {"", "n/a", "[n/a]", "na", "nan", "[not supported]", "not supported", "[unknown error]", "unknown error", "-", "null", "none"}
_NUMBER: Final = re.compile(r"^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-zµ]*)\s*$")
POWERS: Final = {"w": 1.0, "mw": 1e-3, "kw": 1e3, "": 1.0}


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What a log does not say of itself.

    Args:
        utc_offset_s: Of times without a zone; ``None``: the zone of this machine.
        period_s: Between rows without a time, such as those of ``dcgmi dmon``.
        accuracy_ratio: Of a wall meter, by its data sheet; ``None``: what the format's rules ask.
    """

    utc_offset_s: float | None = None
    period_s: float | None = None
    accuracy_ratio: float | None = None


def time_s(text: str, where: str, options: LogOptions) -> float:
    """Return a time in seconds: Unix time where the text is a date, else as given.

    Raises:
        SpecError: Neither a number nor a date.

    >>> time_s("2026/11/23 00:00:01.500", "", LogOptions(utc_offset_s=0.0)) - time_s("2026-11-23T00:00:00Z", "", LogOptions())
    1.5
    >>> time_s("1766448000123", "", LogOptions())
    1766448000.123
    """
    given = text.strip().strip('"')
    try:
        number = float(given)
    except ValueError:
        return _date_s(given, where, options)
    if not math.isfinite(number):
        raise SpecError(f"{where}: expected a time, got {shown(given, 40)}")
    return number / 1e3 if number > MILLISECONDS_FROM else number


def _date_s(given: str, where: str, options: LogOptions) -> float:
    moment = None
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        for form in FORMS:
            try:
                moment = datetime.strptime(given, form)
                break
            except ValueError:
                continue
    if moment is None:
        raise SpecError(f"{where}: expected a time such as 2026-11-23 21:37:39.123 or Unix seconds, got {shown(given, 40)}")
    if moment.tzinfo is None and options.utc_offset_s is not None:
        moment = moment.replace(tzinfo=timezone(timedelta(seconds=options.utc_offset_s)))
    try:
        return moment.astimezone(UTC).timestamp()
    except (OverflowError, ValueError):  # years before 1 or after 9999 elsewhere on Earth
        raise SpecError(f"{where}: expected a time of this age, got {shown(given, 40)}") from None


def number(text: str, where: str, units: dict[str, float] | None = None) -> float | None:
    """Return a number in the unit of 1, or ``None`` where the log has none.

    Raises:
        SpecError: Neither a number nor one of the words for none; or an unknown unit.

    >>> number(" 68.52 W", "", POWERS), number("[N/A]", ""), number("250 mW", "", POWERS)
    (68.52, None, 0.25)
    """
    if text.strip().lower() in ABSENT:
        return None
    match = _NUMBER.match(text)
    allowed = {"": 1.0} if units is None else units
    if match is None or match[2].lower() not in allowed:
        wanted = f" in {', '.join(unit for unit in allowed if unit)}" if len(allowed) > 1 else ""
        raise SpecError(f"{where}: expected a number{wanted} or N/A, got {shown(text.strip(), 40)}")
    return float(match[1]) * allowed[match[2].lower()]


def recording(channels: Iterable[Channel], rows: Iterable[Reading], path: Path, notes: tuple[str, ...] = ()) -> Recording:
    """Return a recording whose clock starts at its first row; Unix times give it its place in time.

    Raises:
        SpecError: No rows.
    """
    listed = list(rows)
    if not listed:
        raise SpecError(f"{path}: no rows after its header")
    start_s = min(row.t_s for row in listed)
    shifted = (Reading(row.channel, row.t_s - start_s, row.count, row.reason) for row in listed)
    dated = start_s > EPOCH_2001_S
    return Recording(tuple(channels), tuple(shifted), start_s if dated else None, str(path), notes)
