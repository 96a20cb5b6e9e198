"""Request traces: read from CSV, cut, scaled, or drawn from the published statistics of one."""

import csv
import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from effsim.documents import read_text
from effsim.errors import SpecError

MAX_TRACE_BYTES: Final = 200_000_000
MAX_TOKENS: Final = 10**8
PLAIN_COLUMNS: Final = ("arrival_s", "prompt_tokens", "output_tokens")
AZURE_COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_TIMESTAMP: Final = re.compile(r"^(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?$")

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

COLUMNS: Final[dict[str, type[np.generic]]] = {
    "arrival_s": np.float64, "prompt_tokens": np.int64, "output_tokens": np.int64,
    "session": np.int64, "think_s": np.float64, "prefix_tokens": np.int64, "priority": np.int64,
}  # fmt: skip
"""Of :class:`Trace`, with one entry per request; from ``session`` on they may be absent."""


@dataclass(frozen=True, slots=True, eq=False)
class HashIds:
    """Names of the prompts' blocks: equal names stand for equal tokens, of the block and of all before it.

    Args:
        offsets: Request ``i`` has ``ids[offsets[i] : offsets[i + 1]]``, first block first; shape (request + 1,).
        ids: Shape (block,).
        block_tokens: Tokens in a block; the last one of a prompt may have fewer.
    """

    offsets: IntArray
    ids: IntArray
    block_tokens: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "offsets", _kept(self.offsets, np.int64))
        object.__setattr__(self, "ids", _kept(self.ids, np.int64))
        if self.block_tokens < 1 or self.offsets.size == 0 or (np.diff(self.offsets, prepend=0) < 0).any() or self.offsets[-1] != self.ids.size:
            raise SpecError("hash_ids: expected blocks of at least 1 token, and offsets that rise from 0 to the number of ids")

    def of(self, request: int) -> IntArray:
        """Return the names of one request's blocks.

        >>> HashIds(np.array([0, 2, 3]), np.array([7, 8, 7]), 16).of(1).tolist()
        [7]
        """
        return self.ids[self.offsets[request] : self.offsets[request + 1]]

    def at(self, rows: IntArray) -> "HashIds":
        """Return the names of some requests, in the order given."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate(([0], np.cumsum(counts)))
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], counts)
        return HashIds(offsets, self.ids[places], self.block_tokens)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests in the order of their arrival.

    Args:
        name: What reports call it.
        origin: Where it comes from: a file, a synthetic fit, a generator.
        arrival_s: [s] from the start of the run, not decreasing, shape (request,).
        prompt_tokens: At least 1, the context of earlier turns included, shape (request,).
        output_tokens: At least 1, shape (request,).
        notes: What was changed on reading, for the reader of a report.
        session: Number of the conversation that a request belongs to, -1 for none; its turns stand in their order. None: no sessions.
        think_s: [s] a later turn arrives so long after its session's former turn has ended; its ``arrival_s`` is then that of the
            session's first turn and plays no part. NaN: the request arrives at its ``arrival_s``. None: all do.
        prefix_tokens: How many of the prompt's first tokens are prompt and output of the session's former turn; 0 for a first turn.
        hash_ids: What the prompts' blocks hold.
        priority: The smaller, the sooner served, as in vLLM.

    Raises:
        SpecError: Shapes differ, or a value is out of range.
    """

    name: str
    origin: str
    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    notes: tuple[str, ...] = ()
    session: IntArray | None = None
    think_s: FloatArray | None = None
    prefix_tokens: IntArray | None = None
    hash_ids: HashIds | None = None
    priority: IntArray | None = None

    def __post_init__(self) -> None:
        for column, dtype in COLUMNS.items():
            given = getattr(self, column)
            if given is not None:
                object.__setattr__(self, column, _kept(given, dtype))
        present = [column for column in COLUMNS if getattr(self, column) is not None]
        if self.arrival_s.ndim != 1 or any(getattr(self, column).shape != self.arrival_s.shape for column in present):
            raise SpecError(f"{self.name}: {', '.join(present[:-1])} and {present[-1]} must be lists of one length")
        if len(self) == 0:
            raise SpecError(f"{self.name}: no requests")
        if not np.isfinite(self.arrival_s).all() or self.arrival_s[0] < 0.0 or (self.arrival_s[1:] < self.arrival_s[:-1]).any():
            raise SpecError(f"{self.name}: arrival_s must be finite, not negative and not decreasing")
        if min(self.prompt_tokens.min(), self.output_tokens.min()) < 1:
            raise SpecError(f"{self.name}: prompt_tokens and output_tokens must be at least 1")
        if self.hash_ids is not None and self.hash_ids.offsets.size != len(self) + 1:
            raise SpecError(f"{self.name}: hash_ids are those of {self.hash_ids.offsets.size - 1} requests, the trace has {len(self)}")
        self._check_sessions()

    def _check_sessions(self) -> None:
        if self.prefix_tokens is not None and ((self.prefix_tokens < 0) | (self.prefix_tokens > self.prompt_tokens)).any():
            raise SpecError(f"{self.name}: prefix_tokens must be from 0 to prompt_tokens")
        if self.think_s is None:
            return
        later = ~np.isnan(self.think_s)
        if not (np.isfinite(self.think_s[later]) & (self.think_s[later] >= 0.0)).all():
            raise SpecError(f"{self.name}: think_s must be finite and not negative, or NaN for a request that arrives at its own time")
        former = self.former_turns()
        if (former[later] < 0).any():
            raise SpecError(f"{self.name}: request {int(np.flatnonzero(later & (former < 0))[0])} has think_s, but no earlier turn in its session")

    def __len__(self) -> int:
        return int(self.arrival_s.shape[0])

    @property
    def duration_s(self) -> float:
        """Time of the last arrival."""
        return float(self.arrival_s[-1])

    def former_turns(self) -> IntArray:
        """Return the row of each request's former turn, -1 where it has none, shape (request,)."""
        return _neighbours(self.session, len(self), backward=True)

    def next_turns(self) -> IntArray:
        """Return the row of each request's next turn, -1 where it has none, shape (request,).

        >>> Trace("t", "doctest", np.zeros(4), np.ones(4), np.ones(4), session=np.array([5, -1, 5, 5])).next_turns().tolist()
        [2, -1, 3, -1]
        """
        return _neighbours(self.session, len(self), backward=False)

    def at(self, rows: IntArray, arrival_s: FloatArray) -> "Trace":
        """Return some of the requests, in the order given, at other times."""
        columns: dict[str, Any] = {name: None if getattr(self, name) is None else getattr(self, name)[rows] for name in COLUMNS if name != "arrival_s"}
        hash_ids = None if self.hash_ids is None else self.hash_ids.at(rows)
        return Trace(self.name, self.origin, arrival_s, notes=self.notes, hash_ids=hash_ids, **columns)


