"""A plain CSV of a wall meter: a column of times and one of power (or of energy that only grows), with a header that names their units."""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from effsim.errors import SpecError
from effsim.meters import facts
from effsim.meters.base import Channel, Reading
from effsim.meters.logs.rows import LogOptions, number, recording, time_s
from effsim.meters.recording import Recording

TITLE: Final = "CSV with the columns timestamp and power_w (or power_kw, energy_kwh ...)"
TIMES: Final = ("timestamp", "time", "datetime", "date_time", "time_s", "t_s", "epoch_s", "unix_time", "elapsed_s")
UNITS: Final[dict[str, tuple[str, float]]] = {
    "w": ("power", 1.0), "watt": ("power", 1.0), "watts": ("power", 1.0), "kw": ("power", 1e3), "mw": ("power", 1e-3),
    "j": ("energy", 1.0), "kj": ("energy", 1e3), "wh": ("energy", 3600.0), "kwh": ("energy", 3.6e6),
}  # fmt: skip


def _key(name: str) -> str:
    """Return a column name in lower case with single underscores.

    >>> _key("Active Power [kW]")
    'active_power_kw'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _columns(header: str) -> tuple[str | None, dict[str, tuple[str, float]]]:
    """Return the column of times and those of power or energy with what one count is."""
    keys = [_key(name) for name in next(csv.reader([header]), [])]
    when = next((name for name in TIMES if name in keys), None)
    measured = {key: UNITS[key.rpartition("_")[2]] for key in keys if key.rpartition("_")[2] in UNITS and key not in TIMES}
    return when, measured


def recognises(lines: Sequence[str]) -> bool:
    """Return whether the header names a time and a power or energy with its unit."""
    when, measured = _columns(lines[0]) if lines else (None, {})
    header = lines[0].lower() if lines else ""
    return when is not None and bool(measured) and "power.draw" not in header and not _NUMBER.search(header)


_NUMBER: Final = re.compile(r"(^|,)\s*[\d.]+\s*(,|$)")
"""A cell that no header has, but a line of PTDaemon."""


def parse(lines: Iterable[str], path: Path, options: LogOptions) -> Recording:
    """Return one channel per column of power or energy, all of the machine at its plug.

    Raises:
        SpecError: A row that does not fit the header.
    """
    table = csv.reader(lines, skipinitialspace=True)
    header = next(table, [])
    when, measured = _columns(",".join(header))
    keys = [_key(name) for name in header]
    accuracy_ratio = facts.WALL_ACCURACY.value if options.accuracy_ratio is None else options.accuracy_ratio
    channels = {}
    for key, (quantity, unit_size) in measured.items():
        device = "wall" if len(measured) == 1 else f"wall-{key.rpartition('_')[0] or key}"
        channels[key] = Channel(f"{device}/{quantity}", device, "server", quantity, unit_size, accuracy_ratio=accuracy_ratio)  # type: ignore[arg-type]
    readings = []
    for line, row in enumerate(table, start=2):
        if not row:
            continue
        if len(row) != len(keys):
            raise SpecError(f"{path}, line {line}: expected {len(keys)} values ({', '.join(keys)}), found {len(row)}")
        given = dict(zip(keys, row, strict=True))
        at_s = time_s(given[when or ""], f"{path}, line {line}", options)
        for key, channel in channels.items():
            count = number(given[key], f"{path}, line {line}, {key}")
            readings.append(Reading(channel.name, at_s, count, "" if count is not None else given[key].strip() or "empty"))
    return recording(channels.values(), readings, path)
