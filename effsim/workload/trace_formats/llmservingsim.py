"""LLMServingSim's JSONL: ``arrival_time_ns, input_toks, output_toks``, or a session with ``sub_requests`` and ``tool_duration_ns`` between them.

Source: casys-kaist/LLMServingSim, docs/workloads/jsonl-format. Where ``input_tok_ids`` are given, blocks of 16 tokens get names: equal ones
for equal tokens after equal blocks. The request log of its benchmark, with ``arrival_time`` [s], is read, too.
"""

import json
import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from effsim.errors import SpecError, shown
from effsim.workload.trace_rows import ROWS_AT_ONCE, Block, Gathered, Labels, Rows, json_objects, needed, number_of, whole_list
from effsim.workload.traces import Trace

KIND: Final = "jsonl"
RECOGNISED_BY: Final = (("input_toks", "arrival_time_ns"), ("input_toks", "arrival_time"), ("sub_requests", "arrival_time_ns"))
CARRIES: Final = ("session", "think_s")
WRITTEN: Final = ("times are rounded to 1 ns", "sessions whose turns arrive at recorded times become single requests")
BLOCK_TOKENS: Final = 16
_LATEST_NS: Final = 9e18


def read(rows: Rows, notes: list[str]) -> Iterator[Block]:
    """Yield blocks of requests."""
    gathered = Gathered("arrival_ns", "prompt_tokens", "output_tokens", "session", "think_s")
    labels, names = Labels(), _BlockNames()
    for where, entry in json_objects(rows):
        arrival_ns = _arrival_ns(entry, where)
        if "sub_requests" not in entry:
            _add(gathered, entry, where, (arrival_ns, -1, math.nan), names)
        else:
            session, wait_s = labels.number(str(entry.get("session_id", where))), math.nan
            for turn in _turns(entry, where):
                _add(gathered, turn, where, (arrival_ns, session, wait_s), names)
                wait_s = (number_of(turn, ("tool_duration_ns",), where, whole=False, high=_LATEST_NS) or 0.0) / 1e9
        if len(gathered) >= ROWS_AT_ONCE:
            yield gathered.block()
    yield gathered.block() | {"block_tokens": np.array(BLOCK_TOKENS)}


def _arrival_ns(entry: dict[str, Any], where: str) -> int:
    if "arrival_time_ns" not in entry and "arrival_time" in entry:
        return round(needed(entry, ("arrival_time",), where, whole=False, high=_LATEST_NS / 1e9) * 1e9)
    return int(needed(entry, ("arrival_time_ns",), where, whole=False, high=_LATEST_NS))


def _turns(entry: dict[str, Any], where: str) -> list[dict[str, Any]]:
    turns = entry["sub_requests"]
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise SpecError(f"{where}: sub_requests: expected a list of at least one object, got {shown(turns, 40)}")
    return turns


def _add(gathered: Gathered, entry: dict[str, Any], where: str, placed: tuple[int, int, float], names: "_BlockNames") -> None:
    prompt = int(needed(entry, ("input_toks",), where, whole=True))
    output = needed(entry, ("output_toks",), where, whole=True)
    token_ids = whole_list(entry, "input_tok_ids", where)
    if token_ids and len(token_ids) != prompt:
        raise SpecError(f"{where}: input_tok_ids: expected {prompt} as input_toks says, found {len(token_ids)}")
    arrival_ns, session, think_s = placed
    gathered.add(names.of(token_ids), arrival_ns, prompt, output, session, think_s)


class _BlockNames:
    """Numbers blocks by their tokens and all that stand before them."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, tuple[int, ...]], int] = {}

    def of(self, token_ids: list[int]) -> list[int]:
        found, before = [], -1
        for start in range(0, len(token_ids), BLOCK_TOKENS):
            before = self._known.setdefault((before, tuple(token_ids[start : start + BLOCK_TOKENS])), len(self._known))
            found.append(before)
        return found


def write(trace: Trace) -> Iterator[str]:
    """Yield the text of a file: one session a line, or one request."""
    following = trace.next_turns().tolist()
    waits = np.zeros(len(trace), dtype=bool) if trace.think_s is None else ~np.isnan(trace.think_s)
    lines: list[str] = []
    for row in np.flatnonzero(~waits).tolist():
        chain = [row]
        while (after := following[chain[-1]]) >= 0 and waits[after]:
            chain.append(after)
        entry = {"arrival_time_ns": _nanoseconds(trace.arrival_s[row])}
        if len(chain) == 1:
            lines.append(json.dumps({**_lengths(trace, row), **entry}) + "\n")
        else:
            turns = [_turn(trace, one, after) for one, after in zip(chain, [*chain[1:], -1], strict=True)]
            name = "" if trace.session is None else f"session_{trace.session[row]}_{row}"
            lines.append(json.dumps({"session_id": name, **entry, "sub_requests": turns}) + "\n")
        if len(lines) == ROWS_AT_ONCE:
            yield "".join(lines)
            lines.clear()
    yield "".join(lines)


def _lengths(trace: Trace, row: int) -> dict[str, int]:
    return {"input_toks": int(trace.prompt_tokens[row]), "output_toks": int(trace.output_tokens[row])}


def _turn(trace: Trace, row: int, after: int) -> dict[str, int]:
    wait_ns = 0 if after < 0 or trace.think_s is None else _nanoseconds(trace.think_s[after])
    return {**_lengths(trace, row), "tool_duration_ns": wait_ns}


def _nanoseconds(time_s: Any) -> int:
    return round(float(time_s) * 1e9)
