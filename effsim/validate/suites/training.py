"""Step times of published training runs, by source of the runs."""

from typing import Any, Final

import pandas as pd

from effsim.validate.comparison import PRIOR_ONLY, Comparison, Skipped, SuiteResult
from effsim.validate.context import Context, half_as_sure
from effsim.validate.training import chosen_cases
from effsim.validate.training.calibrated import PLANS, split
from effsim.validate.training.report import predictions

ORDER: Final = 3
TITLE: Final = "Training step times (published runs)"
SOURCE: Final = (
    "Megatron-LM SC'21, Megatron-Core, NeMo Megatron-Bridge, MosaicML, torchtitan, MaxText, tpu-recipes, MLPerf Training; each record has its source"
)
FITTED: Final = "fitted to these rows"
UNSEEN: Final = "calibrated on other configurations"
ALL_FITTED: Final = "megatron_sc21"
OLDER: Final = "older release of the software"


def run(context: Context) -> SuiteResult:
    """Return the step time of every record with a stated configuration, under the shipped calibrations or the priors.

    Raises:
        SpecError: The records are not there.
    """
    cases = chosen_cases(None, context.data)
    rows = predictions(cases, context.calibration)
    fitted = set() if context.calibration == "none" else {one.record for plan in PLANS for group in split(plan, cases)[0] for one in group}
    known = {(plan.accelerator, plan.engine) for plan in PLANS} if context.calibration != "none" else set()
    valid = rows[rows.skipped.isna() & rows.refused.isna()]
    found = [_comparison(row, _split(row, fitted, known)) for row in valid.to_dict(orient="records")]
    if context.calibration != "none":  # every row of this source calibrates: beside the fit, what stands without it
        alone = predictions([one for one in cases if one.family == ALL_FITTED and one.skipped is None], "none")
        found += [_comparison(row, PRIOR_ONLY) for row in alone[alone.refused.isna()].to_dict(orient="records")]
    return SuiteResult(
        name="training",
        title=TITLE,
        source=SOURCE,
        basis="One calibration per accelerator and engine; every second configuration calibrates, the others validate; where there is none, priors only."
        if known
        else "Data sheets and priors by class of device; nothing fitted to these rows.",
        comparisons=tuple(found),
        skipped=tuple(_skipped(rows)),
        notes=("A run that seems not to fit by the memory model is timed all the same.",),
    )


def _split(row: dict[Any, Any], fitted: set[str], known: set[tuple[str, str]]) -> str:
    if row["record"] in fitted:
        return FITTED
    if row["older_release"]:
        return OLDER
    return UNSEEN if (row["accelerator"], row["engine"]) in known else PRIOR_ONLY


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
