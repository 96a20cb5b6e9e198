"""A plain CSV, one load per row; the columns are the fields of :class:`~effsim.calibrate.logs.record.Measurement`.

Required: ``output_tokens_per_s`` or one of the latencies or energies. Latencies have a statistic in their name:
``ttft_median_s``, ``tpot_mean_s``, ``itl_p99_s``, ``e2e_p90_s``, or the same ending in ``_ms``. Columns that are not known are
refused, so that a misspelt one does not vanish.
"""

import re
from typing import Any, Final

from effsim.calibrate.logs.fields import MILLISECOND, Sheet, count, positive, text
from effsim.calibrate.logs.record import Measurement, Spread
from effsim.catalog import suggest
from effsim.errors import SpecError

TITLE: Final = "plain CSV"
NAMES: Final = ("model", "accelerator")
COUNTS: Final = ("num_accelerators", "tensor_parallel", "expert_parallel", "data_parallel", "requests")
NUMBERS: Final = (
    "request_rate_per_s", "concurrency", "batch", "prompt_tokens", "output_tokens", "duration_s", "output_tokens_per_s", "requests_per_s", "power_w",
    "energy_j", "energy_per_output_token_j",
)  # fmt: skip
LATENCY: Final = re.compile(r"^(ttft|tpot|itl|e2e)_(mean|median|p90|p99)_(s|ms)$")
_LATENCIES: Final = ("ttft", "tpot", "itl", "e2e")
_OWN: Final = {"output_tokens_per_s", "power_w", "energy_j", "energy_per_output_token_j", "tensor_parallel", "num_accelerators", "prompt_tokens", "concurrency"}


def sniff(document: Any) -> bool:
    """Return whether the first line has two of the columns."""
    return isinstance(document, Sheet) and sum(name in _OWN or bool(LATENCY.match(name)) for name in document.header) > 1


def read(document: Any, where: str) -> list[Measurement]:
    """Return one measurement per row; rows with none of the measured figures are left out.

    Raises:
        SpecError: A column that is not known, or a cell that is no number.
    """
    allowed = (*NAMES, *COUNTS, *NUMBERS)
    strange = next((name for name in document.header if name not in allowed and not LATENCY.match(name)), None)
    if strange is not None:
        hint = suggest(strange, (*allowed, *(f"{name}_median_s" for name in _LATENCIES)))
        raise SpecError(f"{where}: the column {strange!r} is not known; {hint}allowed: {', '.join(allowed)}, and latencies such as ttft_median_s or itl_p99_ms")
    found = [_row(row, f"{where}, row {index}") for index, row in enumerate(document.records(), 1)]
    return [one for one in found if one.output_tokens_per_s or one.power_w or one.energy_j or not all(getattr(one, name).is_blank for name in _LATENCIES)]


def _row(row: dict[str, str], where: str) -> Measurement:
    latencies = {name: Spread(**_statistics(row, name, where)) for name in _LATENCIES}
    names = {name: text(row.get(name, "")) for name in NAMES}
    counts = {name: count(row.get(name), f"{where}, {name}") for name in COUNTS}
    numbers = {name: positive(row.get(name), f"{where}, {name}") for name in NUMBERS}
    return Measurement(source=where, tool=TITLE, **names, **counts, **numbers, **latencies)  # type: ignore[arg-type]


def _statistics(row: dict[str, str], name: str, where: str) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for column, cell in row.items():
        parts = LATENCY.match(column)
        if parts and parts[1] == name:
            value = positive(cell, f"{where}, {column}")
            found[f"{parts[2]}_s"] = None if value is None else value * (MILLISECOND if parts[3] == "ms" else 1.0)
    return found
