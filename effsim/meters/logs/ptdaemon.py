"""Logs of SPEC PTDaemon, as MLPerf Power runs leave them: ``Time,28-12-2020 15:21:14.682,Watts,22.95,Volts,...,Mark,label``."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from effsim.errors import SpecError
from effsim.meters import facts
from effsim.meters.base import Channel, Reading
from effsim.meters.logs.rows import LogOptions, number, recording, time_s
from effsim.meters.recording import Recording

TITLE: Final = "a log of SPEC PTDaemon (MLPerf Power)"
MONTHS: Final = 12
PERIOD_S: Final = 1.0
"""PTDaemon reads its analyser once a second, each reading the mean since the one before."""


def recognises(lines: Sequence[str]) -> bool:
    """Return whether a line starts with ``Time`` and goes on with ``Watts``."""
    return any(line.startswith("Time,") and ",Watts," in line for line in lines)


def parse(lines: Iterable[str], path: Path, options: LogOptions) -> Recording:
    """Return the power at the plug; a reading of -1 is one that the analyser did not give.

    Raises:
        SpecError: A line without time or watts.
    """
    accuracy_ratio = facts.WALL_ACCURACY.value if options.accuracy_ratio is None else options.accuracy_ratio
    names: dict[str, Channel] = {}
    readings = []
    unsure = False
    for line_number, line in enumerate(lines, start=1):
        where, cells = f"{path}, line {line_number}", [cell.strip() for cell in line.strip().split(",")]
        if cells[0] != "Time":
            continue
        given = dict(zip(cells[::2], cells[1::2], strict=False))
        if "Watts" not in given:
            raise SpecError(f"{where}: no Watts beside the time; names found: {', '.join(cells[::2])[:80]}")
        name = "wall/power"
        names.setdefault(name, Channel(name, "wall", "server", "power", 1.0, period_s=PERIOD_S, averaging_s=PERIOD_S, accuracy_ratio=accuracy_ratio))
        power_w = number(given["Watts"], where)
        at_s = time_s(given["Time"], where, options)
        unsure = unsure or _either_way(given["Time"])
        valid = power_w is not None and power_w >= 0.0
        readings.append(Reading(name, at_s, power_w if valid else None, "" if valid else f"Watts,{given['Watts']}"))
    return recording(names.values(), readings, path, ("dates are read with the day before the month",) if unsure else ())


def _either_way(date: str) -> bool:
    """Return whether a date reads as another with day and month exchanged.

    >>> _either_way("28-12-2020 15:21:14.682"), _either_way("07-12-2020 15:21:14.682"), _either_way("07-07-2020 15:21:14.682")
    (False, True, False)
    """
    first, _, rest = date.partition("-")
    second = rest.partition("-")[0]
    return first != second and all(part.isdecimal() and int(part) <= MONTHS for part in (first, second))
