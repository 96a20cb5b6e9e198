"""Trace files: the folder ``trace_formats`` is the registry; which format a file has is seen from its columns or keys."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from effsim import catalog
from effsim.documents import write_blocks_atomically
from effsim.errors import SpecError, UnknownNameError
from effsim.workload import trace_formats
from effsim.workload.trace_rows import Block, Rows, opened
from effsim.workload.traces import MAX_REQUESTS, HashIds, Trace, open_loop


@dataclass(frozen=True, slots=True)
class Format:
    """A module of ``trace_formats``.

    Args:
        name: Of its file.
        kind: ``csv`` or ``jsonl``.
        recognised_by: Sets of columns or keys, of which one must be there.
        carries: The optional columns of a trace that it can hold.
        written: What a reader of a written file should know.
        block_tokens: Tokens that its hash ids stand for; None where the file says so itself, or has none.
        read: From rows to blocks; appends to the notes.
        write: From a trace to text.
    """

    name: str
    kind: str
    recognised_by: tuple[tuple[str, ...], ...]
    carries: tuple[str, ...]
    written: tuple[str, ...]
    block_tokens: int | None
    read: Callable[[Rows, list[str]], Iterator[Block]]
    write: Callable[[Trace], Iterator[str]]


def formats() -> tuple[Format, ...]:
    """Return every format, by name.

    >>> [one.name for one in formats()]
    ['azure', 'burstgpt', 'llmservingsim', 'mooncake', 'plain', 'splitwise', 'vidur']
    """
    found = []
    for name in sorted(module.name for module in pkgutil.iter_modules(trace_formats.__path__)):
        module: Any = importlib.import_module(f"{trace_formats.__name__}.{name}")
        optional = getattr(module, "WRITTEN", ()), getattr(module, "BLOCK_TOKENS", None)
        found.append(Format(name, module.KIND, module.RECOGNISED_BY, module.CARRIES, *optional, module.read, module.write))
    return tuple(found)


def format_named(name: str) -> Format:
    """Return a format.

    Raises:
        UnknownNameError: No file of that name; the message has the nearest names.
    """
    known = {one.name: one for one in formats()}
    if name not in known:
        raise UnknownNameError(f"unknown trace format {name[:60]!r}; {catalog.suggest(name, known)}allowed: {', '.join(known)}")
    return known[name]


def read_trace(path: Path) -> Trace:
    """Return the requests of a file whose format is recognised by its columns or keys.

    Arrivals count from the first request. Rows out of order are sorted; a request of 0 prompt or output tokens counts as 1, because an
    engine reads at least a start token and generates at least one: both are noted.

    Raises:
        SpecError: Too large, of no known format, or a row with a bad value (with its line number).
    """
    return read_as(path)[0]


def read_as(path: Path) -> tuple[Trace, Format]:
    """Return what :func:`read_trace` does, and the format."""
    kind, rows = opened(path)
    found = _recognised(kind, rows)
    notes: list[str] = []
    blocks: list[Block] = []
    count = 0
    for block in found.read(rows, notes):
        count += block["prompt_tokens"].size
        if count > MAX_REQUESTS:
            raise SpecError(f"{path}: more than {MAX_REQUESTS:,} requests")
        blocks.append(block)
    if count == 0:
        raise SpecError(f"{path}: no requests" + (" below the header" if kind == "csv" else ""))
    return _assembled(path, blocks, notes), found


def _recognised(kind: str, rows: Rows) -> Format:
    candidates = [one for one in formats() if one.kind == kind]
    fitting = [(len(names), one) for one in candidates for names in one.recognised_by if set(names) <= set(rows.names)]
    if fitting:
        return max(fitting, key=lambda pair: pair[0])[1]
    expected = "; ".join(f"{one.name}: {', '.join(one.recognised_by[0])}" for one in sorted(candidates, key=lambda one: one.name != "plain"))
    what = "columns" if kind == "csv" else "keys"
    found = ", ".join(rows.names)[:120] or "nothing"
    raise SpecError(f"{rows.path}, line 1: unknown trace format; expected the {what} {expected}; found {found}")


def _assembled(path: Path, blocks: list[Block], notes: list[str]) -> Trace:
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0] if name != "block_tokens"}
    block_tokens = next((int(block["block_tokens"]) for block in blocks if "block_tokens" in block), 0)
    blocks.clear()
    arrival_s = _from_first(columns)
    hash_ids = None
    counts, ids = columns.pop("hash_counts", None), columns.pop("hash_ids", None)
    if counts is not None and ids is not None and ids.size:
        hash_ids = HashIds(np.concatenate(([0], np.cumsum(counts))), ids, block_tokens)
    if "session" in columns and (columns["session"] < 0).all():
        del columns["session"]
    if "think_s" in columns and np.isnan(columns["think_s"]).all():
        del columns["think_s"]
    for column, kind in (("prompt_tokens", "prompt"), ("output_tokens", "output")):
        empty = int((columns[column] == 0).sum())
        if empty:
            notes.append(f"{empty:,} requests with 0 {kind} tokens count as 1")
            columns[column] = np.maximum(columns[column], 1)
    early = int((arrival_s[1:] < arrival_s[:-1]).sum())
    if early:
        notes.insert(0, f"{early:,} rows were earlier than the row before; sorted by arrival")
        order = np.argsort(arrival_s, kind="stable")
        arrival_s, columns = arrival_s[order], {name: values[order] for name, values in columns.items()}
        hash_ids = None if hash_ids is None else hash_ids.at(order)
    if "prefix_tokens" in columns:
        columns["prefix_tokens"] = np.minimum(columns["prefix_tokens"], columns["prompt_tokens"])
    for values in (arrival_s, *columns.values()):
        values.flags.writeable = False
    return Trace(path.name, f"file {path.name}", arrival_s, notes=tuple(notes), hash_ids=hash_ids, **columns)


def _from_first(columns: dict[str, Any]) -> Any:
    """Return arrivals from the first one on [s]; dates are subtracted as whole nanoseconds, so that no digit is lost."""
    if "arrival_ns" in columns:
        times = columns.pop("arrival_ns")
        return (times - times.min()) / 1e9
    times = columns.pop("arrival_s")
    return times - times.min()


def losses(trace: Trace, to: Format) -> tuple[str, ...]:
    """Return what a format cannot hold of a trace."""
    lost = [_LOST[name] for name in _LOST if getattr(trace, name) is not None and name not in to.carries]
    size = None if trace.hash_ids is None or "hash_ids" not in to.carries else trace.hash_ids.block_tokens
    if size is not None and to.block_tokens not in {None, size}:
        lost.append(f"that hash ids stand for {size} tokens: readers expect {to.block_tokens}, or are told")
    return tuple(lost)


_LOST: Final = {
    "session": "sessions: requests stand alone",
    "think_s": "think times: a turn arrives after the think times before it, as if answers took no time",
    "prefix_tokens": "prompt tokens shared with the former turn",
    "hash_ids": "hash ids: nobody can know any more which prompts begin alike",
    "priority": "priorities",
}


def write_trace(trace: Trace, path: Path, to: Format) -> None:
    """Write a trace whole or not at all, block by block.

    Where the format has no think times, turns are written as :func:`~effsim.workload.traces.open_loop` places them.

    Raises:
        SpecError: The place cannot be written to.
    """
    kept = trace if trace.think_s is None or "think_s" in to.carries else open_loop(trace)
    try:
        write_blocks_atomically(path, to.write(kept))
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror}") from None
