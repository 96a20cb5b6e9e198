"""A scenario's answer as a table: metrics down, the base and its what-ifs across, each number with interval and difference."""

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from effsim.documents import write_atomically
from effsim.errors import SpecError
from effsim.results import Quantity, ScenarioReport, Variant

PIPE_WIDTH: Final = 220
SVG_WIDTH: Final = 164
_LABEL_WIDTH: Final = 42
_CELL_WIDTH: Final = 19
_WIDE_CELL: Final = 29
"""With the interval of the difference to the base."""
_SMALLER: Final = {
    "days": ("h", 24.0),
    "h": ("min", 60.0),
    "min": ("s", 60.0),
    "s": ("ms", 1e3),
    "kW": ("W", 1e3),
    "kWh/day": ("Wh/day", 1e3),
    "MWh": ("kWh", 1e3),
    "kWh": ("Wh", 1e3),
    "kg/day": ("g/day", 1e3),
    "kg": ("g", 1e3),
    "J/token": ("mJ/token", 1e3),
    "J/output token": ("mJ/output token", 1e3),
    "J/sample": ("mJ/sample", 1e3),
}
"""Unit -> the next smaller one and how many make it up."""
_MANY_TIMES: Final = 9.0
_SMALL_CHANGE: Final = 5e-4


def number(value: float | None, unit: str = "") -> str:
    """Return three significant digits, without exponents where people do not expect them; counts are whole.

    >>> number(0.04231), number(12345.6), number(99.96), number(None), number(0.0), number(3.0, "count")
    ('0.0423', '12,346', '100', '–', '0', '3')
    """
    if value is None or not math.isfinite(value):
        return "–"  # noqa: RUF001 -- a dash: absent
    if value == 0.0:
        return "0"
    if unit == "count":
        return f"{value:,.0f}"
    rounded = float(f"{value:.3g}")
    magnitude = abs(rounded)
    if magnitude >= 1e7 or magnitude < 1e-4:  # noqa: PLR2004 -- beyond what is read at a glance
        return f"{value:.2e}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(magnitude)))}f}"


def interval(quantity: Quantity) -> str:
    """Return the 90 % interval, or an empty text where there is none or its width is not visible.

    >>> interval(Quantity(2.0, "s", 1.5, 3.25)), interval(Quantity(2.0, "s"))
    ('[1.50, 3.25]', '')
    """
    if quantity.low is None or quantity.high is None:
        return ""
    low, high = number(quantity.low, quantity.unit), number(quantity.high, quantity.unit)
    return "" if low == high else f"[{low}, {high}]"


def change(relative: float | None, unit: str = "%") -> str:
    """Return a relative difference in percent, or one of shares in percentage points (``pp``), with its sign.

    >>> change(-0.118), change(0.0002), change(2.5), change(41.6), change(None), change(-0.02, "pp")
    ('−12 %', '±0 %', '+250 %', '×42.6', '', '−2.0 pp')
    """
    if relative is None:
        return ""
    if abs(relative) < _SMALL_CHANGE:
        return f"±0 {unit}"
    if relative >= _MANY_TIMES:
        return f"×{number(1.0 + relative)}"  # noqa: RUF001 -- a multiplication sign
    digits = 1 if abs(relative) < 0.0995 else 0  # noqa: PLR2004 -- two significant digits
    return f"{relative * 100:+.{digits}f} {unit}".replace("-", "−")  # noqa: RUF001 -- a minus sign


def change_interval(relative: float, ends: tuple[float, float]) -> str:
    """Return the interval of a difference in the form of :func:`change`, or an empty text where its width is not visible.

    >>> change_interval(-0.35, (-0.38, -0.33)), change_interval(0.0, (0.0, 0.0)), change_interval(20.0, (15.0, 30.0))
    ('[−38, −33]', '', '[×16.0, ×31.0]')
    """
    low, high = (change(end) for end in ends)
    if low == high or ends[1] - ends[0] < _SMALL_CHANGE:
        return ""
    if relative >= _MANY_TIMES:
        return f"[×{number(1.0 + ends[0])}, ×{number(1.0 + ends[1])}]"  # noqa: RUF001
    return f"[{low.removesuffix(' %')}, {high.removesuffix(' %')}]"


