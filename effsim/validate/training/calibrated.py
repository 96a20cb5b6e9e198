"""Fits of the coefficients to published step times: one per accelerator and engine, some runs to calibrate, the others to validate."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.calibrate.training_fit import Fit, Observation, calibration_document, fit, leave_one_out, remembered
from effsim.cost.device import COEFFICIENTS, Coefficients, prior_for
from effsim.errors import CalibrationError
from effsim.specs import loading
from effsim.validate.training.case import Case
from effsim.validate.training.report import chosen_cases, estimate_of

HALVED: Final = "every second configuration"
DATE: Final = "2026-11"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What calibrates one accelerator under one engine.

    Args:
        families: Whose rows calibrate.
        all_rows: All of them, with the leave-one-out error beside it; else every second configuration, the others validate.
        title: Names the rows as a source.
    """

    accelerator: str
    engine: str
    families: tuple[str, ...]
    title: str
    all_rows: bool = False

    @property
    def name(self) -> str:
        """Of the calibration: what ``calibration="auto"`` looks for."""
        return f"{self.accelerator}_{self.engine}"


_BRIDGE: Final = "NVIDIA NeMo Megatron-Bridge performance summaries 25.09 to 26.08"
_MPT: Final = "MosaicML llm-foundry MPT training benchmarks (2023)"
_MAXTEXT: Final = "AI-Hypercomputer/maxtext performance tables"
PLANS: Final = (
    Plan("a100_sxm_80gb", "megatron-2021", ("megatron_sc21",), "Narayanan et al., SC 21, arXiv:2104.04473, table 1", all_rows=True),
    Plan("a100_sxm_80gb", "fsdp", ("mosaicml_mpt",), _MPT),
    Plan("a100_sxm_40gb", "fsdp", ("mosaicml_mpt",), _MPT),
    Plan("h100_sxm", "fsdp", ("mosaicml_mpt",), _MPT),
    Plan("h100_hbm2e_96gb", "fsdp", ("torchtitan",), "PyTorch torchtitan benchmarks (2025)"),
    Plan("h100_sxm", "megatron", ("megatron_bridge", "mlperf"), f"{_BRIDGE}; MLPerf Training v4.0 and v4.1"),
    Plan("b200_sxm", "megatron", ("megatron_bridge", "mlperf"), f"{_BRIDGE}; MLPerf Training v5.1"),
    Plan("gb200", "megatron", ("megatron_bridge",), _BRIDGE),
    Plan("tpu_v4", "maxtext", ("maxtext_tpu",), _MAXTEXT),
    Plan("tpu_v5e", "maxtext", ("maxtext_tpu",), _MAXTEXT),
    Plan("tpu_v5p", "maxtext", ("maxtext_tpu",), _MAXTEXT),
    Plan("tpu_v6e", "maxtext", ("tpu_recipes",), "Google tpu-recipes, Llama 3.1 8B on Trillium"),
    Plan("h100_sxm", "maxtext", ("maxtext_h100",), _MAXTEXT),
)


def observation(one: Case, weight: float = 1.0) -> Observation:
    """Return a case as the fit takes it."""

    def predicted_step_time_s(coefficients: Coefficients) -> float:
        return float(estimate_of(one, _as_calibration(coefficients))[0].step_time_s)

    return Observation(one.record, remembered(predicted_step_time_s), one.measured_step_time_s, weight)


def _as_calibration(coefficients: Coefficients) -> dict[str, Any]:
    values = {name: {"value": getattr(coefficients, name), "unit": "SI", "log_sd": 0.0, "kind": "fitted", "source": "fit"} for name in COEFFICIENTS}
    return {"name": "trial", "kind": "posterior", "sources": {"fit": {"title": "coefficients under trial", "date": DATE}}, "coefficients": values}


def configurations(cases: Sequence[Case]) -> list[list[Case]]:
    """Return cases grouped by configuration: runs of the same arguments (other containers, other submitters) stay together."""
    groups: dict[str, list[Case]] = {}
    for one in sorted(cases, key=lambda c: c.record):
        arguments = {key: getattr(value, "name", value) for key, value in one.arguments.items()}
        groups.setdefault(repr(sorted(arguments.items())), []).append(one)
    return list(groups.values())


def split(plan: Plan, cases: Sequence[Case]) -> tuple[list[list[Case]], list[Case]]:
    """Return the configurations that calibrate, and the cases of the accelerator and engine that validate."""
    own = [one for one in cases if one.skipped is None and (one.accelerator, one.engine) == (plan.accelerator, plan.engine)]
    groups = configurations([one for one in own if one.family in plan.families])
    chosen = groups if plan.all_rows else groups[::2]
    records = {one.record for group in chosen for one in group}
    return chosen, [one for one in own if one.record not in records]


def fitted(plan: Plan, cases: Sequence[Case]) -> tuple[Fit, list[Observation], list[Case]]:
    """Return the fit of a plan, the rows behind it, and the cases left to validate.

    Raises:
        CalibrationError: None of the cases is of this accelerator and engine.
    """
    groups, rest = split(plan, cases)
    if not groups:
        raise CalibrationError(f"{plan.name}: no measured runs")
    rows = [observation(one, 1.0 / len(group)) for group in groups for one in group]
    return fit(rows, prior_for(loading.accelerator(plan.accelerator), "none")), rows, rest


def document(plan: Plan, cases: Sequence[Case]) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the calibration of a plan as a document, and the errors of its rows: those it was fitted to and those left out.

    The discrepancy is the root mean square of rows that the fit has not seen: those that validate, or each when left out.
    """
    found, rows, rest = fitted(plan, cases)
    seen = [(row.name, "calibrated", value) for row, value in zip(rows, found.residual.values(), strict=True)]
    unseen = [(one.record, "validated", math.log(observation(one).predicted_step_time_s(found.all_coefficients) / one.measured_step_time_s)) for one in rest]
    if plan.all_rows or not rest:
        unseen += [(name, "left out", value) for name, value in leave_one_out(rows, found).items()]
    table = pd.DataFrame([(plan.name, *line) for line in seen + unseen], columns=["calibration", "record", "role", "log_error"])
    table["error_pct"] = 100.0 * np.expm1(table.log_error)
    doubt = float(np.sqrt(np.mean([value**2 for _, _, value in unseen])))
    rule = "all rows" if plan.all_rows else HALVED
    return calibration_document(found, plan.name, (plan.accelerator, plan.engine), (f"{plan.title}; {rule}", DATE), doubt), table


def calibrate(path: Path | str | None = None, names: Sequence[str] = ()) -> tuple[dict[str, dict[str, Any]], pd.DataFrame]:
    """Return the calibrations of all plans (or those named) and the errors of their rows.

    Raises:
        SpecError: The reference file is not there.
    """
    cases = chosen_cases(None, path)
    made = [document(plan, cases) for plan in PLANS if not names or plan.name in names]
    return {calibration["name"]: calibration for calibration, _ in made}, pd.concat([table for _, table in made], ignore_index=True)


def calibration_errors(table: pd.DataFrame) -> pd.DataFrame:
    """Return errors by calibration and role: rows, median and mean absolute error, median signed error, in percent."""
    groups = table.groupby(["calibration", "role"], sort=True).error_pct
    summary = pd.DataFrame(
        {"rows": groups.size(), "median_ape_pct": groups.apply(lambda e: e.abs().median()), "mape_pct": groups.apply(lambda e: e.abs().mean())}
    )
    return summary.assign(median_error_pct=groups.median()).reset_index()
