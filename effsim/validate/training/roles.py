"""Which runs calibrate and which validate, and the errors of each by source."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.validate.training.calibrated import PLANS, is_taken, split
from effsim.validate.training.case import Case

CALIBRATED: Final = "calibrated"
VALIDATED: Final = "validated"
OLDER: Final = "older"
UNFITTED: Final = "not fitted"
"""Role of a run on an accelerator and engine of which there is no calibration."""


def roles(cases: Sequence[Case], taken: frozenset[str]) -> dict[str, str]:
    """Return the role of each run that the model takes.

    Args:
        cases: All of them: which configurations calibrate depends on the others.
        taken: Records that the model neither skips nor refuses.
    """
    found = {one.record: UNFITTED for one in cases if one.record in taken}
    for plan in PLANS:
        groups, rest, older = split(plan, cases, taken)
        found |= {one.record: CALIBRATED for group in groups for one in group}
        found |= {one.record: VALIDATED for one in rest} | {one.record: OLDER for one in older}
    return found


def with_roles(rows: pd.DataFrame, cases: Sequence[Case]) -> pd.DataFrame:
    """Return predictions with the column ``role``, absent where nothing was predicted.

    Args:
        rows: From :func:`~effsim.validate.training.report.predictions`, of all cases or of some.
        cases: All of them; the model is asked about those that are not among the rows but calibrate the same machines.
    """
    known = frozenset(rows.record)
    machines = {(one.accelerator, one.engine) for one in cases if one.record in known}
    others = [one for one in cases if one.record not in known and one.skipped is None and (one.accelerator, one.engine) in machines]
    taken = frozenset(rows[rows.skipped.isna() & rows.refused.isna()].record) | {one.record for one in others if is_taken(one)}
    return rows.assign(role=rows.record.map(roles(cases, taken)))


def family_counts(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per source: records, those skipped and refused, runs that the memory model refuses, and runs by role."""
    lines: list[dict[str, Any]] = []
    for family, part in rows.groupby("family", sort=False):
        valid = part[part.role.notna()]
        skipped = int(part.skipped.notna().sum())
        line: dict[str, Any] = {"family": family, "records": len(part), "skipped": skipped, "refused": len(part) - skipped - len(valid)}
        line |= {"does_not_fit": int(valid.does_not_fit.notna().sum())}
        lines.append(line | {role: int((valid.role == role).sum()) for role in (CALIBRATED, VALIDATED, UNFITTED, OLDER)})
    return pd.DataFrame(lines)


def role_errors(rows: pd.DataFrame, by: Sequence[str] = ("family",)) -> pd.DataFrame:
    """Return median and mean absolute error of calibrated and of other runs by group, both together, and the worst run, in percent.

    Runs under older releases are left out. Runs without a calibration count with those that validate. The worst is that of these, or of
    the calibrated where there is no other.
    """
    lines: list[dict[str, Any]] = []
    current = rows[rows.role.notna() & (rows.role != OLDER)]
    for key, part in current.groupby(list(by), sort=False):
        fitted, unseen = part[part.role == CALIBRATED], part[part.role != CALIBRATED]
        line: dict[str, Any] = dict(zip(by, key, strict=True))
        for name, group in ((CALIBRATED, fitted), (VALIDATED, unseen), ("all", part)):
            error = group.error_pct.astype(float).abs()
            line |= {name: len(group), f"{name}_median_pct": _figure(error.median()), f"{name}_mean_pct": _figure(error.mean())}
        lines.append(line | _worst(unseen if len(unseen) else fitted))
    return pd.DataFrame(lines)


def _figure(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _worst(rows: pd.DataFrame) -> dict[str, Any]:
    errors = rows.error_pct.astype(float).to_numpy()
    place = int(np.argmax(np.abs(errors)))
    return {"worst": rows.record.iloc[place], "worst_error_pct": float(errors[place])}
