"""Recorded counters: what a meter gave, with its channels, as one file of JSON lines.

The first line is a header, each further line one reading. A recording that was cut off keeps what it has.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final, get_args

from effsim.errors import SpecError, shown
from effsim.meters.base import Channel, Quantity, Reading, Scope
from effsim.meters.joules import MAX_GAP_S, Energy, integrate

FORMAT: Final = "effsim-recording"
VERSION: Final = 1
MAX_RECORDING_BYTES: Final = 500_000_000
NOT_JSON: Final = (ValueError, KeyError, TypeError, OverflowError, RecursionError)
"""What a line raises that is no JSON, nests too far, or is of another shape."""

SCOPES: Final[tuple[str, ...]] = get_args(Scope)
QUANTITIES: Final[tuple[str, ...]] = get_args(Quantity)


@dataclass(frozen=True, slots=True)
class Recording:
    """Channels and their readings.

    Args:
        channels: What was read.
        readings: In order of time, those of all channels mixed; times count from a start of the recording's own.
        epoch_s: Unix time at 0 of that clock; ``None`` where it is not known.
        source: The file, for messages.
        notes: What a reader must know, e.g. that the file was cut off.
    """

    channels: tuple[Channel, ...]
    readings: tuple[Reading, ...]
    epoch_s: float | None
    source: str
    notes: tuple[str, ...] = ()

    @property
    def begin_s(self) -> float:
        """Time of the first reading."""
        return self.readings[0].t_s

    @property
    def end_s(self) -> float:
        """Time of the last reading."""
        return self.readings[-1].t_s

    def energies(self, begin_s: float | None = None, end_s: float | None = None, max_gap_s: float | None = None) -> tuple[Energy, ...]:
        """Return the energy of each channel between two times of the recording's clock.

        Args:
            begin_s: None: from the first reading of each channel.
            end_s: None: to its last.
            max_gap_s: Time without a reading of power that counts as a gap; none: 5 s, or three times the usual time between
                readings where the meter is slower.
        """
        energies = []
        for channel in self.channels:
            own = [reading for reading in self.readings if reading.channel == channel.name]
            times_s = [reading.t_s for reading in own if reading.count is not None] or [self.begin_s]
            start_s, stop_s = times_s[0] if begin_s is None else begin_s, times_s[-1] if end_s is None else end_s
            usual_s = median([later - earlier for earlier, later in pairwise(times_s)] or [0.0])
            energies.append(integrate(channel, own, start_s, stop_s, max(MAX_GAP_S, 3.0 * usual_s) if max_gap_s is None else max_gap_s))
        return tuple(energies)


def checked(recording: Recording) -> Recording:
    """Return a recording whose readings are in order and belong to its channels.

    Raises:
        SpecError: They are not, or there are none.
    """
    if not recording.readings:
        raise SpecError(f"{recording.source}: no readings in it")
    known, last_s = {channel.name for channel in recording.channels}, dict[str, float]()
    for reading in recording.readings:
        if reading.channel not in known:
            raise SpecError(f"{recording.source}: a reading of {shown(reading.channel)}; its channels are {', '.join(sorted(known)) or 'none'}")
        if reading.t_s < last_s.get(reading.channel, -math.inf):
            before_s = last_s[reading.channel]
            raise SpecError(
                f"{recording.source}: {reading.channel}: times go back from {before_s:.3f} s to {reading.t_s:.3f} s; was the clock set, or were files joined?"
            )
        last_s[reading.channel] = reading.t_s
    return recording


def header(channels: tuple[Channel, ...], epoch_s: float | None) -> str:
    """Return the first line of a recording."""
    return json.dumps({"format": FORMAT, "version": VERSION, "epoch_s": epoch_s, "channels": [asdict(channel) for channel in channels]}, allow_nan=False)


def line(reading: Reading) -> str:
    """Return a reading as a line of a recording.

    >>> line(Reading("wall/power", 1.5, 230))
    '{"channel": "wall/power", "t_s": 1.5, "count": 230}'
    """
    count, reason = reading.count, reading.reason
    if count is not None and not math.isfinite(count):
        count, reason = None, f"{count} is no count"
    told = {"channel": reading.channel, "t_s": reading.t_s, "count": count, **({"reason": reason} if reason else {})}
    return json.dumps(told, allow_nan=False)


def read_recording(path: Path) -> Recording:
    """Return a recording; of one that was cut off in the middle of a line, what comes before.

    Raises:
        SpecError: Missing, too large, of another format or version, or a line that is no reading.
    """
    lines = text_lines(path)
    try:
        first = json.loads(next(lines, ""))
        if first["format"] != FORMAT or first["version"] != VERSION:
            raise SpecError(f"{path}, line 1: expected format {FORMAT!r} of version {VERSION}, found {shown(first['format'])} of {shown(first['version'])}")
        channels = tuple(_channel(each) for each in first["channels"])
        epoch_s = None if first["epoch_s"] is None else float(first["epoch_s"])
    except (*NOT_JSON, AttributeError) as error:
        raise SpecError(f"{path}, line 1: not the header of a recording: {type(error).__name__}: {error}") from None
    readings: list[Reading] = []
    notes: tuple[str, ...] = ()
    pending = ""
    for number, text in enumerate(lines, start=2):
        if pending:
            raise SpecError(f"{path}, line {number - 1}: {pending}")
        try:
            readings.append(_reading(json.loads(text)))
        except NOT_JSON as error:
            pending = f"not a reading: {shown(text.strip(), 60)} ({type(error).__name__}: {error})"
    if pending:
        notes = ("its last line was cut off and is left out",)
    readings.sort(key=lambda reading: reading.t_s)
    return checked(Recording(channels, tuple(readings), epoch_s, str(path), notes))


def _channel(given: dict[str, Any]) -> Channel:
    channel = Channel(**{field.name: given[field.name] for field in fields(Channel) if field.name in given})
    for name in ("unit_size", "wraps_at", "period_s", "averaging_s", "accuracy_ratio", "accuracy_w", "max_power_w", "preference"):
        value = getattr(channel, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value < math.inf):
            raise ValueError(f"channel {shown(channel.name)}: {name}: expected a number that is not negative, got {shown(value, 40)}")
    if not all(isinstance(text, str) for text in (channel.name, channel.device, channel.model, channel.note)):
        raise ValueError(f"channel {shown(channel.name)}: expected its name, device, model and note as text")
    if channel.scope not in SCOPES or channel.quantity not in QUANTITIES or not channel.unit_size:
        raise ValueError(f"channel {shown(channel.name)}: expected a scope of {', '.join(SCOPES)} and energy or power with a positive unit_size")
    return channel


def _reading(given: dict[str, Any]) -> Reading:
    count, t_s = given["count"], float(given["t_s"])
    if count is not None and (isinstance(count, bool) or not isinstance(count, (int, float)) or not math.isfinite(count)):
        raise ValueError("count: expected a number or null")
    if not math.isfinite(t_s):
        raise ValueError("t_s: expected a finite number")
    return Reading(str(given["channel"]), t_s, count, str(given.get("reason", "")))


def text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a user's file.

    Raises:
        SpecError: Missing, a folder, larger than a recording may be, or not UTF-8 text.
    """
    try:
        if not path.is_file():
            raise SpecError(f"{path}: {'expected a file, found a folder or device' if path.exists() else 'no such file'}")
        if path.stat().st_size > MAX_RECORDING_BYTES:
            raise SpecError(f"{path}: {path.stat().st_size:,} bytes; a recording may have at most {MAX_RECORDING_BYTES:,}")
        with path.open(encoding="utf-8-sig") as stream:
            yield from stream
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None
    except (OSError, ValueError) as error:  # ValueError: a text that cannot be a path
        raise SpecError(f"{shown(str(path))}: cannot be read: {getattr(error, 'strerror', error)}") from None
