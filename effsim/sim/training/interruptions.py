"""What is planned: pauses on a carbon or price signal, and maintenance."""

from collections.abc import Generator
from typing import Any

import simpy

from effsim.sim.training.cluster import ClusterState
from effsim.specs.cluster import Maintenance, PauseSignal

Process = Generator[simpy.Event, Any, None]


def pause(cluster: ClusterState, signal: PauseSignal) -> Process:
    """Pause and resume all jobs whenever the signal crosses its threshold, from time 0 on."""
    above = [value > signal.threshold for value in signal.values]
    crossings = [(index + 1) % len(above) for index in range(len(above)) if above[index] != above[index - len(above) + 1]]
    _set_pause(cluster, is_paused=above[0])
    rounds = 0
    order = sorted(index or len(above) for index in crossings)
    while order:
        for index in order:
            yield cluster.env.timeout((rounds * len(above) + index) * signal.period - cluster.env.now)
            _set_pause(cluster, is_paused=above[index % len(above)])
        rounds += 1


def _set_pause(cluster: ClusterState, *, is_paused: bool) -> None:
    if is_paused != cluster.is_paused:
        cluster.is_paused = is_paused
        cluster.counts["pause"] += is_paused
        for job in cluster.holding:
            job.poke()


def maintain(cluster: ClusterState, window: Maintenance) -> Process:
    """Take the nodes of a window off, those of jobs once their jobs have saved."""
    start_s = window.start
    while True:
        yield cluster.env.timeout(start_s - cluster.env.now)
        cluster.counts["maintenance"] += 1
        _begin(cluster, window, start_s + window.duration)
        if window.every is None:
            return
        start_s += window.every


def _begin(cluster: ClusterState, window: Maintenance, until_s: float) -> None:
    nodes = range(cluster.total) if window.domain is None else cluster.members(window.domain)
    held = {node: owner for node in nodes if (owner := cluster.owner[node]) is not None}
    cluster.take_off([node for node in nodes if node not in held and not cluster.is_off[node]], "maintenance", until_s)
    for node, job in held.items():
        job.drain[node] = ("maintenance", until_s)
        job.poke()
