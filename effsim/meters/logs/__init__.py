"""Recordings that other programs made: one file per format, found because it lies in this folder.

Each file has ``TITLE``; ``recognises(lines)``, which says whether the first lines of a file are of its format; and
``parse(lines, source, options)``, which returns the recording.
"""

import csv
import importlib
import pkgutil
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Final

from effsim.errors import SpecError
from effsim.meters.logs.rows import LogOptions
from effsim.meters.recording import Recording, checked, text_lines

HEAD_LINES: Final = 20


def formats() -> tuple[str, ...]:
    """Return the formats there are, by file name.

    >>> "nvidia_smi" in formats()
    True
    """
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if hasattr(_module(name), "recognises")))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def load(path: Path, options: LogOptions | None = None) -> Recording:
    """Return the recording in a file, whichever known format it has.

    Raises:
        SpecError: It cannot be read, is of no known format, or holds nothing to use.
    """
    head = tuple(islice(text_lines(path), HEAD_LINES))
    fitting = [module for module in map(_module, formats()) if module.recognises(head)]
    if not fitting:
        known = ", ".join(_module(name).TITLE for name in formats())
        raise SpecError(f"{path}: no format that is known here; known: {known}")
    try:
        recording: Recording = fitting[0].parse(text_lines(path), path, options or LogOptions())
    except csv.Error as error:
        raise SpecError(f"{path}: not a CSV: {error}") from None
    return checked(recording)
