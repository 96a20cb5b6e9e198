"""Step times predicted beside step times measured."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.catalog import suggest
from effsim.cost.training import TrainingEstimate, estimate_training
from effsim.errors import EffSimError, InfeasibleError, SpecError
from effsim.specs import loading
from effsim.specs.models import model
from effsim.validate.mlenergy import model_class
from effsim.validate.training.case import Case, superseded
from effsim.validate.training.families import FAMILIES, cases

WORST: Final = 3
STATED: Final = "stated"
ASSUMED: Final = "assumed"
"""Whether the table or the recipe of a run states all of its configuration, or some of it is a guess."""
AMPLE: Final = 100.0  # times the memory of a device


def estimate_of(one: Case, calibration: Any = "none") -> tuple[TrainingEstimate, str | None]:
    """Return the estimate of a case, and what the memory model says against it.

    The run took place: where the memory model says that it does not fit, time and power are those of a device with ample memory.

    Raises:
        EffSimError: The model refuses the configuration for another reason.
    """
    try:
        return estimate_training(**one.arguments, calibration=calibration), None
    except InfeasibleError as error:
        device = loading.accelerator(one.arguments["accelerator"])
        ample = device.model_copy(update={"memory": device.memory.model_copy(update={"value": AMPLE * device.memory.value})})
        return estimate_training(**{**one.arguments, "accelerator": ample}, calibration=calibration), str(error)


def predictions(chosen: Iterable[Case], calibration: str = "none", *, by_case: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Return one row per case: measured and predicted step time, signed error, 90 % interval, and why it is absent where it is.

    ``error_pct`` is predicted over measured less 1, in percent; ``inside`` whether the interval holds the measurement;
    ``configuration`` whether all of it is stated; ``older_release`` whether the same configuration ran again under a later release of the software.

    Args:
        chosen: Cases.
        calibration: As :func:`effsim.estimate_training` takes it.
        by_case: Calibrations of single records, which win.
    """
    listed = list(chosen)
    old = superseded(listed)
    rows = [_predicted(one, (by_case or {}).get(one.record, calibration)) | {"older_release": one.record in old} for one in listed]
    return pd.DataFrame(rows)


def _predicted(one: Case, calibration: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"family": one.family, "record": one.record, "accelerator": one.accelerator, "engine": one.engine, "kind": _kind(one)}
    row["configuration"] = ASSUMED if one.unstated else STATED
    blank = dict.fromkeys(("measured_step_time_s", "predicted_step_time_s", "error_pct", "low_s", "high_s", "inside"))
    ending = {"assumed": one.assumed, "unstated": one.unstated, "skipped": one.skipped}
    if one.skipped is not None:
        return {**row, **blank, **ending, "refused": None, "does_not_fit": None}
    try:
        estimate, does_not_fit = estimate_of(one, calibration)
    except EffSimError as error:
        return {**row, **blank, "measured_step_time_s": one.measured_step_time_s, **ending, "refused": str(error), "does_not_fit": None}
    low_s, high_s = estimate.interval("step_time_s")
    measured_s = one.measured_step_time_s
    found = {
        "measured_step_time_s": measured_s,
        "predicted_step_time_s": estimate.step_time_s,
        "error_pct": 100.0 * (estimate.step_time_s / measured_s - 1.0),
        "low_s": low_s,
        "high_s": high_s,
        "inside": low_s <= measured_s <= high_s,
    }
    return {**row, **found, **ending, "refused": None, "does_not_fit": does_not_fit}


def _kind(one: Case) -> str | None:
    """Return ``dense``, ``moe`` or ``hybrid``; None where the record is skipped."""
    return model_class(model(one.arguments["model"])) if one.arguments else None


def summary(rows: pd.DataFrame, by: tuple[str, ...] = ("family", "accelerator", "kind", "older_release")) -> pd.DataFrame:
    """Return errors by group: records, those skipped and refused, median, mean and signed median error, share inside, worst records."""
    skipped = rows.skipped.notna()
    groups = rows[~skipped].groupby(list(by), sort=True)
    lines = []
    for key, part in groups:
        valid = part[part.refused.isna()]
        error = valid.error_pct.astype(float)
        worst = valid.reindex(error.abs().sort_values(ascending=False).index)[:WORST]
        line = dict(zip(by, key, strict=True)) | {"records": len(part), "refused": len(part) - len(valid), "assumed": int((valid.assumed != "").sum())}
        line["does_not_fit"] = int(valid.does_not_fit.notna().sum())
        line |= {
            "median_ape_pct": float(np.median(error.abs())) if len(error) else None,
            "mape_pct": float(error.abs().mean()) if len(error) else None,
            "median_error_pct": float(np.median(error)) if len(error) else None,
            "inside_90_pct": 100.0 * float(valid.inside.astype(float).mean()) if len(error) else None,
            "worst": ", ".join(f"{r.record} {r.error_pct:+.0f} %" for r in worst.itertuples()),
        }
        lines.append(line)
    return pd.DataFrame(lines)


def skipped(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how many records were skipped, by family and reason."""
    part = rows[rows.skipped.notna()]
    counts = part.groupby(["family", "skipped"], sort=True).size()
    return counts.rename("records").reset_index()


def chosen_cases(family: str | None = None, path: Path | str | None = None) -> list[Case]:
    """Return the cases of a family, or all.

    Raises:
        SpecError: No such family, or no such file.
    """
    if family is not None and family not in FAMILIES:
        raise SpecError(f"family: unknown {family!r}; {suggest(family, FAMILIES)}allowed: {', '.join(FAMILIES)}")
    return [one for one in cases(path) if family is None or one.family == family]


def report(family: str | None = None, calibration: str = "none", path: Path | str | None = None) -> pd.DataFrame:
    """Return one row per record of a family, or of all; see :func:`predictions`.

    Raises:
        SpecError: No such family, or no such file.
    """
    return predictions(chosen_cases(family, path), calibration)
