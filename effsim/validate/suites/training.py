"""Step times of published training runs, by source of the runs."""

from typing import Any, Final

import pandas as pd

from effsim.validate.comparison import PRIOR_ONLY, Comparison, Skipped, SuiteResult
from effsim.validate.context import Context, half_as_sure
from effsim.validate.training import chosen_cases
from effsim.validate.training.report import predictions
from effsim.validate.training.roles import CALIBRATED, UNFITTED, VALIDATED, with_roles
from effsim.validate.training.roles import OLDER as OLDER_ROLE

ORDER: Final = 3
TITLE: Final = "Training step times (published runs)"
SOURCE: Final = (
    "Megatron-LM SC'21, Megatron-Core, NeMo Megatron-Bridge, MosaicML, torchtitan, MaxText, tpu-recipes, MLPerf Training; each record has its source"
)
FITTED: Final = "fitted to these rows"
UNSEEN: Final = "calibrated on other configurations"
OLDER: Final = "older release of the software"
SPLITS: Final = {CALIBRATED: FITTED, VALIDATED: UNSEEN, OLDER_ROLE: OLDER, UNFITTED: "no calibration of that accelerator and engine"}
"""Role of a run -> split of the report."""
ALL_FITTED: Final = "megatron_sc21"


def run(context: Context) -> SuiteResult:
    """Return the step time of every record with a stated configuration, under the shipped calibrations or the priors.

    Raises:
        SpecError: The records are not there.
    """
    cases = chosen_cases(None, context.data)
    rows = with_roles(predictions(cases, context.calibration), cases)
    fitted = context.calibration != "none"
    valid = rows[rows.role.notna()]
    found = [_comparison(row, SPLITS[str(row["role"])] if fitted else PRIOR_ONLY) for row in valid.to_dict(orient="records")]
    if fitted:  # every row of this source calibrates: beside the fit, what stands without it
        alone = predictions([one for one in cases if one.family == ALL_FITTED and one.skipped is None], "none")
        found += [_comparison(row, PRIOR_ONLY) for row in alone[alone.refused.isna()].to_dict(orient="records")]
    return SuiteResult(
        name="training",
        title=TITLE,
        source=SOURCE,
        basis="One calibration per accelerator and engine; every second configuration calibrates, the others validate; where there is none, priors only."
        if fitted
        else "Data sheets and priors by class of device; nothing fitted to these rows.",
        comparisons=tuple(found),
        skipped=tuple(_skipped(rows)),
        notes=("A run that seems not to fit by the memory model is timed all the same.",),
    )


def _comparison(row: dict[Any, Any], seen: str) -> Comparison:
    predicted, low, high = float(row["predicted_step_time_s"]), float(row["low_s"]), float(row["high_s"])
    low_50, high_50 = half_as_sure(predicted, low, high)
    return Comparison(
        suite="training",
        cell=f"{row['family']} {row['kind']}",
        row=str(row["record"]),
        quantity="step_time_s",
        unit="s",
        measured=float(row["measured_step_time_s"]),
        predicted=predicted,
        low_50=low_50,
        high_50=high_50,
        low_90=low,
        high_90=high,
        split=seen,
    )


def _skipped(rows: pd.DataFrame) -> list[Skipped]:
    left = rows[rows.skipped.notna() | rows.refused.notna()].to_dict(orient="records")
    return [Skipped("training", str(row["record"]), str(row["refused"] if pd.isna(row["skipped"]) else row["skipped"])) for row in left]
