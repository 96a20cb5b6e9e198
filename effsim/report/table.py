"""A scenario's answer as a table: metrics down, the base and its what-ifs across, each number with interval and difference."""

import io
import math
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


def change(relative: float | None) -> str:
    """Return a relative difference in percent with its sign.

    >>> change(-0.118), change(0.0002), change(2.5), change(41.6), change(None)
    ('−12 %', '±0 %', '+250 %', '×42.6', '')
    """
    if relative is None:
        return ""
    if abs(relative) < _SMALL_CHANGE:
        return "±0 %"
    if relative >= _MANY_TIMES:
        return f"×{number(1.0 + relative)}"  # noqa: RUF001 -- a multiplication sign
    digits = 1 if abs(relative) < 0.0995 else 0  # noqa: PLR2004 -- two significant digits
    return f"{relative * 100:+.{digits}f} %".replace("-", "−")  # noqa: RUF001 -- a minus sign


def tables(report: ScenarioReport, width: int) -> list[Table]:
    """Return the report as one table, or as several with the base repeated where the width does not hold all columns."""
    per_table = max(1, (width - _LABEL_WIDTH) // _CELL_WIDTH - 1)
    others = report.variants[1:]
    groups = [others[start : start + per_table] for start in range(0, len(others), per_table)] or [()]
    return [_table(report, (report.base, *group)) for group in groups]


def _table(report: ScenarioReport, shown: Sequence[Variant]) -> Table:
    table = Table(header_style="bold", padding=(0, 1))
    table.add_column("", min_width=20, max_width=_LABEL_WIDTH)
    for variant in shown:
        table.add_column(variant.name, justify="right", min_width=12, overflow="fold")
    keys = list(report.labels)
    for index, key in enumerate(keys):
        label, factor, unit = _row_unit(report, key)
        cells = [_cell(report, variant, key, (factor, unit), first=index == 0) for variant in shown]
        table.add_row(label, *cells)
    if not keys:
        table.add_row("", *(Text(variant.infeasible or "", style="red") for variant in shown))
    return table


def _row_unit(report: ScenarioReport, key: str) -> tuple[Text, float, str]:
    """Return the row's label, and the factor and unit in which it is shown: small values in a smaller unit, shares in percent."""
    present = [variant.metrics[key] for variant in report.variants if key in variant.metrics]
    unit = present[0].unit
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


def _enough(unit: str) -> float:
    """Return the value from which a unit suits: times change at 1, the rest at 0.1."""
    return 1.0 if unit in {"days", "h", "min", "s"} else 0.1


def _cell(report: ScenarioReport, variant: Variant, key: str, shown_in: tuple[float, str], *, first: bool) -> Text:
    if variant.infeasible is not None:
        return Text(variant.infeasible if first else "", style="red")
    quantity = variant.metrics.get(key)
    if quantity is None:
        return Text("–", style="dim")  # noqa: RUF001
    shown = quantity.scaled(*shown_in)
    text = Text(number(shown.value, shown.unit), style="bold")
    difference = change(report.difference(variant, key))
    if difference:
        text.append(f"  {difference}", style="not bold cyan")
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
    legend = "[5 % and 95 % quantile of what the model does not know]; difference to the base. Energy and cost are means over the run."
    console.print(Text(legend, style="dim"))
    for key in ("workload", "engine", "provenance", "site"):
        if report.metadata.get(key):
            console.print(Text(f"{key}: {report.metadata[key]}", style="dim"))
    for variant in report.variants:
        for note in variant.notes:
            console.print(Text(f"{variant.name}: {note}", style="yellow"))


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
