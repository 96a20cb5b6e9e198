"""Request traces: requests in the order of their arrival, cut, and scaled in time and in volume."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from effsim.errors import SpecError

MAX_REQUESTS: Final = 20_000_000
VOLUME_SHIFT_S: Final = 300.0
"""By at most so much the copies of a trace are moved against each other [s]: long against bursts, short against the course of a day."""

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
            turn before it (the first one's, unless a turn between has a time of its own) and plays no part. NaN: the request arrives
            at its ``arrival_s``. None: all do.
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
        if (later & ~((self.think_s >= 0.0) & (self.think_s < math.inf))).any():
            raise SpecError(f"{self.name}: think_s must be finite and not negative, or NaN for a request that arrives at its own time")
        if self.session is not None and not later[0] and (self.session[1:] == self.session[:-1])[later[1:]].all() and not (later & (self.session < 0)).any():
            return  # turns stand together, as generated ones do
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
    arrival_s = trace.arrival_s[first:last] if start_s == 0.0 and rate_scale == 1.0 else (trace.arrival_s[first:last] - start_s) / rate_scale
    if last - first == len(trace):
        return trace if arrival_s.base is trace.arrival_s else dataclasses.replace(trace, arrival_s=arrival_s)
    return trace.at(np.arange(first, last), arrival_s)


def with_volume(trace: Trace, volume_scale: float, random: np.random.Generator, shift_s: float = VOLUME_SHIFT_S) -> Trace:
    """Return a trace of ``volume_scale`` times the requests per second, over the same span.

    Whole copies are laid over each other, each but the first moved by its own random time below ``shift_s`` and wrapped around the end, so that
    bursts do not fall together but the course of hours is kept; of one more copy each session, or request without one, is kept with the
    probability of the rest (thinning). Copies are of other users: their sessions and hash ids get numbers of their own.

    Args:
        trace: The whole.
        volume_scale: Requests per second over those of the trace.
        random: Draws shifts and what is kept.
        shift_s: At most the span of the trace [s].

    Raises:
        SpecError: A scale that is not positive, more than 20 million requests, or none left.
    """
    if not (math.isfinite(volume_scale) and volume_scale > 0.0):
        raise SpecError(f"volume_scale: expected a number above 0, got {volume_scale!r}")
    if volume_scale * len(trace) > MAX_REQUESTS:
        raise SpecError(f"volume_scale: {volume_scale:g} times {len(trace):,} requests; at most {MAX_REQUESTS:,} are simulated in one run")
    group = _groups(trace)
    period_s = trace.duration_s * len(trace) / max(len(trace) - 1, 1)
    firsts = np.unique(group, return_index=True)[1]
    starts_s = trace.arrival_s[firsts]
    times, rows, copies = [], [], []
    for copy in range(math.ceil(volume_scale)):
        kept = random.random(firsts.size) < volume_scale - copy
        move_s = random.random() * min(shift_s, period_s) if copy else 0.0
        moved_s = move_s - period_s * (starts_s + move_s >= period_s) if copy else np.zeros(firsts.size)
        chosen = np.flatnonzero(kept[group])
        times.append(trace.arrival_s[chosen] + moved_s[group[chosen]])
        rows.append(chosen)
        copies.append(np.full(chosen.size, copy))
    arrival_s = np.concatenate(times)
    if arrival_s.size == 0:
        raise SpecError(f"{trace.name}: volume_scale {volume_scale:g} leaves none of {len(trace):,} requests")
    order = np.argsort(arrival_s, kind="stable")
    found = trace.at(np.concatenate(rows)[order], np.maximum(arrival_s[order], 0.0))
    return _renumbered(found, np.concatenate(copies)[order], trace)


def _groups(trace: Trace) -> IntArray:
    """Return a number per request, equal for those of one session, rising with the first request; shape (request,)."""
    own = np.arange(len(trace))
    if trace.session is None:
        return own
    first = np.where(trace.session < 0, own, np.unique(trace.session, return_index=True)[1][np.unique(trace.session, return_inverse=True)[1]])
    return np.unique(first, return_inverse=True)[1].astype(np.int64)


def _renumbered(found: Trace, copies: IntArray, whole: Trace) -> Trace:
    changes: dict[str, Any] = {}
    if found.session is not None and whole.session is not None:
        changes["session"] = np.where(found.session < 0, -1, found.session + copies * (whole.session.max() + 1))
    if found.hash_ids is not None and whole.hash_ids is not None and whole.hash_ids.ids.size:
        per_block = np.repeat(copies, np.diff(found.hash_ids.offsets))
        ids = found.hash_ids.ids + per_block * (whole.hash_ids.ids.max() + 1)
        changes["hash_ids"] = HashIds(found.hash_ids.offsets, ids, found.hash_ids.block_tokens)
    return dataclasses.replace(found, **changes) if changes else found


def open_loop(trace: Trace) -> Trace:
    """Return a trace whose turns arrive by themselves: after the think times before them, as if answers took no time; sessions are kept.

    >>> waits = Trace("t", "doctest", np.zeros(3), np.ones(3), np.ones(3), session=np.zeros(3), think_s=np.array([np.nan, 2.0, 3.0]))
    >>> open_loop(waits).arrival_s.tolist()
    [0.0, 2.0, 5.0]
    """
    if trace.think_s is None:
        return trace
    arrival_s, think_s, former = trace.arrival_s.copy(), trace.think_s, trace.former_turns().tolist()
    for row in np.flatnonzero(~np.isnan(think_s)).tolist():
        arrival_s[row] = arrival_s[former[row]] + think_s[row]
    order = np.argsort(arrival_s, kind="stable")
    return dataclasses.replace(trace.at(order, arrival_s[order]), think_s=None)
