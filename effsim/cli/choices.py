"""How ``effsim optimize choices`` shows its table."""

import math
from collections.abc import Sequence
from typing import Any

from effsim.cli.output import cell, print_json, print_table
from effsim.results import plain
from effsim.strategies.job import TrainingJob
from effsim.strategies.training_table import choices
from effsim.units import BYTES_PER_GIB

COLUMNS = ("choice", "setting", "step s", "kJ/step", "GiB", "tokens to the same loss", "energy to the same loss", "server energy", "")
ENDS = {"low": "tokens_factor_low", "median": "tokens_factor", "high": "tokens_factor_high"}


def print_choices(job: TrainingJob, names: Sequence[str] | None, *, as_json: bool) -> None:
    """Print every choice, or those named, beside the job as it is.

    In JSON a number that is absent and one that is infinite are both ``null``; ``reached`` tells them apart: whether the loss is reached
    at the low end, the median and the high end of the tokens, ``null`` where no figure is published.
    """
    table = choices(job, names or None)
    rows = table.to_dict(orient="records")
    if as_json:
        listed = [{**plain(row), "reached": {end: _reached(row[name]) for end, name in ENDS.items()}} for row in rows]
        return print_json({"tokens": job.target_tokens, "choices": listed})
    title = f"{job.model} on {job.num_accelerators} x {job.accelerator}, {job.target_tokens:.3g} tokens; energies relative to the first row, 90 % intervals"
    print_table(COLUMNS, [_listed(row) for row in rows], title)
    print("sources, dates and notes of each row: --json")
    return None


def _reached(factor: Any) -> bool | None:
    number = _number(factor)
    return None if math.isnan(number) else math.isfinite(number)


def _listed(row: dict[Any, Any]) -> list[Any]:
    memory, energy = _number(row["memory_bytes"]), _number(row["energy_j_per_step"])
    return [
        row["choice"],
        row["setting"],
        _number(row["step_time_s"]),
        energy / 1e3,
        memory / BYTES_PER_GIB,
        _ranged(row, "tokens_factor"),
        _ranged(row, "energy_ratio"),
        _shown(row["server_energy_ratio"]),
        "" if row["feasible"] else row["reason"],
    ]


def _ranged(row: dict[Any, Any], name: str) -> str:
    median, low, high = (_shown(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return median if low == median == high else f"{median or 'unknown'} [{low}, {high}]"


def _shown(value: Any) -> str:
    number = _number(value)
    return "not reached" if math.isinf(number) else cell(round(number, 3) if math.isfinite(number) else None)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
