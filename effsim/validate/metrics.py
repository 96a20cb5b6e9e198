"""How far predictions are from measurements: error, rank, and the share of measurements inside the intervals."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from effsim.validate.comparison import Comparison, frame

ENOUGH_TO_RANK = 3


def errors(comparisons: Iterable[Comparison], by: Sequence[str] = ("cell", "quantity")) -> pd.DataFrame:
    """Return one row per group of comparisons: how many, errors and coverage, all in percent but the rank correlation.

    ``median_error_pct`` and ``mean_error_pct`` are signed (predicted over measured less 1); ``mape_pct``, ``median_ape_pct`` and ``p90_ape_pct``
    are of its absolute value; ``rank_correlation`` is Spearman's; ``inside_50_pct`` and ``inside_90_pct`` the shares of measurements in the
    intervals, to be held against 50 and 90. What cannot be stated is None.

    Args:
        comparisons: Of any suites.
        by: Fields of :class:`Comparison`; empty: all in one group.
    """
    rows = frame(comparisons)
    groups = rows.groupby(list(by), sort=True) if by else [((), rows)]
    return pd.DataFrame([{**dict(zip(by, key, strict=True)), **summary(part)} for key, part in groups if len(part)])


def summary(part: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of :func:`errors` for the rows of one group.

    >>> one = [Comparison("s", "c", str(i), "power_w", "W", 100.0, value) for i, value in enumerate((90.0, 120.0))]
    >>> found = summary(frame(one))
    >>> round(found["mape_pct"], 6), round(found["mean_error_pct"], 6), found["rank_correlation"], found["inside_90_pct"]
    (15.0, 5.0, None, None)
    """
    error_pct = part.error_pct.to_numpy(float)
    off_pct = np.abs(error_pct)
    return {
        "rows": len(part),
        "median_error_pct": float(np.median(error_pct)),
        "mean_error_pct": float(np.mean(error_pct)),
        "median_ape_pct": float(np.median(off_pct)),
        "mape_pct": float(np.mean(off_pct)),
        "p90_ape_pct": float(np.quantile(off_pct, 0.9)),
        "rank_correlation": rank_correlation(part.measured.to_numpy(float), part.predicted.to_numpy(float)),
        "inside_50_pct": _share_pct(part.inside_50),
        "inside_90_pct": _share_pct(part.inside_90),
    }


def rank_correlation(measured: np.ndarray, predicted: np.ndarray) -> float | None:
    """Return Spearman's rank correlation, ties at their mean rank; None for fewer than three rows or where one side is constant.

    >>> round(rank_correlation(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 8.0])), 6)
    0.8
    """
    if len(measured) < ENOUGH_TO_RANK or np.ptp(measured) == 0.0 or np.ptp(predicted) == 0.0:
        return None
    return float(stats.spearmanr(measured, predicted).statistic)


def _share_pct(inside: pd.Series) -> float | None:
    known = inside.dropna()
    return 100.0 * float(known.astype(float).mean()) if len(known) else None
