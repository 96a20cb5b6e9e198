"""A trace from one format to another: read, cut, scaled, written, and said what was lost."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effsim.errors import SpecError, shown
from effsim.units import parse_quantity
from effsim.workload.trace_files import format_named, losses, read_as, write_trace
from effsim.workload.traces import Trace, select, with_volume

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Changes:
    """What is done between reading and writing, in this order.

    Args:
        window_s: Keep arrivals in [start, end) [s].
        volume_scale: See :func:`~effsim.workload.traces.with_volume`.
        rate_scale: Gaps are divided by it.
        limit: Keep so many first requests.
        seed: Of ``volume_scale``.
    """

    window_s: tuple[float, float] | None = None
    volume_scale: float = 1.0
    rate_scale: float = 1.0
    limit: int | None = None
    seed: int = 0

    def of(self, trace: Trace) -> Trace:
        """Return the trace that they leave."""
        part = trace if self.window_s is None else select(trace, window_s=self.window_s)
        if self.volume_scale != 1.0:
            part = with_volume(part, self.volume_scale, np.random.default_rng(self.seed))
        return select(part, self.rate_scale, self.limit)


@dataclass(frozen=True, slots=True)
class Size:
    """Sums of a trace; ``span_s`` is the time of the last arrival [s]."""

    requests: int
    span_s: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was read and what was written.

    Args:
        read: Format of the source.
        wrote: Format of the target.
        before: Sums of the source.
        after: Sums of the target.
        notes: What was changed on reading.
        lost: What the target cannot hold.
        written: What a reader of the target should know.
    """

    read: str
    wrote: str
    before: Size
    after: Size
    notes: tuple[str, ...]
    lost: tuple[str, ...]
    written: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return one row for the source and one for the target."""
        return [(word, name, *dataclasses.astuple(size)) for word, name, size in (("read", self.read, self.before), ("wrote", self.wrote, self.after))]


def convert_trace(source: Path, target: Path, to: str, changes: Changes | None = None, progress: Progress | None = None) -> Conversion:
    """Write a trace in another format, whole or not at all.

    Raises:
        UnknownNameError: No such format.
        SpecError: The source cannot be read, nothing is left of it, or the target cannot be written.
    """
    wanted = format_named(to)
    tell = progress or _silent
    tell(f"reading {source.name}", 0.0)
    trace, found = read_as(source)
    tell("scaling", 1 / 3)
    changed = (changes or Changes()).of(trace)
    tell(f"writing {target.name}", 2 / 3)
    write_trace(changed, target, wanted)
    return Conversion(found.name, wanted.name, _size(trace), _size(changed), trace.notes, losses(changed, wanted), wanted.written)


def _silent(_what: str, _share: float) -> None:
    pass


def _size(trace: Trace) -> Size:
    return Size(len(trace), trace.duration_s, int(trace.prompt_tokens.sum()), int(trace.output_tokens.sum()))


def window_of(text: str | None) -> tuple[float, float] | None:
    """Return start and end of a window [s] from a text such as ``"10 min, 1 h"``.

    Raises:
        SpecError: No two times, or the end is not after the start.

    >>> window_of("10 min, 1 h")
    (600.0, 3600.0)
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2:  # noqa: PLR2004 -- start and end
        raise SpecError(f'window: expected START,END such as "10 min, 1 h", got {shown(text)}')
    start_s, end_s = (parse_quantity(float(part) if part.replace(".", "", 1).isdecimal() else part, "s") for part in parts)
    if not 0.0 <= start_s < end_s:
        raise SpecError(f"window: the end ({end_s:g} s) must be after the start ({start_s:g} s), and the start not negative")
    return start_s, end_s
