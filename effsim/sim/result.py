"""What a serving run returns: columns per request, time series, energy by part and scope, counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from effsim.sim.control.fleet import LOADING, OFF
from effsim.sim.control.report import OperationReport
from effsim.sim.legs import Legs
from effsim.sim.log import COLUMNS, LATENCIES, Distribution, RequestLog
from effsim.sim.meter import IDLE
from effsim.sim.recorder import Histogram, Recorder
from effsim.sim.replica import Replica
from effsim.sim.request import InFlight

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class RequestColumns:
    """One entry per request in the order of arrival; latencies of a dropped request are NaN, its replica is -1.

    ``queue_s``: until first scheduled. ``ttft_s``: until the end of the iteration that finishes the prompt. ``tpot_s``:
    (e2e - ttft) / (output tokens - 1), NaN for one token. ``energy_j``: of the accelerators, by share of tokens in each
    iteration; NaN for a request that was never in one. ``dropped``: the reason, empty for a completed request.
    """

    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    queue_s: FloatArray
    ttft_s: FloatArray
    tpot_s: FloatArray
    e2e_latency_s: FloatArray
    preemptions: IntArray
    energy_j: FloatArray
    replica: IntArray
    dropped: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per request."""
        return pd.DataFrame({name: getattr(self, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True, eq=False)
class PowerSeries:
    """Means over consecutive bins that cover the run; the last may be shorter. Power times ``duration_s`` sums to the energy.

    ``running``: sequences over all replicas; ``waiting``: those that an iteration leaves waiting at its end, taken for its
    whole length; ``kv_usage``: share of all KV blocks in use.
    """

    time_s: FloatArray
    duration_s: FloatArray
    accelerator_w: FloatArray
    server_w: FloatArray
    site_w: FloatArray
    running: FloatArray
    waiting: FloatArray
    kv_usage: FloatArray

    def to_frame(self) -> pd.DataFrame:
        """Return one row per bin; ``time_s`` is its start."""
        return pd.DataFrame({name: getattr(self, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class EnergyParts:
    """Energy of all accelerators by what it is spent on [J].

    ``idle_j`` while a replica has nothing to do, ``loading_j`` while it is provisioned and reads its weights, ``off_j`` while it is off.
    """

    static_j: float
    core_j: float
    memory_j: float
    link_j: float
    idle_j: float
    loading_j: float = 0.0
    off_j: float = 0.0

    @property
    def busy_j(self) -> float:
        """Of iterations and transfers."""
        return self.static_j + self.core_j + self.memory_j + self.link_j

    @property
    def total_j(self) -> float:
        """Sum of the parts."""
        return self.busy_j + self.idle_j + self.loading_j + self.off_j


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened to requests and tokens; ``arrived = completed + sum(dropped.values())``.

    Tokens are those of completed requests; ``within_limits`` of these kept all limits of the options;
    ``recomputed_tokens`` were in the cache when their request was preempted.
    """

    arrived: int
    completed: int
    dropped: Mapping[str, int]
    preemptions: int
    iterations: int
    prompt_tokens: int
    output_tokens: int
    recomputed_tokens: int
    within_limits: int


@dataclass(frozen=True, slots=True)
class ReplicaStats:
    """One replica over the run; ``kv_blocks_free`` at its end equals ``kv_blocks``.

    ``prefill_j`` is the part of the energy of its iterations that falls to tokens of prompts, by their share of the tokens of each iteration.
    ``asked_tokens`` were those of requests at their admission, where prefixes are found again; ``found_tokens`` of them were in the cache.
    """

    iterations: int
    busy_s: float
    idle_s: float
    energy: EnergyParts
    server_j: float
    kv_blocks: int
    kv_blocks_free: int
    loading_s: float = 0.0
    off_s: float = 0.0
    prefill_j: float = 0.0
    asked_tokens: int = 0
    found_tokens: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class SimulationResult:
    """A serving run from time 0 to ``makespan_s``, when the last request is done.

    ``server_j`` adds hosts, fans and the loss of power supplies, ``site_j`` is that times PUE. ``inter_token`` counts the
    time between consecutive output tokens of a request, ``latency`` holds the distribution of each latency. ``requests`` is
    without rows where the run did not keep them. ``operation`` is what the control of the cluster did; None without any.
    ``legs`` is what the replicas did when; None where it was not asked for.
    """

    requests: RequestColumns
    power: PowerSeries
    energy: EnergyParts
    server_j: float
    site_j: float
    counts: Counts
    replicas: tuple[ReplicaStats, ...]
    inter_token: Histogram
    latency: Mapping[str, Distribution]
    makespan_s: float
    operation: OperationReport | None = None
    legs: Legs | None = None

    @property
    def energy_by_state(self) -> dict[str, float]:
        """Energy of all accelerators by what their replica did [J]; ``decode_j`` with what transfers of caches take."""
        prefill_j, parts = sum(one.prefill_j for one in self.replicas), self.energy
        return {"prefill_j": prefill_j, "decode_j": parts.busy_j - prefill_j, "idle_j": parts.idle_j, "loading_j": parts.loading_j, "off_j": parts.off_j}


def collect(
    log: RequestLog,
    dropped: Mapping[int, tuple[InFlight, str]],
    reasons: Mapping[str, int],
    replicas: Sequence[Replica],
    record: Recorder,
    span: tuple[float, float],
    operation: OperationReport | None = None,
) -> SimulationResult:
    """Return the result of a run that has ended; ``span`` is (its end [s], PUE)."""
    end_s, pue = span
    log.flush()
    stats = tuple(_stats(replica, end_s) for replica in replicas)
    counts = Counts(
        arrived=log.completed + len(dropped),
        completed=log.completed,
        dropped=dict(reasons),
        preemptions=sum(replica.preemptions for replica in replicas),
        iterations=sum(replica.iterations for replica in replicas),
        prompt_tokens=round(log.sums["prompt_tokens"]),
        output_tokens=round(log.sums["output_tokens"]),
        recomputed_tokens=sum(replica.recomputed_tokens for replica in replicas),
        within_limits=log.within,
    )
    energy = EnergyParts(*(sum(getattr(one.energy, part) for one in stats) for part in EnergyParts.__slots__))
    server_j = sum(one.server_j for one in stats)
    series = _series(record, replicas, end_s, pue)
    latency = {name: log.distribution(name) for name in LATENCIES}
    return SimulationResult(
        _columns(log, dropped),
        series,
        energy,
        server_j,
        server_j * pue,
        counts,
        stats,
        record.inter_token,
        latency,
        end_s,
        operation,
    )


def _stats(replica: Replica, end_s: float) -> ReplicaStats:
    rest_j, rest_s = replica.rest_j, replica.rest_s
    at_rest = [rest_j.get(state, 0.0) for state in (IDLE, LOADING, OFF)]
    energy = EnergyParts(replica.static_j, replica.core_j, replica.memory_j, replica.link_j, *at_rest)
    host = replica.setup.host
    host_j = (host.idle_w + host.fan_w) * end_s + replica.host_j
    return ReplicaStats(
        iterations=replica.iterations,
        busy_s=replica.busy_s,
        idle_s=rest_s[IDLE],
        energy=energy,
        server_j=(energy.total_j + host_j) / host.psu_efficiency,
        kv_blocks=replica.setup.kv_blocks,
        kv_blocks_free=replica.free_blocks,
        loading_s=rest_s.get(LOADING, 0.0),
        off_s=rest_s.get(OFF, 0.0),
        prefill_j=replica.prefill_j,
        asked_tokens=replica.asked_tokens,
        found_tokens=replica.found_tokens,
    )


def _columns(log: RequestLog, dropped: Mapping[int, tuple[InFlight, str]]) -> RequestColumns:
    """Return the columns of all requests, those that were dropped included."""
    c = log.columns()
    lost = [
        (r.id, r.arrival_s, r.prompt_tokens, r.output_tokens, *(4 * [np.nan]), r.preemptions, r.energy_j if r.first_scheduled_s >= 0.0 else np.nan, -1)
        for r, _ in dropped.values()
    ]
    if lost and log.keep:
        table = np.concatenate([np.stack(list(c.values())), np.array(lost).T], axis=1)
        c = dict(zip(COLUMNS, table[:, np.argsort(table[0], kind="stable")], strict=True))
    numbers = c["id"].astype(np.int64).tolist()
    return RequestColumns(
        arrival_s=c["arrival_s"],
        prompt_tokens=c["prompt_tokens"].astype(np.int64),
        output_tokens=c["output_tokens"].astype(np.int64),
        queue_s=c["queue_s"],
        ttft_s=c["ttft_s"],
        tpot_s=c["tpot_s"],
        e2e_latency_s=c["e2e_latency_s"],
        preemptions=c["preemptions"].astype(np.int64),
        energy_j=c["energy_j"],
        replica=c["replica"].astype(np.int64),
        dropped=tuple(dropped[number][1] if number in dropped else "" for number in numbers),
    )


def _series(record: Recorder, replicas: Sequence[Replica], end_s: float, pue: float) -> PowerSeries:
    bins = record.bins
    edges_s = np.minimum(np.arange(len(bins.sums[0]) + 1) * bins.width_s, end_s)
    duration_s = np.diff(edges_s)
    kept = duration_s > 0.0
    sums = np.array(bins.sums)
    if not kept.all():  # an interval that ends on an edge opens a bin of no duration; what rounding put there belongs before it
        sums[:, np.flatnonzero(kept)[-1]] += sums[:, ~kept].sum(axis=1)
    energy_j, server_j, running, waiting, blocks = sums[:, kept] / duration_s[kept]
    floor_w = sum((replica.setup.host.idle_w + replica.setup.host.fan_w) / replica.setup.host.psu_efficiency for replica in replicas)
    kv_blocks = sum(replica.setup.kv_blocks for replica in replicas)
    server_w = server_j + floor_w
    return PowerSeries(edges_s[:-1][kept], duration_s[kept], energy_j, server_w, server_w * pue, running, waiting, blocks / kv_blocks)
