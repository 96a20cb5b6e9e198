"""What befalls nodes: failures, switches that take a domain along, nodes that become slow. One process for each cause.

Exponential failures of many nodes are one Poisson process with the sum of their rates; which node is struck is drawn
evenly, and a node that is off is not. Weibull lives are drawn for each node.
"""

import math
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import numpy as np
import simpy

from effsim.sim.training.cluster import ClusterState
from effsim.sim.training.streams import stream
from effsim.specs.cluster import Straggler

Process = Generator[simpy.Event, Any, None]


def start_failures(cluster: ClusterState, seed: int) -> None:
    """Start the processes that the failure model asks for, each with random numbers of its own."""
    model = cluster.spec.failures
    if model.node_mtbf is not None and model.shape is None:
        cluster.env.process(_poisson(cluster, cluster.total / model.node_mtbf, cluster.total, _node_fails(cluster, seed), stream(seed, "nodes")))
    elif model.node_mtbf is not None and model.shape is not None:
        _weibull(cluster, model.node_mtbf, model.shape, seed)
    if model.switch_mtbf is not None:
        cluster.env.process(_poisson(cluster, cluster.domains / model.switch_mtbf, cluster.domains, partial(_switch_fails, cluster), stream(seed, "switches")))
    if model.straggler is not None:
        strikes = partial(_slows, cluster, model.straggler)
        cluster.env.process(_poisson(cluster, cluster.total / model.straggler.node_mtbs, cluster.total, strikes, stream(seed, "stragglers")))


def _poisson(cluster: ClusterState, rate_per_s: float, members: int, strike: Callable[[int], None], random: np.random.Generator) -> Process:
    """Strike one of so many members, drawn evenly, at a constant rate."""
    while True:
        yield cluster.env.timeout(random.exponential(1.0 / rate_per_s))
        strike(int(random.integers(members)))


def _node_fails(cluster: ClusterState, seed: int) -> Callable[[int], None]:
    model, random = cluster.spec.failures, stream(seed, "transient")

    def strike(node: int) -> None:
        is_transient = model.transient_share > 0.0 and random.random() < model.transient_share
        if cluster.fail((node,), model.repair, is_transient=is_transient):
            cluster.counts["node_transient" if is_transient else "node"] += 1

    return strike


def _switch_fails(cluster: ClusterState, domain: int) -> None:
    if cluster.fail(cluster.members(domain), cluster.spec.failures.switch_repair):
        cluster.counts["switch"] += 1


def _weibull(cluster: ClusterState, mtbf_s: float, shape: float, seed: int) -> None:
    """Draw a life for each node now, and another whenever one returns or goes on after a transient failure."""
    random, scale_s, fails = stream(seed, "nodes"), mtbf_s / math.gamma(1.0 + 1.0 / shape), _node_fails(cluster, seed)

    def live(node: int) -> None:
        end = cluster.env.timeout(scale_s * random.weibull(shape))
        end.callbacks.append(partial(die, node, cluster.lives[node]))

    def die(node: int, life: int, _event: simpy.Event) -> None:
        if cluster.lives[node] == life:
            fails(node)
            if not cluster.is_off[node]:
                live(node)

    cluster.on_return = live
    for node in range(cluster.total):
        live(node)


def _slows(cluster: ClusterState, model: Straggler, node: int) -> None:
    if cluster.is_off[node] or node in cluster.slow:
        return
    cluster.counts["straggler"] += 1
    cluster.slow.add(node)
    job = cluster.owner[node]
    if job is not None:
        job.slow.add(node)
        job.poke()
    cluster.env.process(_found(cluster, node, cluster.lives[node], model.detection))


def _found(cluster: ClusterState, node: int, life: int, detection_s: float) -> Process:
    """Exchange a slow node once it is found; where none can replace it, it stays until one can."""
    yield cluster.env.timeout(detection_s)
    if cluster.lives[node] != life or cluster.is_off[node]:
        return
    job, until_s = cluster.owner[node], cluster.env.now + cluster.spec.failures.repair
    if job is None:
        cluster.take_off((node,), "repair", until_s)
        return
    cluster.known_slow.add(node)
    if cluster.num_free > 0:
        job.drain[node] = ("repair", until_s)
        job.poke()
