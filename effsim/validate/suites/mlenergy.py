"""Steady-state serving beside the ML.ENERGY benchmark v3: latency, power, energy per token, and the choice of a configuration."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, Final

import pandas as pd

from effsim.errors import SpecError
from effsim.validate.comparison import Comparison, Skipped, SuiteResult
from effsim.validate.context import Context, half_as_sure
from effsim.validate.leaderboard import INDEX, is_leaderboard, rows_of
from effsim.validate.mlenergy import read
from effsim.validate.serving_fit import tiers

ORDER: Final = 1
TITLE: Final = "Serving in steady state (ML.ENERGY v3)"
SOURCE: Final = "ML.ENERGY leaderboard v3, vLLM 0.11.1 on H100 SXM and B200; https://ml.energy/leaderboard"
FILE: Final = "mlenergy_v3_given.csv"
UNITS: Final = {"itl_s": "s", "tpot_s": "s", "power_w": "W", "energy_per_output_token_j": "J"}
SPLITS: Final = {
    "data sheet": "1 data sheet only",
    "engine prior": "2 with what is known of vLLM",
    "kernels": "3 with kernel tables",
    "other accelerator": "leave one GPU out",
    "other models": "leave one model out",
}
"""Tier of :func:`effsim.validate.serving_fit.tiers` -> split of the report."""
HEADLINE: Final = SPLITS["other models"]


def run(context: Context) -> SuiteResult:
    """Return ITL, TPOT, power and energy per output token of every row in which the GPU did not wait for the host, by tier.

    With ``calibration="none"`` only the tier of data sheets is kept.

    Raises:
        SpecError: The rows are not there.
    """
    path = context.find(FILE)
    if path is not None:
        return of_rows(path, only_datasheet=context.calibration == "none")
    index = context.find(INDEX)
    if index is None or not is_leaderboard(index.parent):
        raise SpecError(f"{FILE}, or the data of the public leaderboard ({INDEX}, models/): not found; name its folder with --data or in EFFSIM_DATA")
    rows, left = rows_of(index.parent)
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / FILE
        rows.to_csv(table, index=False)
        found = of_rows(table, only_datasheet=context.calibration == "none")
    return dataclasses.replace(found, skipped=(*found.skipped, *(Skipped("mlenergy", name, reason) for name, reason in left)))


def of_rows(path: Path, *, only_datasheet: bool = False) -> SuiteResult:
    """Return the suite's result for a CSV of the benchmark.

    Args:
        path: Rows of the benchmark.
        only_datasheet: Leave the other tiers out.
    """
    rows = tiers(path)
    if only_datasheet:
        rows = rows[rows.tier == "data sheet"]
    bound = read(path)
    waiting = bound[bound.host_bound != 0]
    return SuiteResult(
        name="mlenergy",
        title=TITLE,
        source=SOURCE,
        basis="Each prediction is blind to the model that it predicts: data sheet only; with priors of vLLM; with kernel tables of the GPU (no serving data); "
        "with serving runs of every other model on the GPU (leave one model out); with the fit of the other GPU (leave one GPU out).",
        comparisons=tuple(comparisons(rows)),
        skipped=tuple(Skipped("mlenergy", row_name(row), "the GPU waited for the host") for row in waiting.to_dict(orient="records")),
        notes=(
            "The prompt length is an estimate: the source does not state it.",
            "A choice is among all measured configurations (GPU, count, batch) of a model and a task.",
        ),
        headline=SPLITS["data sheet"] if only_datasheet else HEADLINE,
    )


def row_name(row: dict[Any, Any]) -> str:
    """Return what identifies a row.

    >>> row_name({"model_id": "a/b", "task": "chat", "gpu": "H100", "num_gpus": 2, "avg_batch_size": 7.99})
    'a/b chat 2 x H100, batch 8'
    """
    return f"{row['model_id']} {row['task']} {row['num_gpus']} x {row['gpu']}, batch {row['avg_batch_size']:.0f}"


def comparisons(rows: pd.DataFrame) -> list[Comparison]:
    """Return the comparisons of a table of :func:`effsim.validate.serving_fit.tiers`."""
    found = []
    for row in rows.to_dict(orient="records"):
        predicted, low, high = float(row["predicted"]), float(row["low"]), float(row["high"])
        low_50, high_50 = half_as_sure(predicted, low, high)
        found.append(
            Comparison(
                suite="mlenergy",
                cell=f"{str(row['gpu']).removesuffix('_sxm').upper()} {row['kind']}",
                row=f"{row['configuration']}, batch {row['batch']:.0f}",
                quantity=str(row["output"]),
                unit=UNITS[str(row["output"])],
                measured=float(row["measured"]),
                predicted=predicted,
                low_50=low_50,
                high_50=high_50,
                low_90=low,
                high_90=high,
                split=SPLITS[str(row["tier"])],
                group=str(row["configuration"]).rsplit(" ", 3)[0],
            )
        )
    return found
