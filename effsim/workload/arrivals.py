"""Requests for a scenario: its trace, or arrivals and lengths drawn from its distributions."""

import math
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np

from effsim.catalog import DATA_VARIABLE
from effsim.errors import SpecError
from effsim.specs.scenario import Scenario, trace_folders
from effsim.specs.workload import Arrivals, Priorities, Sessions, Workload
from effsim.workload.day import day_of
from effsim.workload.lengths import DRAWN_AT_ONCE, Find, lengths, resolved, times_s
from effsim.workload.synthetic import TRACES, synthetic_trace
from effsim.workload.trace_files import read_trace
from effsim.workload.traces import MAX_REQUESTS, FloatArray, IntArray, Trace, select, with_volume

ALL_AT_ONCE: Final = 0.0  # when requests of a closed loop arrive, before the simulator gives each its time


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the random stream of one name; streams of other names do not move it.

    >>> stream(1, "arrivals").random() == stream(1, "arrivals").random() != stream(1, "prompts").random()
    True
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()),)))


def requests_of(scenario: Scenario) -> Trace:
    """Return the requests of a serving scenario: of a trace its window, then its volume, then its rate, then its first requests.

    Where a published trace of :data:`~effsim.workload.synthetic.TRACES` is absent, requests drawn from its statistics stand in, and
    ``origin`` says so.

    Raises:
        SpecError: No workload; a trace that is nowhere or malformed; more than 20 million requests.
    """
    load = scenario.workload
    if load is None:
        raise SpecError(f"{scenario.name}: a {scenario.kind} scenario without a workload has no requests")

    def find(name: str) -> Path:
        return _located(scenario, name)

    if load.trace is None:
        pairs = _trace("lengths_from", load.lengths_from, scenario) if load.lengths_from else None
        return generated(load, scenario.seed, find, pairs)
    trace = _trace("trace", load.trace, scenario)
    if load.window is not None:
        trace = select(trace, window_s=(load.window.start, load.window.end))
    if load.volume_scale != 1.0:
        trace = with_volume(trace, load.volume_scale, stream(scenario.seed, "volume"))
    return select(trace, load.rate_scale, load.limit)


def _trace(field: str, name: str, scenario: Scenario) -> Trace:
    try:
        path = _located(scenario, name)
    except SpecError as error:
        if name in TRACES:
            return synthetic_trace(name, scenario.seed)
        raise SpecError(f"workload.{field}: {error}") from None
    return read_trace(path)


def _located(scenario: Scenario, name: str) -> Path:
    for folder in trace_folders(scenario):
        path = folder / name
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            return path
    raise SpecError(f"{name!r} is neither beside the scenario, nor in the working folder, nor in a folder of {DATA_VARIABLE}")


def _nowhere(name: str) -> Path:
    raise SpecError(f"{name!r}: a file is looked up for a scenario only")


def generated(load: Workload, seed: int, find: Find = _nowhere, pairs: Trace | None = None) -> Trace:
    """Return requests drawn from arrivals and lengths; arrivals, prompts, outputs, turns and think times have streams of their own.

    Args:
        load: Without a trace.
        seed: Equal seeds give equal requests.
        find: From the name of a histogram to its file.
        pairs: The trace that ``lengths_from`` names.

    Raises:
        SpecError: No request arrives, or more than 20 million.
    """
    arrivals = load.arrivals
    if arrivals is None:
        raise SpecError("workload: expected arrivals, prompt_tokens and output_tokens")
    turns = _turns(load.sessions, seed, load.requests, find) if load.sessions is not None and load.requests is not None else None
    arrival_s = arrival_times_s(arrivals, stream(seed, "arrivals"), load.requests if turns is None else turns.size, load.duration)
    if arrival_s.size == 0:
        raise SpecError(f"workload: no request arrives within {load.duration or 0.0:g} s")
    if load.sessions is not None:
        turns = lengths(resolved(load.sessions.turns, find), stream(seed, "turns"), arrival_s.size) if turns is None else turns[: arrival_s.size]
    count = arrival_s.size if turns is None else _rows(turns, load.requests)
    prompt_tokens, output_tokens = _lengths(load, seed, count, find, pairs)
    columns: dict[str, Any] = {"arrival_s": arrival_s, "prompt_tokens": prompt_tokens, "output_tokens": output_tokens}
    if load.priorities is not None:
        columns["priority"] = _priorities(load.priorities, stream(seed, "priorities"), count)
    if turns is not None and load.sessions is not None:
        columns = _in_turns(columns, turns, load.sessions, seed)
    for values in columns.values():
        values.flags.writeable = False
    return Trace(f"{arrivals.process} arrivals", f"generated with seed {seed}", **columns)


def _lengths(load: Workload, seed: int, count: int, find: Find, pairs: Trace | None) -> tuple[IntArray, IntArray]:
    if pairs is not None:
        rows = stream(seed, "lengths").integers(len(pairs), size=count)
        return pairs.prompt_tokens[rows], pairs.output_tokens[rows]
    if load.prompt_tokens is None or load.output_tokens is None:
        raise SpecError("workload: expected arrivals, prompt_tokens and output_tokens")
    prompts, outputs = resolved(load.prompt_tokens, find), resolved(load.output_tokens, find)
    return lengths(prompts, stream(seed, "prompts"), count), lengths(outputs, stream(seed, "outputs"), count)


