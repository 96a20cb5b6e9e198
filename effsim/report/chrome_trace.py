"""A serving run as Chrome trace events, which Perfetto (ui.perfetto.dev) and chrome://tracing show.

Format: "Trace Event Format", docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMh4h6I0nSsKchNAySU. Times are microseconds of simulated time.
One process for the cluster with its counters, one per replica: a track with its legs, and one per request with its phases.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.sim.control.report import OperationReport
from effsim.sim.legs import Legs
from effsim.sim.result import RequestColumns, SimulationResult

FILE: Final = "trace.json"
MICROSECOND: Final = 1e6
MOST_LEGS: Final = 50_000
MOST_REQUESTS: Final = 10_000
MOST_POINTS: Final = 5_000
"""Of each counter; more bins of time are joined."""
CLUSTER: Final = 0
FIRST_REPLICA: Final = 1
COUNTERS: Final = {"requests": ("running", "waiting"), "KV cache used (%)": ("kv_usage",), "power (W)": ("accelerator_w", "server_w", "site_w")}

Event = dict[str, Any]


def files(result: SimulationResult, summary: Mapping[str, Any], power: pd.DataFrame) -> dict[str, str]:
    """Return the text by the name of its file; the first legs and requests where there are too many, and a note on how many are left out."""
    events = list(chain(_names(result, str(summary["name"])), _counters(power), _replicas(result.operation), _legs(result.legs), _requests(result.requests)))
    legs, requests = result.legs, result.counts.arrived
    shown = min(len(result.requests.arrival_s), MOST_REQUESTS)
    about = {
        "scenario": summary["name"],
        "legs_shown": 0 if legs is None else len(legs.start_s),
        "legs_total": None if legs is None else legs.total,
        "requests_shown": shown,
        "requests_total": requests,
        "limits": f"at most {MOST_LEGS:,} legs, {MOST_REQUESTS:,} requests and {MOST_POINTS:,} points of a counter, the first ones; "
        "a leg is a run of iterations between two changes of the batch",
    }
    head = json.dumps({"displayTimeUnit": "ms", "otherData": about}, allow_nan=False)
    body = ",\n".join(json.dumps(event, allow_nan=False, separators=(",", ":")) for event in events)
    return {FILE: f'{head[:-1]}, "traceEvents": [\n{body}\n]}}\n'}


def _names(result: SimulationResult, scenario: str) -> Iterator[Event]:
    yield {"ph": "M", "name": "process_name", "pid": CLUSTER, "tid": 0, "args": {"name": f"cluster {scenario}"}}
    for index in range(len(result.replicas)):
        pid = FIRST_REPLICA + index
        yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": f"replica {index}"}}
        yield {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": pid}}
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": 1, "args": {"name": "iterations"}}


def _counters(power: pd.DataFrame) -> Iterator[Event]:
    """Yield the counters of the cluster, each value at the beginning of the time that it is the mean of; joined bins weigh by their length."""
    step = -(-len(power) // MOST_POINTS)
    length_s = power["duration_s"].to_numpy()
    starts = np.arange(0, len(power), step)
    weights_s = np.add.reduceat(length_s, starts)
    time_s = power["time_s"].to_numpy()[starts]
    end_s = float(time_s[-1] + weights_s[-1])
    for name, columns in COUNTERS.items():
        present = [column for column in columns if power[column].notna().all()]
        percent = 100.0 if name.endswith("(%)") else 1.0
        means = [percent * np.add.reduceat(power[column].to_numpy() * length_s, starts) / weights_s for column in present]
        for at_s, *values in zip(time_s.tolist(), *(mean.tolist() for mean in means), strict=True):
            args = {column: round(value, 3) for column, value in zip(present, values, strict=True)}
            yield {"ph": "C", "name": name, "pid": CLUSTER, "tid": 0, "ts": _us(at_s), "args": args}
        yield {"ph": "C", "name": name, "pid": CLUSTER, "tid": 0, "ts": _us(end_s), "args": dict.fromkeys(present, 0.0)}


def _replicas(operation: OperationReport | None) -> Iterator[Event]:
    """Yield how many replicas are on and being started, at each change of a cluster that is operated."""
    for time_s, on, starting in () if operation is None else operation.replicas:
        yield {"ph": "C", "name": "replicas", "pid": CLUSTER, "tid": 0, "ts": _us(time_s), "args": {"on": on, "starting": starting}}


def _legs(legs: Legs | None) -> Iterator[Event]:
    if legs is None:
        return
    columns = (legs.replica, legs.start_s, legs.end_s, legs.iterations, legs.running, legs.energy_j)
    for kind, replica, start_s, end_s, iterations, running, energy_j in zip(legs.kind, *(column.tolist() for column in columns), strict=True):
        length_s = end_s - start_s
        args = {"iterations": iterations, "running": running, "energy_j": energy_j, "power_w": energy_j / length_s if length_s > 0.0 else None}
        where = {"pid": FIRST_REPLICA + replica, "tid": 1}
        yield {"ph": "X", "name": kind, "cat": "leg", **where, "ts": _us(start_s), "dur": round(_us(end_s) - _us(start_s), 3), "args": args}


def _requests(requests: RequestColumns) -> Iterator[Event]:
    """Yield each request as nested spans of a track of its own: the whole, then queue, prefill and decode."""
    names = ("arrival_s", "prompt_tokens", "output_tokens", "queue_s", "ttft_s", "e2e_latency_s", "preemptions", "energy_j", "replica")
    first = [getattr(requests, name)[:MOST_REQUESTS].tolist() for name in names]
    for number, row in enumerate(zip(*first, strict=True)):
        arrival_s, prompt, output, queue_s, ttft_s, e2e_s, preemptions, energy_j, replica = row
        if requests.dropped[number]:
            at = {"pid": CLUSTER, "tid": 0, "ts": _us(arrival_s)}
            yield {"ph": "i", "s": "p", "name": f"request {number} dropped", "cat": "dropped", **at, "args": {"reason": requests.dropped[number]}}
            continue
        args = {"prompt_tokens": prompt, "output_tokens": output, "preemptions": preemptions, "energy_j": energy_j}
        ends = (("queue", 0.0, queue_s), ("prefill", queue_s, ttft_s), ("decode", ttft_s, e2e_s))
        whole = {"name": f"request {number}", "cat": "request", "id": number, "pid": FIRST_REPLICA + replica, "tid": 0}
        yield {"ph": "b", **whole, "ts": _us(arrival_s), "args": args}
        for name, begin_s, end_s in ends:
            if end_s > begin_s:
                yield {"ph": "b", **whole, "name": name, "ts": _us(arrival_s + begin_s)}
                yield {"ph": "e", **whole, "name": name, "ts": _us(arrival_s + end_s)}
        yield {"ph": "e", **whole, "ts": _us(arrival_s + e2e_s)}


def _us(time_s: float) -> float:
    """Return microseconds, to the nanosecond."""
    return round(time_s * MICROSECOND, 3)
