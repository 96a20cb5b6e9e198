"""What calibrations of several accelerators under one engine say about others of their class."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from effsim.errors import CalibrationError
from effsim.specs.calibration import Calibration

TRANSFER = 1.5
"""Factor on the discrepancy of the worst of them, for an accelerator on which nothing was measured."""


def pooled(calibrations: Sequence[Calibration], name: str, belongs: tuple[str, str], date: str) -> dict[str, Any]:
    """Return a prior for other accelerators of a class under the same engine, as a calibration document.

    Of each coefficient that all of them fitted: the geometric mean, with the spread between them and within each,
    ``sd^2 = var(log value) + mean(log_sd^2)``, the variance that of a sample of n (n - 1 in the denominator).

    Args:
        calibrations: At least two, of different accelerators.
        name: Of the prior and its file: ``prior_<class>_<engine>``.
        belongs: Device class and engine.
        date: Of the pooling.

    Raises:
        CalibrationError: Fewer than two, or no coefficient in common.
    """
    if len({one.accelerator for one in calibrations}) < 2:  # noqa: PLR2004 -- a spread needs two
        raise CalibrationError(f"{name}: calibrations of at least two accelerators are needed, got {', '.join(one.name for one in calibrations) or 'none'}")
    shared = [key for key in calibrations[0].coefficients if all(key in one.coefficients for one in calibrations)]
    if not shared:
        raise CalibrationError(f"{name}: {', '.join(one.name for one in calibrations)} have no coefficient in common")
    doubts = [one.discrepancy_log_sd["time"] for one in calibrations if "time" in one.discrepancy_log_sd]
    used = ", ".join(one.name for one in calibrations)
    return {
        "name": name,
        "kind": "prior",
        "device_class": belongs[0],
        "engine": belongs[1],
        "note": f"For accelerators of the class that have no calibration of their own under this engine: pooled from {used}.",
        "sources": {"pool": {"title": "EffSim calibrations of other accelerators of the class under the same engine", "date": date}},
        "discrepancy_log_sd": {"time": _rounded(TRANSFER * max(doubts))} if doubts else {},
        "coefficients": {key: _one([one.coefficients[key] for one in calibrations]) for key in shared},
    }


def _one(found: Sequence[Any]) -> dict[str, Any]:
    logs = np.log([one.value for one in found])
    spread = math.sqrt(float(np.var(logs, ddof=1)) + float(np.mean([one.log_sd**2 for one in found])))
    return {"value": _rounded(math.exp(float(np.mean(logs)))), "unit": found[0].unit, "log_sd": _rounded(spread), "kind": "fitted", "source": "pool"}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def pools(calibrations: Mapping[str, Calibration], classes: Mapping[str, str]) -> dict[tuple[str, str], list[Calibration]]:
    """Return calibrations by device class and engine, where there are those of two accelerators or more.

    Args:
        calibrations: By name.
        classes: Device class by accelerator.
    """
    found: dict[tuple[str, str], list[Calibration]] = {}
    for one in calibrations.values():
        if one.accelerator and one.engine:
            found.setdefault((classes[one.accelerator], one.engine), []).append(one)
    return {key: group for key, group in found.items() if len(group) > 1}
