"""EffSim's own CSV: ``arrival_s, prompt_tokens, output_tokens`` and, where a trace has them, the columns of :data:`OPTIONAL`.

``hash_ids_512`` holds the names of blocks of 512 tokens, separated by spaces; any number may stand for 512.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from effsim.errors import SpecError
from effsim.workload.trace_rows import ROWS_AT_ONCE, Block, Column, Labels, Rows, csv_blocks, priorities, seconds, seconds_or_blank, tokens
from effsim.workload.traces import IntArray, Trace

KIND: Final = "csv"
RECOGNISED_BY: Final = (("arrival_s", "prompt_tokens", "output_tokens"),)
CARRIES: Final = ("session", "think_s", "prefix_tokens", "priority", "hash_ids")
OPTIONAL: Final = ("session", "think_s", "prefix_tokens", "priority")
_HASHED: Final = re.compile(r"^hash_ids_([1-9]\d{0,5})$")


def read(rows: Rows, notes: list[str]) -> Iterator[Block]:
    """Yield blocks of requests."""
    columns = [
        Column("arrival_s", "arrival", "arrival_s", seconds),
        Column("prompt_tokens", "prompt tokens", "prompt_tokens", tokens),
        Column("output_tokens", "output tokens", "output_tokens", tokens),
    ]
    kinds: dict[str, Callable[[Sequence[str]], NDArray[Any]]] = {"session": Labels().numbers, "think_s": seconds_or_blank, "priority": priorities}
    columns += [Column(name, name, name, kinds.get(name, tokens)) for name in OPTIONAL if name in rows.names]
    hashed = [name for name in rows.names if _HASHED.match(name)]
    if len(hashed) > 1:
        raise SpecError(f"{rows.path}, line 1: block hashes of one size are read, found {', '.join(hashed)}")
    if hashed:
        columns.append(Column(hashed[0], "hash ids", "hash_ids", _ids))
        columns.append(Column(hashed[0], "hash ids", "hash_counts", lambda texts: np.array([len(text.split()) for text in texts], dtype=np.int64)))
    for block in csv_blocks(rows, columns):
        yield block | ({"block_tokens": np.array(int(hashed[0].rsplit("_", 1)[1]))} if hashed else {})


def _ids(texts: Sequence[str]) -> IntArray:
    parts = [part for text in texts for part in text.split()]
    if not all(part.isdecimal() and int(part) < 2**63 for part in parts):
        raise ValueError("expected whole numbers separated by spaces")
    return np.array([int(part) for part in parts], dtype=np.int64)


def write(trace: Trace) -> Iterator[str]:
    """Yield the text of a file; times have all their digits."""
    optional = [name for name in OPTIONAL if getattr(trace, name) is not None]
    hashed = [] if trace.hash_ids is None else [f"hash_ids_{trace.hash_ids.block_tokens}"]
    yield ",".join((*RECOGNISED_BY[0], *optional, *hashed)) + "\n"
    for first in range(0, len(trace), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        columns: list[Iterable[str]] = [map(repr, trace.arrival_s[part].tolist())]
        columns += [map(str, values[part].tolist()) for values in (trace.prompt_tokens, trace.output_tokens)]
        columns += [map(_TEXT.get(name, str), getattr(trace, name)[part].tolist()) for name in optional]
        if trace.hash_ids is not None:
            hash_ids = trace.hash_ids
            columns.append(" ".join(map(str, hash_ids.of(row).tolist())) for row in range(first, min(first + ROWS_AT_ONCE, len(trace))))
        yield "".join(f"{','.join(row)}\n" for row in zip(*columns, strict=True))


def _session(number: int) -> str:
    return "" if number < 0 else str(number)


def _think(time_s: float) -> str:
    return "" if math.isnan(time_s) else repr(time_s)


_TEXT: Final = {"session": _session, "think_s": _think}