def _turns(sessions: Sessions, seed: int, requests: int, find: Find) -> IntArray:
    """Return turns of as many sessions as the requests may need, shape (session,)."""
    random, distribution = stream(seed, "turns"), resolved(sessions.turns, find)
    parts: list[IntArray] = []
    while sum(int(part.sum()) for part in parts) < requests:
        parts.append(lengths(distribution, random, min(requests, DRAWN_AT_ONCE)))
    turns = np.concatenate(parts)
    return turns[: int(np.searchsorted(np.cumsum(turns), requests)) + 1]


def _rows(turns: IntArray, requests: int | None) -> int:
    count = int(turns.sum()) if requests is None else min(int(turns.sum()), requests)
    if count > MAX_REQUESTS:
        raise SpecError(f"workload: about {count:,} requests; at most {MAX_REQUESTS:,} are simulated in one run")
    return count


def _in_turns(columns: dict[str, Any], turns: IntArray, sessions: Sessions, seed: int) -> dict[str, Any]:
    """Return the columns of turns: their prompts with all that was said before, their waits, and the sessions they belong to.

    Of a session whose turns add p_1, p_2, ... and are answered with o_1, o_2, ..., prompt k is p_1 + o_1 + ... + o_(k-1) + p_k.
    """
    added, outputs = columns["prompt_tokens"], columns["output_tokens"]
    count = added.size
    session = np.repeat(np.arange(turns.size), turns)
    session = session if session.size == count else session[:count].copy()
    first = np.concatenate(([True], session[1:] != session[:-1]))
    prompts = np.cumsum(added + outputs)
    before = (prompts[first] - added[first] - outputs[first])[: int(session[-1]) + 1]
    prompts -= outputs
    prompts -= before[session]
    prefix = np.subtract(prompts, added, out=added)
    think_s = times_s(sessions.think, stream(seed, "think"), count)
    think_s[first] = np.nan
    found = {**columns, "arrival_s": columns["arrival_s"][session], "prompt_tokens": prompts}
    found |= {"session": session, "think_s": think_s, "prefix_tokens": prefix}
    if sessions.max_context is None:
        return found
    fits = first | (prompts + outputs <= sessions.max_context)
    return {name: values[fits] for name, values in found.items()}


def _priorities(priorities: Priorities, random: np.random.Generator, count: int) -> IntArray:
    weights = None if priorities.weights is None else np.array(priorities.weights) / sum(priorities.weights)
    return random.choice(np.array(priorities.values, dtype=np.int64), size=count, p=weights)


def arrival_times_s(arrivals: Arrivals, random: np.random.Generator, requests: int | None, duration_s: float | None) -> FloatArray:
    """Return arrival times [s], shape (request,), ended by ``requests`` or ``duration_s``, whichever comes first.

    Gaps are exponential (``poisson``), gamma of shape ``burstiness`` (``gamma``), or equal from time 0 on
    (``deterministic``), with mean 1 / rate; ``diurnal``: in requests expected by the day's rate (:mod:`effsim.workload.day`).
    ``closed_loop``: all zero, as the simulator sets each when its turn comes.
    """
    if arrivals.process == "closed_loop":
        return np.full(requests or 0, ALL_AT_ONCE)
    day = day_of(arrivals) if arrivals.process == "diurnal" else None
    limit_s = math.inf if duration_s is None else duration_s
    expected = math.inf if duration_s is None else day.expected(duration_s) if day is not None else duration_s * (arrivals.rate or 0.0)
    likely = expected + 10.0 * math.sqrt(expected / min(arrivals.burstiness or 1.0, 1.0)) + 10.0 if duration_s is not None else math.inf
    count = min(likely, math.inf if requests is None else float(requests))
    if count > MAX_REQUESTS:
        raise SpecError(f"workload: about {count:,.0f} requests; at most {MAX_REQUESTS:,} are simulated in one run")
    end = expected if day is not None else limit_s
    times = _cumulated(arrivals, random, int(count))
    while times[-1] < end and (requests is None or times.size < requests):
        more = int(count) if requests is None else min(int(count), requests - times.size)
        times = np.concatenate((times, times[-1] + _cumulated(arrivals, random, more)))
    if day is not None:
        times = day.times_s(times)
    return times if times[-1] < limit_s else times[times < limit_s]


def _cumulated(arrivals: Arrivals, random: np.random.Generator, count: int) -> FloatArray:
    """Return arrival times [s], or, of a day, requests expected by each arrival."""
    rate = 1.0 if arrivals.process == "diurnal" else arrivals.rate or math.nan
    if arrivals.process == "deterministic":
        return np.arange(count) / rate
    shape = arrivals.burstiness or 1.0
    gaps = random.gamma(shape, 1.0 / (rate * shape), size=count)
    return np.cumsum(gaps, out=gaps)
