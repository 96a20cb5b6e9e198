"""Mooncake's JSONL: ``timestamp`` [ms], ``input_length``, ``output_length``, ``hash_ids`` of blocks of 512 tokens.

Source: kvcache-ai/Mooncake, FAST'25 traces; aliases (``input_tokens``, ``output_tokens``, ``created_time``, ``delay_ms``), ``session_id`` and
``delay`` [ms, after the end of the former turn] as in ai-dynamo (dynamo-data-gen, MooncakeRow). The size of the blocks is in no field: 512, or
the power of two from 8 to 4096 that explains the number of ids of every row.
"""

import json
import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from effsim.workload.trace_rows import ROWS_AT_ONCE, Block, Gathered, Labels, Rows, json_objects, needed, number_of, whole_list
from effsim.workload.traces import Trace

KIND: Final = "jsonl"
RECOGNISED_BY: Final = (("timestamp", "input_length"), ("created_time", "input_length"), ("timestamp", "input_tokens"), ("created_time", "input_tokens"))
CARRIES: Final = ("session", "think_s", "hash_ids")
WRITTEN: Final = ("times are rounded to 1 ns",)
BLOCK_TOKENS: Final = 512
_SIZES: Final = (BLOCK_TOKENS, *(2**power for power in range(3, 13) if 2**power != BLOCK_TOKENS))
_LATEST_MS: Final = 1e13


def read(rows: Rows, notes: list[str]) -> Iterator[Block]:
    """Yield blocks of requests; a later turn with a ``delay`` waits for the former one, one without arrives at its ``timestamp``."""
    gathered = Gathered("arrival_s", "prompt_tokens", "output_tokens", "session", "think_s")
    labels, starts = Labels(), dict[int, float]()
    sizes = set(_SIZES)
    for where, entry in json_objects(rows):
        session = labels.number("" if entry.get("session_id") is None else str(entry["session_id"]))
        delay_ms = number_of(entry, ("delay", "delay_ms"), where, whole=False, high=_LATEST_MS) if session in starts else None
        names = ("timestamp", "created_time")
        arrival_s = starts[session] if delay_ms is not None else needed(entry, names, where, whole=False, high=_LATEST_MS) / 1e3
        if session >= 0:
            starts[session] = arrival_s
        prompt = int(needed(entry, ("input_length", "input_tokens"), where, whole=True))
        output = needed(entry, ("output_length", "output_tokens"), where, whole=True)
        ids = whole_list(entry, "hash_ids", where)
        if ids:
            sizes = {size for size in sizes if len(ids) == math.ceil(prompt / size)}
        gathered.add(ids, arrival_s, prompt, output, session, math.nan if delay_ms is None else delay_ms / 1e3)
        if len(gathered) == ROWS_AT_ONCE:
            yield gathered.block()
    size = next((size for size in _SIZES if size in sizes), None)
    if size is None:
        notes.append(f"the number of hash ids fits no size of blocks; {BLOCK_TOKENS} tokens are assumed")
    elif size != BLOCK_TOKENS:
        notes.append(f"hash ids of blocks of {size} tokens, by their number")
    yield gathered.block() | {"block_tokens": np.array(size or BLOCK_TOKENS)}


def write(trace: Trace) -> Iterator[str]:
    """Yield the text of a file, one request a line."""
    hash_ids, former = trace.hash_ids, trace.former_turns().tolist()
    for first in range(0, len(trace), ROWS_AT_ONCE):
        lines = []
        for row in range(first, min(first + ROWS_AT_ONCE, len(trace))):
            entry: dict[str, Any] = {}
            if trace.session is not None and trace.session[row] >= 0:
                entry["session_id"] = str(trace.session[row])
            waits = former[row] >= 0 and trace.think_s is not None and not np.isnan(trace.think_s[row])
            if waits and trace.think_s is not None:
                entry["delay"] = _milliseconds(trace.think_s[row])
            else:
                entry["timestamp"] = _milliseconds(trace.arrival_s[row])
            entry["input_length"], entry["output_length"] = int(trace.prompt_tokens[row]), int(trace.output_tokens[row])
            if hash_ids is not None:
                entry["hash_ids"] = hash_ids.of(row).tolist()
            lines.append(json.dumps(entry) + "\n")
        yield "".join(lines)


def _milliseconds(time_s: Any) -> float | int:
    ms = round(float(time_s) * 1e3, 6)
    return int(ms) if ms == int(ms) else ms
