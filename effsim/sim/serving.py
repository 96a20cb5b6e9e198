"""A serving cluster in SimPy: requests arrive, are routed, batched and finished; its energy is accounted for.

Written to be read and to be trusted: one event per iteration and per arrival, no approximation in time.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import simpy

from effsim.errors import SpecError
from effsim.sim.recorder import MAX_BINS
from effsim.sim.registry import policy
from effsim.sim.replica import Record, Replica, ReplicaSetup, serve
from effsim.sim.request import InFlight
from effsim.sim.result import SimulationResult, collect
from effsim.workload.traces import Trace

PROGRESS_INTERVAL_S = 0.2
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
    """

    router: str = "round_robin"
    concurrency: int | None = None
    bin_s: float = 1.0
    max_bins: int = MAX_BINS
    pue: float = 1.0

    def __post_init__(self) -> None:
        if self.concurrency is not None and self.concurrency < 1:
            raise SpecError(f"concurrency: expected at least 1, got {self.concurrency}")
        if not (math.isfinite(self.bin_s) and self.bin_s > 0.0 and self.max_bins >= 1):
            raise SpecError(f"bin_s and max_bins: expected a positive time and at least 1, got {self.bin_s} and {self.max_bins}")
        if not (math.isfinite(self.pue) and self.pue >= 1.0):
            raise SpecError(f"pue: expected at least 1, got {self.pue}")


class Cluster:
    """The replicas of a run, and what became of the requests."""

    def __init__(self, env: simpy.Environment, requests: list[InFlight], setups: Sequence[ReplicaSetup], options: ServingOptions) -> None:
        self.env = env
        self.requests = requests
        self.options = options
        self.route = policy("route", options.router)
        self.replicas = [Replica(index, setup, policy("pick", setup.scheduler)) for index, setup in enumerate(setups)]
        self.dropped: dict[int, str] = {}
        self.routed = self.completed = 0
        self.ended: simpy.Event | None = None

    def place(self, request: InFlight) -> None:
        """Give a request to a replica that can serve it, or drop it with the reason."""
        refusals = [replica.refusal(request) for replica in self.replicas]
        able = [replica for replica, refusal in zip(self.replicas, refusals, strict=True) if refusal is None]
        if not able:
            self.dropped[request.id] = str(refusals[0])
            return
        able[self.route(able, self.routed)].receive(request)
        self.routed += 1

    def note_end(self, _request: InFlight) -> None:
        """Count a completed request and let the next one of a closed loop come."""
        self.completed += 1
        if self.ended is not None and not self.ended.triggered:
            self.ended.succeed()


def arrive(cluster: Cluster) -> Generator[simpy.Event, Any, None]:
    """Place each request at its time; requests of equal times are all placed before anything else happens."""
    env = cluster.env
    for request in cluster.requests:
        if request.arrival_s > env.now:
            yield env.timeout(request.arrival_s - env.now)
        cluster.place(request)


def arrive_in_turn(cluster: Cluster, concurrency: int) -> Generator[simpy.Event, Any, None]:
    """Closed loop: place the next request when fewer than ``concurrency`` are under way."""
    for request in cluster.requests:
        while cluster.routed - cluster.completed >= concurrency:
            cluster.ended = cluster.env.event()
            yield cluster.ended
        request.arrival_s = cluster.env.now
        cluster.place(request)


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
    columns = (requests.arrival_s.tolist(), requests.prompt_tokens.tolist(), requests.output_tokens.tolist())
    flight = [InFlight(number, *row) for number, row in enumerate(zip(*columns, strict=True))]
    cluster = Cluster(env, flight, replicas, options)
    record = Record(options.bin_s, options.max_bins, cluster.note_end, _reporter(cluster, progress))
    for replica in cluster.replicas:
        env.process(serve(env, replica, record))
    env.process(arrive(cluster) if options.concurrency is None else arrive_in_turn(cluster, options.concurrency))
    env.run()
    for replica in cluster.replicas:
        replica.idle_until(env.now, record)
    if progress is not None:
        progress(cluster.completed + len(cluster.dropped), len(flight))
    return collect(flight, cluster.dropped, Counter(cluster.dropped.values()), cluster.replicas, record, (float(env.now), options.pue))


def _reporter(cluster: Cluster, progress: Progress | None) -> Callable[[], None]:
    if progress is None:
        return lambda: None
    total = len(cluster.requests)
    due_s = time.monotonic() + PROGRESS_INTERVAL_S

    def report() -> None:
        nonlocal due_s
        if time.monotonic() >= due_s:
            progress(cluster.completed + len(cluster.dropped), total)
            due_s = time.monotonic() + PROGRESS_INTERVAL_S

    return report
