"""ML.ENERGY rows as CSV, as ``effsim validate mlenergy`` takes them: one steady-state configuration per row."""

from typing import Any, Final

from effsim.calibrate.logs.fields import MILLISECOND, Sheet, count, positive, text
from effsim.calibrate.logs.record import Measurement, Spread

TITLE: Final = "ML.ENERGY (CSV)"
_COLUMNS: Final = {"model_id", "gpu", "num_gpus", "avg_batch_size", "median_itl_ms", "output_tokens_per_s", "power_w_all_gpus"}


def sniff(document: Any) -> bool:
    """Return whether the columns are there."""
    return isinstance(document, Sheet) and set(document.header) >= _COLUMNS


def read(document: Any, where: str) -> list[Measurement]:
    """Return one measurement per row."""
    return [_row(row, f"{where}, row {index}") for index, row in enumerate(document.records(), 1)]


def _row(row: dict[str, str], where: str) -> Measurement:
    def at(name: str) -> float | None:
        return positive(row.get(name), f"{where}, {name}")

    def ranks(name: str) -> int | None:
        return count(row.get(name), f"{where}, {name}")

    itl_ms, p90_ms, p99_ms = at("median_itl_ms"), at("p90_itl_ms"), at("p99_itl_ms")
    return Measurement(
        source=where,
        tool=TITLE,
        model=text(row["model_id"]),
        accelerator=text(row["gpu"]),
        num_accelerators=ranks("num_gpus"),
        tensor_parallel=ranks("tensor_parallel"),
        expert_parallel=ranks("expert_parallel"),
        data_parallel=ranks("data_parallel"),
        concurrency=at("max_num_seqs"),
        batch=at("avg_batch_size"),
        prompt_tokens=at("prompt_tokens_estimate"),
        output_tokens=at("avg_output_tokens"),
        itl=Spread(median_s=_seconds(itl_ms), p90_s=_seconds(p90_ms), p99_s=_seconds(p99_ms)),
        output_tokens_per_s=at("output_tokens_per_s"),
        power_w=at("power_w_all_gpus"),
        energy_per_output_token_j=at("energy_per_output_token_j"),
    )


def _seconds(value_ms: float | None) -> float | None:
    return None if value_ms is None else value_ms * MILLISECOND
