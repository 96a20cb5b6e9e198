"""A serving cluster in SimPy: requests arrive, are routed, batched and finished; its energy is accounted for.

SimPy keeps the clock of the cluster; a replica is advanced only when somebody looks at it (:mod:`effsim.sim.replica`). Where more happens
than arrivals, :mod:`effsim.sim.control` plays it.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import simpy

from effsim.errors import SpecError
from effsim.sim.arrivals import arrive, arrive_in_turn
from effsim.sim.cluster import Cluster
from effsim.sim.control.operate import Operated, operate
from effsim.sim.options import Progress, ServingOptions
from effsim.sim.result import SimulationResult, collect
from effsim.sim.setup import ReplicaSetup
from effsim.workload.traces import Trace

__all__ = ["Progress", "ServingOptions", "simulate_serving"]


def simulate_serving(
    requests: Trace, replicas: Sequence[ReplicaSetup], options: ServingOptions | None = None, progress: Progress | None = None
) -> SimulationResult:
    """Return what a cluster of replicas makes of the requests, from time 0 until the last is done.

    Args:
        requests: Arrivals and lengths.
        replicas: One entry per replica; they need not be equal.
        options: See :class:`~effsim.sim.options.ServingOptions`.
        progress: Called about every 0.2 s of wall time with (requests completed or dropped, requests in all).

    Raises:
        SpecError: No replicas, or a step model that returns a time that is not positive.
        UnknownNameError: A router or scheduler that is no file of ``sim/policies``.
    """
    if not replicas:
        raise SpecError("fleet: expected at least one replica")
    options = options or ServingOptions()
    env = simpy.Environment()
    operated: Operated | None = None
    if options.is_controlled or (requests.think_s is not None and not np.isnan(requests.think_s).all()):
        operated = operate(requests, replicas, options, progress)
        cluster: Cluster = operated.conductor
        env.process(operated.conductor.play(env))
    else:
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
    report = None if operated is None else operated.report()
    reasons = Counter(reason for _, reason in cluster.dropped.values())
    result = collect(cluster.log, cluster.dropped, reasons, cluster.replicas, cluster.recorder, (end_s, options.pue), report)
    return result if cluster.legs is None else replace(result, legs=cluster.legs.legs())
