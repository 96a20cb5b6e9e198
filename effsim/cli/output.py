"""How commands speak: tables for people, JSON for programs."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def print_json(document: Any) -> None:
    """Print valid JSON; whoever calls has put ``None`` where a number is absent."""
    print(json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Print a table; cells that hold numbers are right-aligned, absent ones are blank."""
    from rich.console import Console
    from rich.table import Table

    listed = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numeric = any(isinstance(row[index], (int, float)) for row in listed)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        table.add_row(*(cell(value) for value in row))
    console = Console()
    # Piped or narrow output keeps whole rows: a folded table cannot be searched.
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def cell(value: Any) -> str:
    """Return a value as a table shows it.

    >>> cell(None), cell(1234567), cell(0.0123456), cell("x")
    ('', '1,234,567', '0.01235', 'x')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000.0:  # noqa: PLR2004 -- four digits
        return f"{value:,.0f}"
    return f"{value:.4g}"


def scaled(value: Any, unit: str) -> tuple[float, str]:
    """Return the factor and the unit in which a value is easy to read: shares in percent, small times in ms.

    >>> scaled(0.0042, "s"), scaled(0.41, "1"), scaled(5600.0, "W")
    ((1000.0, 'ms'), (100.0, '%'), (0.001, 'kW'))
    """
    base, _, per = unit.partition("/")
    number = abs(float(value)) if value is not None else 0.0
    factor, symbol = 1.0, base
    if base == "1":
        factor, symbol = 100.0, "%"
    elif base == "s" and 0.0 < number < 1.0:
        factor, symbol = 1e3, "ms"
    elif base == "J" and 0.0 < number < 0.1:  # noqa: PLR2004 -- one significant digit before the point
        factor, symbol = 1e3, "mJ"
    elif base in {"W", "J"} and number >= 1e3:  # noqa: PLR2004
        factor, symbol = 1e-3, f"k{base}"
    return factor, f"{symbol}/{per}" if per else symbol


def print_pairs(pairs: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    print_table(("", ""), [(name, cell(value)) for name, value in pairs.items()])
