"""How requests come to a cluster in which nothing else happens: at their times, or in turn."""

import math
from collections.abc import Generator
from typing import Any

import simpy

from effsim.sim.cluster import Cluster
from effsim.sim.replica import Replica


def arrive(env: simpy.Environment, cluster: Cluster) -> Generator[simpy.Event, Any, None]:
    """Place each request at its time; as nothing else happens on the clock, it moves on only now and then."""
    place, arrival_s = cluster.place, 0.0
    for request in cluster.arrivals():
        arrival_s = request.arrival_s
        place(request, arrival_s)
        if not request.id & 1023:
            cluster.report()
            yield env.timeout(max(0.0, arrival_s - env.now))
    yield env.timeout(max(0.0, arrival_s - env.now))


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
