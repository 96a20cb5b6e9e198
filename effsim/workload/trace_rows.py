"""Rows of trace files: read line by line, turned into columns block by block; a bad row is named with file and line."""

import csv
import json
import math
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from effsim.documents import check_file
from effsim.errors import SpecError, shown
from effsim.workload.traces import Trace

MAX_TRACE_BYTES: Final = 4_000_000_000
MAX_LINE_CHARACTERS: Final = 16_000_000
MAX_TOKENS: Final = 10**8
ROWS_AT_ONCE: Final = 16_384
_TIMESTAMP: Final = re.compile(r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,9})?(Z|[+-]\d\d:\d\d)?$")
_LATEST_S: Final = 9.2e9  # nanoseconds since 1970 in 64 bits

Block = dict[str, NDArray[Any]]
"""Columns of some rows: those of a trace, but ``arrival_ns`` [ns since 1970] where the file has dates, and ``hash_counts`` (ids per row)
with ``hash_ids`` (those of all rows)."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A trace file that is being read.

    Args:
        path: Of the file.
        names: Columns of its header, or keys of its first object.
        lines: All its lines, from the first.
    """

    path: Path
    names: tuple[str, ...]
    lines: Iterator[str]


def opened(path: Path) -> tuple[str, Rows]:
    """Return whether a file is ``csv`` or ``jsonl``, and its rows.

    Raises:
        SpecError: Missing, a folder, too large, not text, or its first line is neither.
    """
    lines = lines_of(path)
    first = next(lines, "")
    everything = chain((first,), lines)
    if first.lstrip().startswith("{"):
        return "jsonl", Rows(path, tuple(_object(first, path, 1)), everything)
    try:
        header = tuple(column.strip() for column in next(csv.reader([first]), []))
    except csv.Error as error:
        raise SpecError(f"{path}, line 1: not a CSV file: {error}") from None
    return "csv", Rows(path, header, everything)


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, of which one at a time is in memory.

    Raises:
        SpecError: Missing, a folder, larger than 4 GB, a line of more than 16 million characters, or not UTF-8 text.
    """
    try:
        check_file(path, MAX_TRACE_BYTES, "a trace")
        with path.open(encoding="utf-8-sig", newline="") as stream:
            number = 0
            while line := stream.readline(MAX_LINE_CHARACTERS):
                number += 1
                if "\0" in line:
                    raise SpecError(f"{path}, line {number}: not a text file (it contains zero bytes)")
                if len(line) == MAX_LINE_CHARACTERS and line[-1] != "\n":
                    raise SpecError(f"{path}, line {number}: longer than {MAX_LINE_CHARACTERS:,} characters")
                yield line
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not a text file in UTF-8 (byte {error.object[error.start]:#04x})") from None
    except OSError as error:
        raise SpecError(f"{shown(str(path))}: cannot be read: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a CSV format.

    Args:
        header: Its name in the file.
        what: Its name in messages.
        target: Its name in a :data:`Block`.
        values: From the texts of many rows to an array; ValueError with the reason where one is bad.
    """

    header: str
    what: str
    target: str
    values: Callable[[Sequence[str]], NDArray[Any]]


def csv_blocks(rows: Rows, columns: Sequence[Column]) -> Iterator[Block]:
    """Yield the columns of a CSV file in blocks of rows.

    Raises:
        SpecError: A column given twice, a row that is too short or has a bad value (with its line), or no CSV.
    """
    positions = [_position(rows, column.header) for column in columns]
    reader = csv.reader(rows.lines)
    try:
        next(reader)
        numbered = ((reader.line_num, row) for row in reader if row)
        while part := list(islice(numbered, ROWS_AT_ONCE)):
            yield _block(rows.path, part, columns, positions)
    except csv.Error as error:
        raise SpecError(f"{rows.path}, line {reader.line_num}: not a CSV file: {error}") from None


def _position(rows: Rows, header: str) -> int:
    if rows.names.count(header) > 1:
        raise SpecError(f"{rows.path}, line 1: the column {header!r} is given twice")
    return rows.names.index(header)


def _block(path: Path, part: list[tuple[int, list[str]]], columns: Sequence[Column], positions: Sequence[int]) -> Block:
    width = max(positions) + 1
    short = next((entry for entry in part if len(entry[1]) < width), None)
    whole = part if short is None else part[: part.index(short)]
    block: Block = {}
    wrong: list[SpecError] = []
    for column, position in zip(columns, positions, strict=True):
        texts = [row[position].strip() for _, row in whole]
        try:
            block[column.target] = column.values(texts)
        except ValueError:
            wrong.append(_first_wrong(path, column, texts, [number for number, _ in whole]))
    if wrong:
        raise wrong[0]
    if short is not None:
        raise SpecError(f"{path}, line {short[0]}: expected at least {width} values, found {len(short[1])}")
    return block


def _first_wrong(path: Path, column: Column, texts: Sequence[str], numbers: Sequence[int]) -> SpecError:
    for number, text in zip(numbers, texts, strict=True):
        try:
            column.values([text])
        except ValueError as error:
            return SpecError(f"{path}, line {number}: {column.what}: {error}, got {text[:40]!r}")
    return SpecError(f"{path}, line {numbers[0]} to {numbers[-1]}: {column.what}: cannot be read")


