"""``nvidia-smi --query-gpu=timestamp,index,power.draw ... --format=csv -l 1`` (or ``-lms 100``), with or without units."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from effsim.errors import SpecError
from effsim.meters import facts
from effsim.meters.base import Channel, Reading
from effsim.meters.logs.rows import POWERS, LogOptions, number, recording, time_s
from effsim.meters.recording import Recording

TITLE: Final = "CSV of nvidia-smi --query-gpu=timestamp,index,power.draw"
POWER_COLUMNS: Final = ("power.draw.instant", "power.draw", "power.draw.average")
"""Most momentary first; the plain one is a mean of 1 s on most GPUs since Ampere."""

AVERAGED: Final = {"power.draw": facts.NVML_AVERAGING.value, "power.draw.average": facts.NVML_AVERAGING.value}


def recognises(lines: Sequence[str]) -> bool:
    """Return whether the first line names a time and a power as nvidia-smi does."""
    names = _names(lines[0]) if lines else []
    return "timestamp" in names and any(name in POWER_COLUMNS for name in names)


def _names(header: str) -> list[str]:
    """Return column names without units.

    >>> _names("timestamp, index, power.draw [W]")
    ['timestamp', 'index', 'power.draw']
    """
    return [name.partition("[")[0].strip().lower() for name in header.split(",")]


def parse(lines: Iterable[str], path: Path, options: LogOptions) -> Recording:
    """Return one channel per GPU and power column.

    Raises:
        SpecError: A row that does not fit the header, or several GPUs without a column that tells them apart.
    """
    table = csv.reader(lines, skipinitialspace=True)
    names = _names(",".join(next(table, [])))
    powers = [name for name in POWER_COLUMNS if name in names]
    identity = next((name for name in ("index", "uuid", "gpu_uuid", "pci.bus_id", "gpu_bus_id") if name in names), None)
    channels: dict[str, Channel] = {}
    readings: list[Reading] = []
    for line, row in enumerate(table, start=2):
        where = f"{path}, line {line}"
        if not row or _names(",".join(row)) == names:  # nvidia-smi repeats nothing, but joined files do
            continue
        if len(row) != len(names):
            raise SpecError(f"{where}: expected {len(names)} values ({', '.join(names)}), found {len(row)}")
        given = dict(zip(names, row, strict=True))
        device = _device(given[identity]) if identity else "gpu0"
        for preference, column in enumerate(powers):
            name = f"nvidia-smi/{device}/{column}"
            if name not in channels:
                channels[name] = _channel(name, device, given.get("name", ""), column, preference)
            power_w = number(given[column], f"{where}, {column}", POWERS)
            readings.append(Reading(name, time_s(given["timestamp"], where, options), power_w, "" if power_w is not None else given[column].strip()))
    _told_apart(readings, identity, path)
    return recording(channels.values(), readings, path)


def _channel(name: str, device: str, model: str, column: str, preference: int) -> Channel:
    return Channel(
        name=name,
        device=device,
        scope="accelerator",
        quantity="power",
        unit_size=1.0,
        model=model.strip(),
        period_s=facts.NVML_POWER_PERIOD.value,
        averaging_s=AVERAGED.get(column, 0.0),
        accuracy_ratio=facts.NVML_ACCURACY.value,
        preference=preference,
    )


def _device(identity: str) -> str:
    return f"gpu{identity.strip()}" if identity.strip().isdecimal() else identity.strip()


def _told_apart(readings: list[Reading], identity: str | None, path: Path) -> None:
    times_s = [reading.t_s for reading in readings]
    if identity is None and len(set(times_s)) < len(times_s) / 1.5 and len({reading.channel for reading in readings}) == 1:
        raise SpecError(f"{path}: several rows per time and no column that tells the GPUs apart; log with --query-gpu=timestamp,index,power.draw")
