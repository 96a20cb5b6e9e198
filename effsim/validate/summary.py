"""What suites found, as the plain tables that a report is made of."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.validate.comparison import Comparison, SuiteResult, frame
from effsim.validate.decision import choices, quality_table
from effsim.validate.metrics import errors

FITTED: Final = "fitted to these rows"
WORST: Final = 5


def section(result: SuiteResult) -> dict[str, Any]:
    """Return the parts of a section of the report.

    ``rows``: one per comparison; ``drawn``: those of the plot, nothing of which was fitted. ``errors``: by split, cell and quantity, and over
    all cells. ``worst``: the largest errors of the rows drawn. ``skipped``: reasons and counts. ``decisions``: quality of choices, by split and
    limit; empty where none is made.
    """
    seen = [one for one in result.comparisons if one.split != FITTED and result.headline in {"", one.split}]
    return {
        "name": result.name,
        "title": result.title,
        "source": result.source,
        "basis": result.basis,
        "notes": result.notes,
        "rows": frame(result.comparisons),
        "drawn": frame(seen),
        "errors": error_table(result.comparisons),
        "worst": worst(seen),
        "skipped": pd.DataFrame(Counter(one.reason for one in result.skipped).most_common(), columns=["reason", "rows"]),
        "decisions": decisions(result.comparisons),
    }


def error_table(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """Return errors by split, cell and quantity; where a split has several cells, also over ``all`` of them."""
    listed = list(comparisons)
    by_cell = errors(listed, ("split", "quantity", "cell"))
    if not len(by_cell):
        return by_cell
    whole = errors(listed, ("split", "quantity")).assign(cell="all")
    several = by_cell.groupby(["split", "quantity"]).cell.transform("size")
    many = by_cell[several > 1][["split", "quantity"]].drop_duplicates()
    return pd.concat([by_cell, whole.merge(many, on=["split", "quantity"])], ignore_index=True).sort_values(["split", "quantity", "cell"], ignore_index=True)


def worst(comparisons: Iterable[Comparison], most: int = WORST) -> pd.DataFrame:
    """Return the rows of the largest ratio between prediction and measurement, one per row and quantity, the largest first."""
    rows = frame(comparisons)
    off = np.abs(np.log(rows.predicted.to_numpy(float) / rows.measured.to_numpy(float)))
    columns = ["row", "quantity", "unit", "measured", "predicted", "error_pct", "split"]
    return rows[columns].iloc[np.argsort(-off, kind="stable")[:most]].reset_index(drop=True)


def decisions(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """Return the quality of choices by split and limit; see :func:`effsim.validate.decision.quality`."""
    listed = list(comparisons)
    tables = []
    for split in dict.fromkeys(one.split for one in listed):
        found = choices([one for one in listed if one.split == split])
        if found:
            tables.append(quality_table(found).drop(columns="suite").assign(split=split))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