def seconds(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return times [s], each finite and not negative."""
    try:
        values = np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        raise ValueError("expected seconds") from None
    if not (np.isfinite(values) & (values >= 0.0)).all():
        raise ValueError("expected seconds, finite and not negative")
    return values


def seconds_or_blank(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return times [s], NaN where the text is empty."""
    values = seconds([text or "0" for text in texts])
    values[[not text for text in texts]] = np.nan
    return values


def tokens(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return whole numbers from 0 to 10^8."""
    return _whole(texts, 0, MAX_TOKENS)


def priorities(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return whole numbers of at most nine digits."""
    return _whole(texts, -(10**9), 10**9)


def _whole(texts: Sequence[str], low: int, high: int) -> NDArray[np.int64]:
    try:
        values = np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        values = np.full(1, np.nan)
    if not ((values >= low) & (values <= high) & (values == np.floor(values))).all():
        raise ValueError(f"expected a whole number from {low:,} to {high:,}")
    return values.astype(np.int64)


def timestamps(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return nanoseconds since 1970; a time without a zone counts as UTC.

    >>> (timestamps(["2024-05-10T01:00:00.5+01:00"]) - timestamps(["2024-05-10 00:00:00"])).tolist()
    [500000000]
    """
    found = [_TIMESTAMP.match(text) for text in texts]
    zones = {match.group(1) for match in found if match is not None}
    if None in found:
        raise ValueError("expected a time such as 2023-11-16 18:15:46.6805900")
    if zones <= {None, "Z", "+00:00"}:
        plain = [text[: match.start(1)] if match is not None and match.group(1) else text for text, match in zip(texts, found, strict=True)]
        values: NDArray[np.int64] = np.array(plain, dtype="datetime64[ns]").astype(np.int64)
    else:
        values = np.fromiter(map(_nanoseconds, texts), np.int64, len(texts))
    if (np.abs(values) > _LATEST_S * 1e9).any() or any(text < "1700" or text > "2200" for text in texts):
        raise ValueError("expected a year from 1700 to 2199")
    return values


def _nanoseconds(text: str) -> int:
    whole, zone, fraction = text[:19], _TIMESTAMP.sub(r"\1", text), re.search(r"\.(\d+)", text)
    moment = datetime.fromisoformat(whole + zone)
    since = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    return since * 10**9 + int((fraction.group(1) if fraction else "0").ljust(9, "0"))


class Labels:
    """Numbers names in the order in which they first come; an empty one is -1."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """Return the number of a name."""
        return self._numbers.setdefault(name, len(self._numbers)) if name else -1

    def numbers(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the numbers of names."""
        return np.fromiter(map(self.number, texts), np.int64, len(texts))


def json_objects(rows: Rows) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place (file and line) and object of each line of a JSONL file; empty lines are passed over."""
    for number, line in enumerate(rows.lines, start=1):
        if not line.isspace():
            yield f"{rows.path}, line {number}", _object(line, rows.path, number)


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}, line {number}: not JSON: {str(error)[:100]}") from None
    if not isinstance(found, dict):
        raise SpecError(f"{path}, line {number}: expected a JSON object, found {shown(found, 40)}")
    return found


def number_of(entry: dict[str, Any], names: Sequence[str], where: str, *, whole: bool, high: float = MAX_TOKENS) -> float | None:
    """Return the number under the first of some names that an object has, or None.

    Raises:
        SpecError: It is no number from 0 to ``high``, or not whole where it must be.
    """
    for name in names:
        value = entry.get(name)
        if value is not None:
            break
    else:
        return None
    if type(value) not in {int, float} or not 0 <= value <= high or (whole and value != math.floor(value)):
        raise SpecError(f"{where}: {name}: expected a {'whole ' if whole else ''}number from 0 to {high:,.0f}, got {shown(value, 40)}")
    found: float = value
    return found


def needed(entry: dict[str, Any], names: Sequence[str], where: str, *, whole: bool, high: float = MAX_TOKENS) -> float:
    """Return the number under the first of some names that an object has.

    Raises:
        SpecError: As :func:`number_of`, and where it is absent.
    """
    value = number_of(entry, names, where, whole=whole, high=high)
    if value is None:
        raise SpecError(f"{where}: {names[0]} is missing; found {', '.join(entry)[:120] or 'nothing'}")
    return value


def whole_list(entry: dict[str, Any], name: str, where: str) -> list[int]:
    """Return the list of whole numbers under a name, empty where it is absent.

    Raises:
        SpecError: It is no list of whole numbers from 0 to 2^63 - 1.
    """
    given = entry.get(name)
    if given is None:
        return []
    if not isinstance(given, list) or any(type(one) is not int or not 0 <= one < 2**63 for one in given):
        raise SpecError(f"{where}: {name}: expected a list of whole numbers from 0 to 2^63 - 1, got {shown(given, 60)}")
    return given


class Gathered:
    """Rows of a JSONL file on their way into blocks."""

    def __init__(self, *targets: str) -> None:
        self._columns: dict[str, array[Any]] = {target: array("d" if target in {"arrival_s", "think_s"} else "q") for target in targets}
        self._ids, self._counts = array("q"), array("q")

    def add(self, ids: Sequence[int], *values: float) -> None:
        """Take one row: its hash ids, then one value per target."""
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(int(value) if column.typecode == "q" else value)
        self._counts.append(len(ids))
        self._ids.extend(ids)

    def __len__(self) -> int:
        return len(self._counts)

    def block(self) -> Block:
        """Return the rows taken, and forget them."""
        columns = {**self._columns, "hash_counts": self._counts, "hash_ids": self._ids}
        found = {name: np.array(column, dtype=np.int64 if column.typecode == "q" else np.float64) for name, column in columns.items()}
        for column in columns.values():
            del column[:]
        return found


def seconds_and_tokens(trace: Trace) -> Iterator[Iterator[tuple[float, int, int]]]:
    """Yield arrival [s], prompt and output tokens of a trace's requests, in blocks of rows."""
    for first in range(0, len(trace), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        yield zip(trace.arrival_s[part].tolist(), trace.prompt_tokens[part].tolist(), trace.output_tokens[part].tolist(), strict=True)
