"""Steady-state serving beside the ML.ENERGY benchmark v3: latency, power, energy per token, and the choice of a configuration."""

from typing import Any, Final

import pandas as pd

from effsim.errors import SpecError
from effsim.validate.comparison import PRIOR_ONLY, Comparison, Skipped, SuiteResult
from effsim.validate.context import Context, half_as_sure
from effsim.validate.mlenergy import predictions

ORDER: Final = 1
TITLE: Final = "Serving in steady state (ML.ENERGY v3)"
SOURCE: Final = "ML.ENERGY leaderboard v3, vLLM 0.11.1 on H100 SXM and B200; https://ml.energy/leaderboard"
FILE: Final = "mlenergy_v3_given.csv"
UNITS: Final = {"itl_s": "s", "tpot_s": "s", "power_w": "W", "energy_per_output_token_j": "J"}


def run(context: Context) -> SuiteResult:
    """Return ITL, TPOT, power and energy per output token of every row in which the GPU did not wait for the host.

    Raises:
        SpecError: The rows are not there.
    """
    path = context.find(FILE)
    if path is None:
        raise SpecError(f"{FILE}: not found; name its folder with --data or in EFFSIM_DATA")
    rows = predictions(path, "none")
    return SuiteResult(
        name="mlenergy",
        title=TITLE,
        source=SOURCE,
        basis="Data sheets and priors by class of device; nothing fitted to these rows.",
        comparisons=tuple(comparisons(rows, PRIOR_ONLY)),
        skipped=tuple(Skipped("mlenergy", row_name(row), str(row["refused"])) for row in rows[rows.refused.notna()].to_dict(orient="records")),
        notes=(
            "Rows in which the GPU waited for the host are left out. The prompt length is an estimate: the source does not state it.",
            "A choice is among all measured configurations (GPU, count, batch) of a model and a task.",
        ),
    )


def row_name(row: dict[Any, Any]) -> str:
    """Return what identifies a row.

    >>> row_name({"model_id": "a/b", "task": "chat", "gpu": "H100", "num_gpus": 2, "avg_batch_size": 7.99})
    'b, chat, 2 x H100, batch 8'
    """
    return f"{str(row['model_id']).rsplit('/', 1)[-1]}, {row['task']}, {row['num_gpus']} x {row['gpu']}, batch {row['avg_batch_size']:.0f}"


def comparisons(rows: pd.DataFrame, split: str) -> list[Comparison]:
    """Return the comparisons of a table of :func:`effsim.validate.mlenergy.predictions`; rows that were refused have none.

    Args:
        rows: With ``measured_*``, ``predicted_*``, ``low_*`` and ``high_*`` (90 %) for each output.
        split: What the predictions were allowed to see.
    """
    found = []
    for row in rows[rows.refused.isna()].to_dict(orient="records"):
        for name, unit in UNITS.items():
            predicted, low, high = (float(row[f"{part}_{name}"]) for part in ("predicted", "low", "high"))
            common = {"suite": "mlenergy", "cell": f"{row['gpu']} {row['kind']}", "row": row_name(row), "quantity": name, "unit": unit, "split": split}
            low_50, high_50 = half_as_sure(predicted, low, high)
            found.append(
                Comparison(
                    **common,
                    measured=float(row[f"measured_{name}"]),
                    predicted=predicted,
                    low_50=low_50,
                    high_50=high_50,
                    low_90=low,
                    high_90=high,
                    group=f"{row['model_id']} {row['task']}",
                )
            )
    return found
