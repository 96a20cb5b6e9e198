"""Fits of the coefficients to published step times: one per accelerator and engine, some runs to calibrate, the others to validate."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.calibrate.pooling import pooled, pools
from effsim.calibrate.training_fit import (
    POWER_COEFFICIENTS,
    TIME_COEFFICIENTS,
    Observation,
    calibration_document,
    fit,
    leave_one_out,
    remembered,
)
from effsim.catalog import suggest
from effsim.cost.device import COEFFICIENTS, Coefficients, prior_for
from effsim.errors import CalibrationError, EffSimError, SpecError
from effsim.specs import loading
from effsim.validate.training.case import Case, configurations, superseded
from effsim.validate.training.energy import metered_cases
from effsim.validate.training.report import chosen_cases, estimate_of

HALVED: Final = "every second configuration in its latest release"
VALIDATED: Final = "validated"
OLDER: Final = "older release"
DATE: Final = "2026-11"
ENOUGH: Final = 5
NORMAL_90: Final = 1.645  # half the width of a normal's central 90 % interval, in standard deviations


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What calibrates one accelerator under one engine.

    Args:
        families: Whose rows calibrate.
        metered: Part of the ids of the metered runs whose power calibrates; other metered runs of the accelerator validate.
        all_rows: All of them, with the leave-one-out error beside it; else every second configuration, the others validate.
        title: Names the rows as a source.
    """

    accelerator: str
    engine: str
    families: tuple[str, ...]
    title: str
    all_rows: bool = False
    metered: str | None = None

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
    Plan(
        "h100_sxm",
        "megatron",
        ("megatron_bridge", "mlperf"),
        f"{_BRIDGE}; MLPerf Training v4.0 and v4.1, power of Sustainable Metal Cloud",
        metered="llama2_70b_lora",
    ),
    Plan("b200_sxm", "megatron", ("megatron_bridge", "mlperf"), f"{_BRIDGE}; MLPerf Training v5.1"),
    Plan("gb200", "megatron", ("megatron_bridge",), _BRIDGE),
    Plan("tpu_v4", "maxtext", ("maxtext_tpu",), _MAXTEXT),
    Plan("tpu_v5e", "maxtext", ("maxtext_tpu",), _MAXTEXT),
    Plan("tpu_v5p", "maxtext", ("maxtext_tpu",), _MAXTEXT),
    Plan("tpu_v6e", "maxtext", ("tpu_recipes",), "Google tpu-recipes, Llama 3.1 8B on Trillium"),
    Plan("h100_sxm", "maxtext", ("maxtext_h100",), _MAXTEXT),
)


def observation(one: Case, weight: float = 1.0) -> Observation:
    """Return the step time of a case as the fit takes it."""

    def predicted_step_time_s(coefficients: Coefficients) -> float:
        return float(estimate_of(one, _as_calibration(coefficients))[0].step_time_s)

    return Observation(one.record, remembered(predicted_step_time_s), one.measured_step_time_s, weight)


def power_observation(one: Case, measured_power_w: float) -> Observation:
    """Return the power of the servers of a metered case as the fit takes it."""

    def predicted_power_w(coefficients: Coefficients) -> float:
        return float(estimate_of(one, _as_calibration(coefficients))[0].server_power_w)

    return Observation(one.record, remembered(predicted_power_w), measured_power_w)


def _as_calibration(coefficients: Coefficients) -> dict[str, Any]:
    values = {name: {"value": getattr(coefficients, name), "unit": "SI", "log_sd": 0.0, "kind": "fitted", "source": "fit"} for name in COEFFICIENTS}
    return {"name": "trial", "kind": "posterior", "sources": {"fit": {"title": "coefficients under trial", "date": DATE}}, "coefficients": values}


def split(plan: Plan, cases: Sequence[Case], taken: frozenset[str] | None = None) -> tuple[list[list[Case]], list[Case], list[Case]]:
    """Return the configurations that calibrate, the cases that validate, and runs of either under earlier releases of the software.

    Args:
        plan: Whose.
        cases: All of them.
        taken: Records that the model takes; None: found out by asking it.
    """
    same = [one for one in cases if one.skipped is None and (one.accelerator, one.engine) == (plan.accelerator, plan.engine)]
    own = [one for one in same if (is_taken(one) if taken is None else one.record in taken)]
    old = superseded(own)
    groups = configurations([one for one in own if one.family in plan.families and one.record not in old])
    chosen = groups if plan.all_rows else groups[::2]
    used = {one.record for group in chosen for one in group}
    return chosen, [one for one in own if one.record not in used | old], [one for one in own if one.record in old]


def is_taken(one: Case) -> bool:
    """Return whether the model takes the configuration; the report says why where it does not."""
    try:
        estimate_of(one)
    except EffSimError:
        return False
    return True


@dataclasses.dataclass(frozen=True, slots=True)
class Material:
    """What a fit is made of and tried on: step times and powers to calibrate, and the others by quantity and role."""

    times: list[Observation]
    powers: list[Observation]
    unseen: dict[tuple[str, str], list[Observation]]


