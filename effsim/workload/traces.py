"""Request traces: read from CSV, cut, scaled, or drawn from the published statistics of one."""

import csv
import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

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


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests in the order of their arrival.

    Args:
        name: What reports call it.
        origin: Where it comes from: a file, a synthetic fit, a generator.
        arrival_s: [s] from the start of the run, not decreasing, shape (request,).
        prompt_tokens: At least 1, shape (request,).
        output_tokens: At least 1, shape (request,).
        notes: What was changed on reading, for the reader of a report.

    Raises:
        SpecError: Shapes differ, or a value is out of range.
    """

    name: str
    origin: str
    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for column, dtype in (("arrival_s", np.float64), ("prompt_tokens", np.int64), ("output_tokens", np.int64)):
            values = np.array(getattr(self, column), dtype=dtype)
            values.flags.writeable = False
            object.__setattr__(self, column, values)
        if self.arrival_s.ndim != 1 or not self.arrival_s.shape == self.prompt_tokens.shape == self.output_tokens.shape:
            raise SpecError(f"{self.name}: arrival_s, prompt_tokens and output_tokens must be lists of one length")
        if len(self) == 0:
            raise SpecError(f"{self.name}: no requests")
        if not np.isfinite(self.arrival_s).all() or self.arrival_s[0] < 0.0 or (np.diff(self.arrival_s) < 0.0).any():
            raise SpecError(f"{self.name}: arrival_s must be finite, not negative and not decreasing")
        if min(self.prompt_tokens.min(), self.output_tokens.min()) < 1:
            raise SpecError(f"{self.name}: prompt_tokens and output_tokens must be at least 1")

    def __len__(self) -> int:
        return int(self.arrival_s.shape[0])

    @property
    def duration_s(self) -> float:
        """Time of the last arrival."""
        return float(self.arrival_s[-1])


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
    kept = slice(int(first), int(last))
    arrival_s = (trace.arrival_s[kept] - start_s) / rate_scale
    return Trace(trace.name, trace.origin, arrival_s, trace.prompt_tokens[kept], trace.output_tokens[kept], trace.notes)


AZURE_CONV_NAME: Final = "azure_llm_2023_conv.csv"
AZURE_CONV_REQUESTS: Final = 19_366
AZURE_CONV_DURATION_S: Final = 3501.72
_AZURE_CONV_ARRIVALS: Final = (1403, 1384, 1515, 1498, 1808, 2131, 2192, 1897, 1632, 1503, 1275, 1128)
"""Requests in each twelfth of the trace."""
_PROMPT_SHARES: Final = (0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8,
                         0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99, 0.995, 0.999, 1)  # fmt: skip
_PROMPT_TOKENS: Final = (2, 29, 91, 181, 207, 372, 387, 396, 403, 414, 703, 984, 1020, 1045, 1071, 1097, 1130, 1189, 1315,
                         1876, 2734, 4073, 4079, 4086, 4098, 4142, 4831, 6179, 14050)  # fmt: skip
_OUTPUT_SHARES: Final = (0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)
_OUTPUT_TOKENS: Final = (
    (0, (11, 12, 12, 51, 132, 165, 194, 205, 233, 265)),
    (150, (14, 48, 65, 101, 162, 189, 217, 217, 291, 1000)),
    (250, (7, 50, 62, 81, 93, 106, 129, 144, 175, 436)),
    (450, (10, 40, 50, 75, 93, 113, 131, 164, 395, 739)),
    (800, (27, 56, 80, 105, 394, 415, 445, 499, 602, 921)),
    (1000, (28, 120, 375, 394, 406, 428, 489, 558, 659, 1000)),
    (1200, (24, 50, 65, 105, 169, 368, 414, 438, 594, 954)),
    (1600, (15, 43, 49, 66, 88, 113, 143, 159, 200, 458)),
    (3000, (17, 30, 35, 42, 57, 84, 130, 154, 240, 757)),
)
"""Prompt length from which a row holds, and quantiles of the output tokens there."""


def synthetic_azure_conv(seed: int, requests: int = AZURE_CONV_REQUESTS) -> Trace:
    """Return requests drawn from summary statistics of the Azure conversation trace of November 2023.

    Arrivals: a Poisson process whose rate follows the requests in each twelfth of the hour, repeated where more requests
    are asked for. Lengths: quantiles of the prompt, then of the output given the prompt; neighbours are independent.
    Statistics computed from Azure Public Dataset, AzureLLMInferenceTrace_conv (2023), CC-BY 4.0; Patel et al.,
    Splitwise, ISCA 2024. Against that trace the means of prompt and output tokens agree within 3 %.

    Args:
        seed: Equal seeds give equal traces.
        requests: The trace itself has 19,366 in 3,501.7 s.
    """
    gap_stream, prompt_stream, output_stream = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3))
    expected = np.cumsum(gap_stream.exponential(size=requests))
    periods, within = np.divmod(expected, AZURE_CONV_REQUESTS)
    counts = np.concatenate(([0.0], np.cumsum(_AZURE_CONV_ARRIVALS)))
    arrival_s = periods * AZURE_CONV_DURATION_S + np.interp(within, counts, np.linspace(0.0, AZURE_CONV_DURATION_S, counts.size))
    prompts = np.interp(prompt_stream.random(requests), _PROMPT_SHARES, _PROMPT_TOKENS).astype(np.int64)
    rows = np.searchsorted([start for start, _ in _OUTPUT_TOKENS], prompts, side="right") - 1
    shares = output_stream.random(requests)
    outputs = np.empty(requests, dtype=np.int64)
    for row, (_, quantiles) in enumerate(_OUTPUT_TOKENS):
        here = rows == row
        outputs[here] = np.interp(shares[here], _OUTPUT_SHARES, quantiles)
    origin = "synthetic: drawn from statistics of the Azure LLM inference trace 2023 (conversation), which was not found"
    return Trace("azure_llm_2023_conv (synthetic)", origin, arrival_s, prompts, outputs)