def _kept(given: Any, dtype: type[np.generic]) -> NDArray[Any]:
    """Return an array that nobody can write to; one that already is so is not copied."""
    if isinstance(given, np.ndarray) and given.dtype == dtype and not given.flags.writeable and given.base is None:
        return given
    values = np.array(given, dtype=dtype)
    values.flags.writeable = False
    return values


def _neighbours(session: IntArray | None, count: int, *, backward: bool) -> IntArray:
    found = np.full(count, -1, dtype=np.int64)
    if session is None:
        return found
    rows = np.flatnonzero(session >= 0)
    order = rows[np.argsort(session[rows], kind="stable")]
    same = session[order[1:]] == session[order[:-1]]
    first, second = order[:-1][same], order[1:][same]
    if backward:
        found[second] = first
    else:
        found[first] = second
    return found


def read_trace(path: Path) -> Trace:
    """Return the requests of a CSV file, whose format is recognised by its columns.

    Plain: ``arrival_s, prompt_tokens, output_tokens``. Azure LLM inference traces: ``TIMESTAMP, ContextTokens,
    GeneratedTokens``. Arrivals count from the first request. Rows out of order are sorted; a request of 0 prompt or
    output tokens counts as 1, because an engine reads at least a start token and generates at least one: both are noted.

    Raises:
        SpecError: Too large, not such a CSV file, or a row with a bad value (with its line number).
    """
    rows = csv.reader(io.StringIO(read_text(path, MAX_TRACE_BYTES)))
    try:
        header = [column.strip() for column in next(rows, [])]
        columns, read_time = _format(header, path)
        positions = [header.index(column) for column in columns]
        table = [_row(row, positions, read_time, f"{path}, line {rows.line_num}") for row in rows if row]
    except csv.Error as error:
        raise SpecError(f"{path}, line {rows.line_num}: not a CSV file: {error}") from None
    if not table:
        raise SpecError(f"{path}: no requests below the header")
    start_s = min(row[0] for row in table)
    arrival_s = np.array([(row[0] - start_s) + row[1] for row in table])
    arrival_s -= arrival_s.min()
    tokens = np.array([row[2:] for row in table], dtype=np.int64)
    notes = []
    out_of_order = int((np.diff(arrival_s) < 0.0).sum())
    if out_of_order:
        order = np.argsort(arrival_s, kind="stable")
        arrival_s, tokens = arrival_s[order], tokens[order]
        notes.append(f"{out_of_order:,} rows were earlier than the row before; sorted by arrival")
    for column, kind in enumerate(("prompt", "output")):
        empty = int((tokens[:, column] == 0).sum())
        if empty:
            notes.append(f"{empty:,} requests with 0 {kind} tokens count as 1")
    tokens = np.maximum(tokens, 1)
    return Trace(path.name, f"file {path.name}", arrival_s, tokens[:, 0], tokens[:, 1], tuple(notes))