def material(plan: Plan, path: Path | str | None = None) -> Material:
    """Return the measurements of a plan.

    Raises:
        CalibrationError: None is of this accelerator and engine.
        SpecError: The reference files are not there.
    """
    groups, rest, older = split(plan, chosen_cases(None, path))
    if not groups:
        raise CalibrationError(f"{plan.name}: no measured runs")
    times = [observation(one, 1.0 / len(group)) for group in groups for one in group]
    metered = metered_cases(path) if plan.metered else []
    own = [(one, power_w) for one, power_w in metered if (one.accelerator, one.engine) == (plan.accelerator, plan.engine)]
    powers = {used: [power_observation(*pair) for pair in own if (str(plan.metered) in pair[0].record) is used] for used in (True, False)}
    unseen = {("time", VALIDATED): [observation(one) for one in rest], ("time", OLDER): [observation(one) for one in older]}
    return Material(times, powers[True], {**unseen, ("power", VALIDATED): powers[False]})


def document(plan: Plan, path: Path | str | None = None) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the calibration of a plan as a document, and the errors of its rows: those it was fitted to and those left out.

    The discrepancy is that of rows that the fit has not seen: those that validate, or each when left out.

    Raises:
        CalibrationError: Nothing was measured of this accelerator and engine.
        SpecError: The reference files are not there.
    """
    given = material(plan, path)
    coefficients = (*TIME_COEFFICIENTS, *(POWER_COEFFICIENTS if given.powers else ()))
    rows = [*given.times, *given.powers]
    found = fit(rows, prior_for(loading.accelerator(plan.accelerator), "none"), coefficients)
    kinds = ["time"] * len(given.times) + ["power"] * len(given.powers)
    lines = [(row.name, kind, "calibrated", value) for row, kind, value in zip(rows, kinds, found.residual_of_row, strict=True)]
    for (kind, role), unseen in given.unseen.items():
        lines += [(row.name, kind, role, math.log(row.predicted(found.all_coefficients) / row.measured)) for row in unseen]
    if plan.all_rows:
        lines += [(name, "time", "left out", value) for name, value in leave_one_out(rows, found).items()]
    table = pd.DataFrame([(plan.name, *line) for line in lines], columns=["calibration", "record", "quantity", "role", "log_error"])
    table["error_pct"] = 100.0 * np.expm1(table.log_error)
    rule = "all rows" if plan.all_rows else HALVED
    return calibration_document(found, plan.name, (plan.accelerator, plan.engine), (f"{plan.title}; {rule}", DATE), _doubt(table)), table


def _doubt(table: pd.DataFrame) -> dict[str, float]:
    """Return the standard deviation, by quantity, whose 90 % interval holds 90 % of the errors of unseen rows.

    Of fewer than five rows nothing is said: the doubt of the class prior stays.
    """
    unseen = table[table.role != "calibrated"].groupby("quantity").log_error
    return {str(kind): float(np.quantile(errors.abs(), 0.9)) / NORMAL_90 for kind, errors in unseen if len(errors) >= ENOUGH}


def calibrate(path: Path | str | None = None, names: Sequence[str] = ()) -> tuple[dict[str, dict[str, Any]], pd.DataFrame]:
    """Return the calibrations of all plans (or those named) and the errors of their rows.

    Raises:
        SpecError: A name is that of no plan, or a reference file is not there.
    """
    known = {plan.name: plan for plan in PLANS}
    strange = [name for name in names if name not in known]
    if strange:
        raise SpecError(f"name: unknown {strange[0]!r}; {suggest(strange[0], known)}allowed: {', '.join(known)}")
    made = [document(known[name], path) for name in names or known]
    return {calibration["name"]: calibration for calibration, _ in made}, pd.concat([table for _, table in made], ignore_index=True)


def engine_priors(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what the calibrations of a folder say about other accelerators of a class under the same engine, as documents by name.

    Only calibrations of the plans are taken, and engines that were calibrated on two accelerators of a class or more.
    """
    made = {plan.name: loading.calibration(str(folder / f"{plan.name}.yaml")) for plan in PLANS if (folder / f"{plan.name}.yaml").is_file()}
    classes = {plan.accelerator: loading.accelerator(plan.accelerator).device_class for plan in PLANS}
    names = {key: f"prior_{key[0]}_{key[1]}" for key in pools(made, classes)}
    return {names[key]: pooled(group, names[key], key, DATE) for key, group in pools(made, classes).items()}


def calibration_errors(table: pd.DataFrame) -> pd.DataFrame:
    """Return errors by calibration and role: rows, median and mean absolute error, median signed error, in percent."""
    groups = table.groupby(["calibration", "quantity", "role"], sort=True).error_pct
    summary = pd.DataFrame(
        {"rows": groups.size(), "median_ape_pct": groups.apply(lambda e: e.abs().median()), "mape_pct": groups.apply(lambda e: e.abs().mean())}
    )
    return summary.assign(median_error_pct=groups.median()).reset_index()
