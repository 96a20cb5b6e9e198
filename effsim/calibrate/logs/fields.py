"""Numbers out of foreign documents: absent is None, nonsense is refused with its place."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from effsim.calibrate.logs.record import Spread
from effsim.errors import SpecError, shown

MILLISECOND: Final = 1e-3
_ABSENT: Final = {"", "n/a", "na", "nan", "none", "null", "-"}
_UNLIMITED: Final = {"inf", "infinity"}


@dataclass(frozen=True, slots=True)
class Sheet:
    """A CSV file as rows of cells; blank lines are kept, as some tools part sections by them."""

    rows: tuple[tuple[str, ...], ...]

    @property
    def header(self) -> tuple[str, ...]:
        """Cells of the first row."""
        return self.rows[0] if self.rows else ()

    def records(self) -> list[dict[str, str]]:
        """Return the rows below the header by column; blank ones are left out."""
        return [dict(zip(self.header, row, strict=False)) for row in self.rows[1:] if any(row)]


def sheet(text: str) -> Sheet:
    r"""Return a CSV text as cells without surrounding blanks.

    >>> sheet("a, b\n1, 2\n").records()
    [{'a': '1', 'b': '2'}]
    """
    return Sheet(tuple(tuple(cell.strip() for cell in row) for row in csv.reader(io.StringIO(text))))


def number(value: Any, where: str) -> float | None:
    """Return a number that is not negative, or None where it is absent or without limit (``inf``).

    Raises:
        SpecError: Something else.

    >>> number("1,250.5", "x"), number("inf", "x"), number(None, "x")
    (1250.5, None, None)
    """
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.replace(",", "").strip().lower()
        if text in _ABSENT or text in _UNLIMITED:
            return None
        try:
            value = float(text)
        except ValueError:
            raise SpecError(f"{where}: expected a number, got {shown(value)}") from None
    if not isinstance(value, (int, float)):
        raise SpecError(f"{where}: expected a number, got {shown(value)}")
    found = float(value)
    if not math.isfinite(found):
        return None
    if found < 0.0:
        raise SpecError(f"{where}: expected a number of at least 0, got {found:g}")
    return found


def positive(value: Any, where: str) -> float | None:
    """Return a number above 0, or None where it is absent, without limit or 0."""
    return number(value, where) or None


def count(value: Any, where: str) -> int | None:
    """Return a count above 0, or None where it is absent or 0."""
    found = number(value, where)
    return round(found) if found else None


def spread(values: Mapping[str, Any], names: tuple[str, str, str, str], unit_s: float, where: str) -> Spread:
    """Return a latency from a mapping.

    Args:
        values: Such as ``{"mean_ttft_ms": 12.0}``.
        names: Of mean, median, 90th and 99th percentile in it.
        unit_s: Of the values in it [s].
        where: Of the mapping, for messages.
    """
    found = [positive(values.get(name), f"{where}, {name}") for name in names]
    mean, median, p90, p99 = (None if value is None else value * unit_s for value in found)
    return Spread(mean, median, p90, p99)


def nested(document: Any, *path: str) -> Any:
    """Return what lies at a path of keys, or None where a part of it is absent.

    >>> nested({"a": {"b": 1}}, "a", "b"), nested({"a": 2}, "a", "b")
    (1, None)
    """
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document


def text(value: Any) -> str | None:
    """Return a name, or None where it is absent."""
    return str(value).strip() or None if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def ratio(over: float | None, under: float | None) -> float | None:
    """Return a quotient, or None where a part is absent or 0.

    >>> ratio(6.0, 3.0), ratio(None, 3.0), ratio(1.0, 0.0)
    (2.0, None, None)
    """
    return None if over is None or not under else over / under
