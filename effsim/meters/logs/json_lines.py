"""Recordings of ``effsim meters record``."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from effsim.meters.logs.rows import LogOptions
from effsim.meters.recording import FORMAT, Recording, read_recording

TITLE: Final = "a recording of effsim meters record"


def recognises(lines: Sequence[str]) -> bool:
    """Return whether the first line is the header of a recording."""
    return bool(lines) and lines[0].lstrip().startswith("{") and f'"{FORMAT}"' in lines[0]


def parse(lines: Iterable[str], path: Path, options: LogOptions) -> Recording:
    """Return the recording; see :func:`effsim.meters.recording.read_recording`."""
    del lines, options  # it says all of itself
    return read_recording(path)