def _format(header: list[str], path: Path) -> tuple[tuple[str, ...], Callable[[str], tuple[int, float]]]:
    for columns, read_time in ((PLAIN_COLUMNS, _plain_time), (AZURE_COLUMNS, _timestamp)):
        if set(columns) <= set(header):
            repeated = next((column for column in columns if header.count(column) > 1), None)
            if repeated is not None:
                raise SpecError(f"{path}, line 1: the column {repeated!r} is given twice")
            return columns, read_time
    found = ", ".join(header)[:120] or "nothing"
    raise SpecError(f"{path}, line 1: unknown trace format; expected the columns {', '.join(PLAIN_COLUMNS)} or {', '.join(AZURE_COLUMNS)}; found {found}")


def _plain_time(text: str) -> tuple[int, float]:
    value = float(text)
    if not math.isfinite(value) or value < 0.0:
        raise ValueError("expected seconds, finite and not negative")
    return 0, value


def _timestamp(text: str) -> tuple[int, float]:
    """Return whole seconds since 1970 and the fraction, apart so that no digit is lost."""
    match = _TIMESTAMP.match(text)
    if match is None:
        raise ValueError("expected a time such as 2023-11-16 18:15:46.6805900")
    whole, fraction, zone = match.groups()
    moment = datetime.fromisoformat(whole + (zone or ""))
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()), float(fraction or 0.0)


def _row(row: list[str], positions: list[int], read_time: Callable[[str], tuple[int, float]], where: str) -> tuple[int, float, int, int]:
    if len(row) <= max(positions):
        raise SpecError(f"{where}: expected at least {max(positions) + 1} values, found {len(row)}")
    texts = [row[position].strip() for position in positions]
    try:
        whole_s, fraction_s = read_time(texts[0])
    except ValueError as error:
        reason = "expected seconds" if str(error).startswith("could not convert") else error
        raise SpecError(f"{where}: arrival: {reason}, got {texts[0][:40]!r}") from None
    return whole_s, fraction_s, _tokens(texts[1], "prompt", where), _tokens(texts[2], "output", where)


def _tokens(text: str, kind: str, where: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= MAX_TOKENS or value != int(value):
        raise SpecError(f"{where}: {kind} tokens: expected a whole number from 0 to {MAX_TOKENS:,}, got {text[:40]!r}")
    return int(value)


def select(trace: Trace, rate_scale: float = 1.0, limit: int | None = None, window_s: tuple[float, float] | None = None) -> Trace:
    """Return a part of a trace, faster or slower: the window first, then the limit, then the scale.

    Args:
        trace: The whole.
        rate_scale: Requests per second over the recorded ones; gaps are divided by it.
        limit: Keep so many first requests.
        window_s: Keep arrivals in [start, end) [s]; the start becomes time 0.

    Raises:
        SpecError: Nothing is left, or a number out of range.
    """
    if not (math.isfinite(rate_scale) and rate_scale > 0.0):
        raise SpecError(f"rate_scale: expected a number above 0, got {rate_scale!r}")
    start_s, end_s = window_s or (0.0, math.inf)
    first, last = np.searchsorted(trace.arrival_s, (start_s, end_s), side="left")
    last = last if limit is None else min(last, first + limit)
    if last <= first:
        raise SpecError(f"{trace.name}: no requests from {start_s:g} to {end_s:g} s; the trace lasts {trace.duration_s:g} s")
    rows = np.arange(first, last)
    return trace.at(rows, (trace.arrival_s[first:last] - start_s) / rate_scale)
