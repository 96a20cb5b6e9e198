"""``dcgmi dmon -e 155,156``: power (POWER) and energy (TOTEC) as text in columns, or the same with commas.

The tool prints no times. A time may stand before each line (``dcgmi dmon ... | ts %.s``); else the period of ``-d`` must be given.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from effsim.errors import SpecError
from effsim.meters import facts
from effsim.meters.base import Channel, Reading
from effsim.meters.logs.rows import LogOptions, number, recording, time_s
from effsim.meters.recording import Recording

TITLE: Final = "dcgmi dmon -e 155,156"
POWER_NAMES: Final = {"POWER", "PWR", "POWRD"}
ENERGY_NAMES: Final = {"TOTEC"}
_ROW: Final = re.compile(r"^(?P<time>.*?)\b(?P<entity>GPU)\s+(?P<index>\d+)\s*[\s,]\s*(?P<values>.+)$")
_HEADER: Final = re.compile(r"#\s*Entity[\s,]+(?P<names>.+)$")


def recognises(lines: Sequence[str]) -> bool:
    """Return whether a line names entities and a power or energy."""
    names = next((_header(line) for line in lines if _header(line)), [])
    return bool({*names} & (POWER_NAMES | ENERGY_NAMES))


def _header(line: str) -> list[str]:
    """Return the names of the columns after the entity.

    >>> _header("#Entity   POWER   TOTEC   SMCLK")
    ['POWER', 'TOTEC', 'SMCLK']
    """
    match = _HEADER.search(line)
    return [name for name in re.split(r"[\s,]+", match["names"].strip()) if name] if match else []


def parse(lines: Iterable[str], path: Path, options: LogOptions) -> Recording:
    """Return power and energy channels per GPU; MIG instances have no power of their own and are left out.

    Raises:
        SpecError: No times and no period given, or a row that does not fit the header.
    """
    names: list[str] = []
    channels: dict[str, Channel] = {}
    readings: list[Reading] = []
    seen: dict[str, int] = {}
    for line_number, line in enumerate(lines, start=1):
        names = _header(line) or names
        row = _ROW.match(line)
        if _header(line) or row is None:
            continue
        where, device = f"{path}, line {line_number}", f"gpu{row['index']}"
        values = [value for value in re.split(r"[\s,]+", row["values"].strip()) if value]
        if len(values) != len(names):
            raise SpecError(f"{where}: expected {len(names)} values ({', '.join(names) or 'no header above'}), found {len(values)}")
        at_s = _at_s(row["time"], seen.get(device, 0), where, options)
        seen[device] = seen.get(device, 0) + 1
        for name, value in zip(names, values, strict=True):
            channel = _channel(device, name)
            if channel is not None:
                channels.setdefault(channel.name, channel)
                count = number(value, f"{where}, {name}")
                readings.append(Reading(channel.name, at_s, count, "" if count is not None else value))
    return recording(channels.values(), readings, path)


def _at_s(prefix: str, position: int, where: str, options: LogOptions) -> float:
    given = prefix.strip(" \t,[]")
    if given:
        return time_s(given, where, options)
    if options.period_s is None:
        raise SpecError(f"{where}: dcgmi prints no times: give the period of its -d, or log with `dcgmi dmon ... | ts %.s`")
    return position * options.period_s


def _channel(device: str, column: str) -> Channel | None:
    accuracy_ratio = facts.NVML_ACCURACY.value
    if column in ENERGY_NAMES:
        period_s = facts.NVML_COUNTER_PERIOD.value
        return Channel(f"dcgm/{device}/energy", device, "accelerator", "energy", 1e-3, period_s=period_s, accuracy_ratio=accuracy_ratio)
    if column in POWER_NAMES:
        period_s = facts.NVML_POWER_PERIOD.value
        return Channel(f"dcgm/{device}/power", device, "accelerator", "power", 1.0, period_s=period_s, accuracy_ratio=accuracy_ratio, preference=1)
    return None
