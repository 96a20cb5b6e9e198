"""Predicted against measured, as SVG: colours that colour-blind readers tell apart, and a marker for each cell, so that grey will do."""

import io
import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.errors import MissingExtraError

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#7F7F7F")
"""Okabe and Ito (2008), jfly.uni-koeln.de/color, yellow left out: it vanishes on white."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
COLUMNS: Final = 2
FEW_ROWS: Final = 4
"""Quantities of at most so many rows are shown as ratios, one line each."""
BAND: Final = 0.2
"""Half the width of the grey band about equality."""


def plot_svg(rows: pd.DataFrame, title: str) -> str:
    """Return the comparisons of a section as one SVG text.

    Args:
        rows: With ``quantity``, ``unit``, ``cell``, ``measured``, ``predicted``, ``low_90`` and ``high_90``.
        title: For screen readers.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 -- an extra
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("matplotlib", "report", "a report with plots") from None
    settings: Any = {"svg.hashsalt": "effsim", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
    with mpl.rc_context(settings):
        figure = _ratios(Figure, rows) if rows.groupby("quantity").size().max() <= FEW_ROWS else _panels(Figure, rows)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Title": title}, bbox_inches="tight")
    return re.sub(r"^.*?(?=<svg)", "", stream.getvalue(), count=1, flags=re.DOTALL)


def _panels(figure_of: Any, rows: pd.DataFrame) -> Any:
    """Return one panel per quantity, both axes logarithmic."""
    quantities = list(dict.fromkeys(rows.quantity))
    columns = min(COLUMNS, len(quantities))
    lines = -(-len(quantities) // columns)
    size = 4.0 if columns > 1 else 5.5
    figure = figure_of(figsize=(9.0, size * lines + 1.0), layout="constrained")
    cells = sorted(set(rows.cell))
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, quantity in zip(axes, quantities, strict=False):
        _panel(axis, rows[rows.quantity == quantity], cells)
    for axis in axes[len(quantities) :]:
        axis.set_visible(False)
    handles: dict[str, Any] = {}
    for axis in axes[: len(quantities)]:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    shown = [label for label in (*cells, "equal", "within 20 %") if label in handles]
    figure.legend([handles[label] for label in shown], shown, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _panel(axis: Any, rows: pd.DataFrame, cells: Sequence[str]) -> None:
    measured, predicted = rows.measured.to_numpy(float), rows.predicted.to_numpy(float)
    low, high = min(measured.min(), predicted.min()) / 1.5, max(measured.max(), predicted.max()) * 1.5
    ends = np.array([low, high])
    axis.fill_between(ends, ends * (1.0 - BAND), ends * (1.0 + BAND), color="0.9", linewidth=0.0, label="within 20 %")
    axis.plot(ends, ends, color="0.4", linewidth=0.8, label="equal")
    for index, cell in enumerate(cells):
        own = rows[rows.cell == cell]
        if not len(own):
            continue
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        sure = own[own.low_90.notna() & np.isfinite(own.high_90.astype(float))]
        axis.vlines(sure.measured, sure.low_90.astype(float), sure.high_90.astype(float), color=colour, alpha=0.25, linewidth=0.8)
        face = "none" if index < len(MARKERS) else colour  # the second round of markers is filled
        axis.plot(own.measured, own.predicted, linestyle="none", marker=marker, markersize=4.0, markerfacecolor=face, color=colour, label=cell)
    axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel="measured", ylabel="predicted", aspect="equal")
    axis.set_title(f"{rows.quantity.iloc[0]} [{rows.unit.iloc[0]}]", fontsize=10)
    axis.grid(visible=True, which="major", color="0.93", linewidth=0.6)


def _ratios(figure_of: Any, rows: pd.DataFrame) -> Any:
    """Return predicted over measured, one line per row."""
    figure = figure_of(figsize=(8.0, 0.32 * len(rows) + 1.2), layout="constrained")
    axis = figure.subplots()
    cells = sorted(set(rows.cell))
    axis.axvspan(1.0 - BAND, 1.0 + BAND, color="0.9", linewidth=0.0, label="within 20 %")
    axis.axvline(1.0, color="0.4", linewidth=0.8, label="equal")
    place = np.arange(len(rows))[::-1]
    for index, cell in enumerate(cells):
        own = (rows.cell == cell).to_numpy()
        part, colour = rows[own], COLOURS[index % len(COLOURS)]
        sure = part.low_90.notna().to_numpy()
        where = place[own]
        if sure.any():
            ends = (part.low_90[sure].astype(float) / part.measured[sure], part.high_90[sure].astype(float) / part.measured[sure])
            axis.hlines(where[sure], *ends, color=colour, alpha=0.4, linewidth=1.5)
        axis.plot(part.predicted / part.measured, where, linestyle="none", marker=MARKERS[index % len(MARKERS)], color=colour, label=cell)
    several = rows.groupby("quantity").row.transform("size") > 1
    labels = [f"{quantity} ({row})" if more else quantity for quantity, row, more in zip(rows.quantity, rows.row, several, strict=True)]
    axis.set_yticks(place, [shortened(label) for label in labels], fontsize=8)
    axis.set(xscale="log", xlabel="predicted / measured (line: 90 % interval)")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def shortened(label: str, most: int = 60) -> str:
    """Return a label that fits beside an axis.

    >>> shortened("abcdefgh", 6)
    'abc...'
    """
    return label if len(label) <= most else f"{label[: most - 3]}..."
