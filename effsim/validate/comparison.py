"""One measured figure beside its prediction, and what a suite of such comparisons gives back."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import pandas as pd

PRIOR_ONLY: Final = "prior only"
"""Split of predictions in which nothing is fitted: data sheets and priors by class of device."""
LEVELS: Final = (0.5, 0.9)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A measured figure and its prediction, in the same unit.

    Args:
        suite: Name of the suite.
        cell: Group of rows whose errors are summed up together, such as ``H100 dense``.
        row: Identifies the measurement; quantities of one run share it.
        quantity: Field of the estimate, such as ``itl_s``.
        unit: Of all the numbers.
        measured: As the source states it.
        predicted: Median of the prediction.
        low_50: Lower end of the 50 % interval; None where the prediction has none, also below.
        high_50: Its upper end.
        low_90: Lower end of the 90 % interval.
        high_90: Its upper end.
        split: What the prediction was allowed to see, such as ``leave one model out`` or :data:`PRIOR_ONLY`.
        group: Rows among which a choice is made (:func:`effsim.validate.decision.choices`), such as a model and a task; empty: none.

    Raises:
        ValueError: Measured or predicted is no positive finite number.
    """

    suite: str
    cell: str
    row: str
    quantity: str
    unit: str
    measured: float
    predicted: float
    low_50: float | None = None
    high_50: float | None = None
    low_90: float | None = None
    high_90: float | None = None
    split: str = PRIOR_ONLY
    group: str = ""

    def __post_init__(self) -> None:
        for name in ("measured", "predicted"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{self.suite} {self.row} {self.quantity}: {name} is {value}, expected a positive number")

    @property
    def relative_error(self) -> float:
        """``predicted / measured - 1``.

        >>> Comparison("s", "c", "r", "power_w", "W", 400.0, 380.0).relative_error
        -0.050000000000000044
        """
        return self.predicted / self.measured - 1.0

    def inside(self, level: float) -> bool | None:
        """Return whether the interval of a level (0.5 or 0.9) holds the measurement; None where there is no interval."""
        low, high = {0.5: (self.low_50, self.high_50), 0.9: (self.low_90, self.high_90)}[level]
        return None if low is None or high is None else low <= self.measured <= high


@dataclass(frozen=True, slots=True)
class Skipped:
    """A measured row that is not compared, and why."""

    suite: str
    row: str
    reason: str


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What a suite found.

    Args:
        name: Of the suite, as the command line knows it.
        title: Of its section in the report.
        source: Where the measurements come from.
        basis: What the predictions rest on and which rows they were allowed to see, in a sentence.
        comparisons: One per row and quantity.
        skipped: Rows without a comparison.
        notes: What a reader must know about the rows.
        headline: The split that is drawn and counts for worst rows, where a row is predicted under several; empty: all.
    """

    name: str
    title: str
    source: str
    basis: str
    comparisons: tuple[Comparison, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    headline: str = ""


def frame(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """Return one row per comparison: its fields, ``error_pct`` (signed) and ``inside_50``, ``inside_90``."""
    listed: Sequence[Comparison] = list(comparisons)
    columns = [*Comparison.__dataclass_fields__, "error_pct", "inside_50", "inside_90"]
    rows = [{**asdict(one), "error_pct": 100.0 * one.relative_error, "inside_50": one.inside(0.5), "inside_90": one.inside(0.9)} for one in listed]
    return pd.DataFrame(rows, columns=columns)
