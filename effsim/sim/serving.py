"""A serving cluster in SimPy: requests arrive, are routed, batched and finished; its energy is accounted for.

SimPy keeps the clock of the cluster; a replica is advanced only when somebody looks at it (:mod:`effsim.sim.replica`).
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import simpy

from effsim.errors import SpecError
from effsim.sim.decode import DecodeCosts
from effsim.sim.log import RequestLog, Sink
from effsim.sim.recorder import MAX_BINS, Recorder
from effsim.sim.registry import policy, reads_replicas
from effsim.sim.replica import Replica
from effsim.sim.request import InFlight
from effsim.sim.result import SimulationResult, collect
from effsim.sim.setup import ReplicaSetup
from effsim.workload.traces import Trace

PROGRESS_INTERVAL_S: Final = 0.2
ARRIVALS_AT_ONCE: Final = 65_536  # turned into Python numbers together
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """Settings of a run that belong to no replica.

    Args:
        router: A file name in ``sim/policies`` with ``route``.
        concurrency: Closed loop: so many requests are under way, the next one arrives when one ends; the trace's arrival
            times are not used. None: open loop.
        bin_s: Width of the bins of the time series [s].
        max_bins: The width doubles when a run needs more.
        pue: Site power over server power.
        keep_requests: Keep one row per request; else distributions and sums alone, so that memory does not grow with requests.
        limits: Latency (a column of the requests) -> limit [s]; requests that keep all of them are counted.
        sink: Called with blocks of columns of completed requests.
    """

    router: str = "round_robin"
    concurrency: int | None = None
    bin_s: float = 1.0
    max_bins: int = MAX_BINS
    pue: float = 1.0
    keep_requests: bool = True
    limits: Mapping[str, float] = field(default_factory=dict)
    sink: Sink | None = None

    def __post_init__(self) -> None:
        if self.concurrency is not None and self.concurrency < 1:
            raise SpecError(f"concurrency: expected at least 1, got {self.concurrency}")
        if not (math.isfinite(self.bin_s) and self.bin_s > 0.0 and self.max_bins >= 1):
            raise SpecError(f"bin_s and max_bins: expected a positive time and at least 1, got {self.bin_s} and {self.max_bins}")
        if not (math.isfinite(self.pue) and self.pue >= 1.0):
            raise SpecError(f"pue: expected at least 1, got {self.pue}")


class Cluster:
    """The replicas of a run, and what became of the requests."""

    def __init__(self, requests: Trace, setups: Sequence[ReplicaSetup], options: ServingOptions, progress: Progress | None) -> None:
        self.requests = requests
        self.log = RequestLog(keep=options.keep_requests, limits=options.limits, sink=options.sink)
        self.recorder = Recorder(options.bin_s, options.max_bins, self.log.add)
        self.route = policy("route", options.router)
        self.reads_replicas = reads_replicas(options.router)
        costs = {id(setup.step_model): DecodeCosts(setup.step_model) for setup in setups}
        self.replicas = [
            Replica(index, setup, policy("pick", setup.scheduler), costs[id(setup.step_model)], self.recorder) for index, setup in enumerate(setups)
        ]
        self.most_tokens = min(setup.most_tokens for setup in setups)
        self.dropped: dict[int, tuple[InFlight, str]] = {}
        self.routed = 0
        self._progress, self._due_s = progress, 0.0

    def report(self) -> None:
        """Tell how far the run is, now and then."""
        if self._progress is not None and time.monotonic() >= self._due_s:
            self._progress(self.log.completed + len(self.dropped), len(self.requests))
            self._due_s = time.monotonic() + PROGRESS_INTERVAL_S

    def arrivals(self) -> Iterator[InFlight]:
        """Yield the requests in the order of their arrival."""
        trace = self.requests
        for first in range(0, len(trace), ARRIVALS_AT_ONCE):
            part = slice(first, first + ARRIVALS_AT_ONCE)
            columns = (trace.arrival_s[part].tolist(), trace.prompt_tokens[part].tolist(), trace.output_tokens[part].tolist())
            for number, (arrival_s, prompt, output) in enumerate(zip(*columns, strict=True), start=first):
                yield InFlight(number, arrival_s, prompt, output)

    def place(self, request: InFlight, now_s: float) -> Replica | None:
        """Give a request to a replica that can serve it, or drop it with the reason."""
        replicas: Sequence[Replica] = self.replicas
        if request.kv_tokens > self.most_tokens:
            replicas = [one for one in self.replicas if one.setup.refusal(request) is None]
        if not replicas:
            self.dropped[request.id] = (request, str(self.replicas[0].setup.refusal(request)))
            return None
        if self.reads_replicas:
            for replica in replicas:
                if replica.end_s < now_s:
                    replica.advance(now_s)
        chosen: Replica = replicas[self.route(replicas, self.routed)]
        if chosen.end_s < now_s:
            chosen.advance(now_s)
        chosen.receive(request, now_s)
        self.routed += 1
        return chosen


def arrive(env: simpy.Environment, cluster: Cluster) -> Generator[simpy.Event, Any, None]:
    """Place each request at its time; requests of equal times are all placed before anything else happens."""
    for request in cluster.arrivals():
        if request.arrival_s > env.now:
            yield env.timeout(request.arrival_s - env.now)
        cluster.place(request, request.arrival_s)
        if not request.id & 1023:
            cluster.report()


def arrive_in_turn(env: simpy.Environment, cluster: Cluster, concurrency: int) -> Generator[simpy.Event, Any, None]:
    """Closed loop: place the next request when fewer than ``concurrency`` are under way."""
    now_s = 0.0
    for request in cluster.arrivals():
        while cluster.routed - cluster.log.completed >= concurrency:
            earliest = min(cluster.replicas, key=_end_s)
            if earliest.end_s > env.now:
                yield env.timeout(earliest.end_s - env.now)
            now_s = earliest.end_s
            earliest.advance(math.nextafter(now_s, math.inf))
        request.arrival_s = now_s
        cluster.place(request, now_s)
        cluster.report()


def _end_s(replica: Replica) -> float:
    return replica.end_s


def simulate_serving(
    requests: Trace, replicas: Sequence[ReplicaSetup], options: ServingOptions | None = None, progress: Progress | None = None
) -> SimulationResult:
    """Return what a cluster of replicas makes of the requests, from time 0 until the last is done.

    Args:
        requests: Arrivals and lengths.
        replicas: One entry per replica; they need not be equal.
        options: See :class:`ServingOptions`.
        progress: Called about every 0.2 s of wall time with (requests completed or dropped, requests in all).

    Raises:
        SpecError: No replicas, or a step model that returns a time that is not positive.
        UnknownNameError: A router or scheduler that is no file of ``sim/policies``.
    """
    if not replicas:
        raise SpecError("fleet: expected at least one replica")
    options = options or ServingOptions()
    env = simpy.Environment()
    cluster = Cluster(requests, replicas, options, progress)
    env.process(arrive(env, cluster) if options.concurrency is None else arrive_in_turn(env, cluster, options.concurrency))
    env.run()
    for replica in cluster.replicas:
        replica.advance(math.inf)
    end_s = max([float(env.now), *(replica.idle_since_s for replica in cluster.replicas)])
    for replica in cluster.replicas:
        replica.account_idle(end_s)
    if progress is not None:
        progress(cluster.log.completed + len(cluster.dropped), len(requests))
    reasons = Counter(reason for _, reason in cluster.dropped.values())
    return collect(cluster.log, cluster.dropped, reasons, cluster.replicas, cluster.recorder, (end_s, options.pue))
