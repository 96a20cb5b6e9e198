"""From the name of a meter to its class; the folder ``meters/live`` is the registry."""

import difflib
import importlib
import os
import pkgutil
from collections.abc import Iterable
from typing import Final

from effsim.errors import UnknownNameError, shown
from effsim.meters import live
from effsim.meters.base import Meter

REPLAY_VARIABLE: Final = "EFFSIM_REPLAY"
"""Path of a recording that is played instead of reading this machine."""

REPLAY: Final = "replay"


def names() -> tuple[str, ...]:
    """Return the meters there are, by file name.

    >>> {"nvml", "rapl", "replay", "zeus"} <= set(names())
    True
    """
    return tuple(sorted(module.name for module in pkgutil.iter_modules(live.__path__)))


def meter_class(name: str) -> type[Meter]:
    """Return the class of a named meter.

    Raises:
        UnknownNameError: No file of that name; the message has the nearest name.
    """
    allowed = names()
    if name not in allowed:
        near = difflib.get_close_matches(name, allowed, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownNameError(f"unknown meter {shown(name)}; {hint}allowed: {', '.join(allowed)}")
    found: type[Meter] = importlib.import_module(f"{live.__name__}.{name}").Live
    return found


def open_meters(chosen: Iterable[str] = ()) -> tuple[Meter, ...]:
    """Open meters, each knowing what it can read and what not; close them when done.

    Args:
        chosen: By name; none: every meter of this machine, or only the recording that ``EFFSIM_REPLAY`` names.

    Raises:
        UnknownNameError: A name is in no file.
        SpecError: The recording to play cannot be read.
    """
    wanted = tuple(chosen)
    if not wanted:
        wanted = (REPLAY,) if os.environ.get(REPLAY_VARIABLE) else tuple(name for name in names() if name != REPLAY)
    classes = [meter_class(name) for name in wanted]
    return tuple(each() for each in classes)