def tables(report: ScenarioReport, width: int) -> list[Table]:
    """Return the report as one table, or as several with the base repeated where the width does not hold all columns."""
    others = report.variants[1:]
    wide = _LABEL_WIDTH + _CELL_WIDTH + len(others) * _WIDE_CELL <= width
    per_table = max(1, (width - _LABEL_WIDTH) // _CELL_WIDTH - 1)
    groups = [others[start : start + per_table] for start in range(0, len(others), per_table)] or [()]
    return [_table(report, (report.base, *group), wide=wide) for group in groups]


def _table(report: ScenarioReport, shown: Sequence[Variant], *, wide: bool) -> Table:
    """Return a table of some variants; a wide one also has the intervals of differences."""
    table = Table(header_style="bold", padding=(0, 1))
    table.add_column("", min_width=20, max_width=_LABEL_WIDTH)
    for variant in shown:
        table.add_column(variant.name, justify="right", min_width=12, overflow="fold")
    keys = list(report.labels)
    for index, key in enumerate(keys):
        label, factor, unit = _row_unit(report, key)
        cells = [_reason(variant, index) if variant.infeasible else _cell(report, variant, key, (factor, unit), wide=wide) for variant in shown]
        table.add_row(label, *cells)
    if not keys:
        table.add_row("", *(Text(variant.infeasible or "", style="red") for variant in shown))
    return table


def _row_unit(report: ScenarioReport, key: str) -> tuple[Text, float, str]:
    """Return the row's label, and the factor and unit in which it is shown: small values in a smaller unit, shares in percent.

    Rows of one family, such as the percentiles of one latency, have one unit: that which suits the base.
    """
    unit = _unit_of(report, key)
    alike = [other for other in report.labels if _unit_of(report, other) == unit and _family(report, other) == _family(report, key)]
    columns = [report.base] if any(other in report.base.metrics for other in alike) else report.variants
    present = [variant.metrics[other] for variant in columns for other in alike if other in variant.metrics]
    largest = max((abs(q.value) for q in present if q.value is not None), default=0.0)
    factor = 100.0 if unit == "1" else 1.0
    while 0.0 < largest * factor < _enough(unit) and unit in _SMALLER:
        unit, times = _SMALLER[unit]
        factor *= times
    unit = "%" if unit == "1" else unit
    label = Text(report.labels.get(key, key))
    if unit and unit != "count":
        label.append(f"  {unit}", style="dim")
    return label, factor, unit


def _unit_of(report: ScenarioReport, key: str) -> str:
    return next((variant.metrics[key].unit for variant in report.variants if key in variant.metrics), "")


def _family(report: ScenarioReport, key: str) -> str:
    """Return what rows have in common: the first word, for parts that of the row which they are part of."""
    first = ""
    for other, label in report.labels.items():
        first = first if label.startswith("- ") else re.split(r"[ ,]", label)[0]
        if other == key:
            break
    return first


def _enough(unit: str) -> float:
    """Return the value from which a unit suits: times change at 1, the rest at 0.1."""
    return 1.0 if unit in {"days", "h", "min", "s"} else 0.1


def _reason(variant: Variant, row: int) -> Text:
    """Return why a variant has no numbers, in its first row."""
    return Text("" if row else variant.infeasible or "", style="red")


def _cell(report: ScenarioReport, variant: Variant, key: str, shown_in: tuple[float, str], *, wide: bool) -> Text:
    quantity = variant.metrics.get(key)
    if quantity is None:
        return Text("–", style="dim")  # noqa: RUF001
    shown = quantity.scaled(*shown_in)
    text = Text(number(shown.value, shown.unit), style="bold")
    relative = report.difference(variant, key)
    difference = change(relative, "pp" if quantity.unit == "1" else "%")
    if relative is not None and difference:
        text.append(f"  {difference}", style="not bold cyan")
        span = change_interval(relative, variant.difference_intervals[key]) if wide and key in variant.difference_intervals else ""
        text.append(f" {span}" if span else "", style="not bold dim cyan")
    span = interval(shown)
    if span:
        text.append(f"\n{span}", style="not bold dim")
    return text


def render(report: ScenarioReport, console: Console) -> None:
    """Print a report to a console: title, table, what the numbers rest on, notes of each variant."""
    question = report.metadata.get("question")
    console.print(Text(report.name, style="bold"), Text(f" {question}" if question else "", style="italic"), sep="")
    for table in tables(report, console.width):
        console.print(table)
    console.print(Text(_legend(report), style="dim"))
    for key in ("workload", "engine", "provenance", "site"):
        if report.metadata.get(key):
            console.print(Text(f"{key}: {report.metadata[key]}", style="dim"))
    notes: dict[str, list[str]] = {}
    for variant in report.variants:
        for note in variant.notes:
            notes.setdefault(note, []).append(variant.name)
    for note, names in notes.items():
        whose = "" if len(names) == len(report.variants) else f"{', '.join(names)}: "
        console.print(Text(f"{whose}{note}", style="yellow"))


def _legend(report: ScenarioReport) -> str:
    """Return what the marks of the table mean that it has."""
    parts = []
    if any(metric.low is not None for variant in report.variants for metric in variant.metrics.values()):
        parts.append("[5 % and 95 % quantile of what is not known]")
    if len(report.variants) > 1:
        parts.append("difference to the base, of shares in percentage points (pp)")
    return "; ".join([*parts, "energy and cost are means over the run"])


def print_report(report: ScenarioReport) -> None:
    """Print a report to stdout; a pipe gets a table wide enough not to fold."""
    console = Console()
    render(report, console if console.is_terminal else Console(width=PIPE_WIDTH))


def save_svg(report: ScenarioReport, path: Path, width: int = SVG_WIDTH) -> None:
    """Write what :func:`print_report` prints as a picture.

    Raises:
        SpecError: The file cannot be written.
    """
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    render(report, console)
    try:
        write_atomically(path, console.export_svg(title=f"effsim run {report.name}", unique_id="effsim"))
    except OSError as error:
        raise SpecError(f"{path}: the picture cannot be written: {error.strerror}") from None
