"""A training cluster in SimPy, from specs to a :class:`~effsim.sim.training.result.TrainingRun`."""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import simpy

from effsim.errors import InfeasibleError, SpecError
from effsim.sim.training.closed_form import daly_interval_s
from effsim.sim.training.cluster import ClusterState, Speed
from effsim.sim.training.failures import start_failures
from effsim.sim.training.interruptions import maintain, pause
from effsim.sim.training.job import JobState
from effsim.sim.training.ledger import Ledger, Signal
from effsim.sim.training.process import run_job, settle
from effsim.sim.training.progress import Progress
from effsim.sim.training.result import TrainingRun, TrainingRuns, collect
from effsim.specs.cluster import YOUNG_DALY, Checkpoint, Cluster, Job

SHORTEST_INTERVAL_S: Final = 1.0
"""Between saves that cost nothing, where Daly's optimum is 0."""


def simulate_training(cluster: Cluster, jobs: Sequence[Job], seed: int = 0, speed: Speed | None = None) -> TrainingRun:
    """Return one run of a training cluster.

    Args:
        cluster: Nodes, what fails, how progress is saved, queue and limits.
        jobs: With unique names.
        seed: Of all random numbers.
        speed: Share of useful power -> share of speed under a power budget, 0 where it cannot run; for a budget without a curve.

    Raises:
        SpecError: A job that does not fit the cluster, or a budget without a relation of power and speed.
        InfeasibleError: A job fails so often that it never gets on, or the power budget holds for no job.
    """
    spec = _completed(cluster, jobs)
    env = simpy.Environment()
    signal = None if spec.pause is None else Signal(spec.pause.values, spec.pause.period)
    state = ClusterState(env, spec, Ledger(signal), _speed(spec, speed))
    states = [_job_state(spec, number, job) for number, job in enumerate(jobs)]
    processes = []
    for job in states:
        if not state.fits_budget(job):
            raise InfeasibleError(f"job {job.spec.name!r} cannot run within the power budget", "power budget", ("a higher limit", "fewer nodes"))
        job.process = env.process(run_job(state, job))
        processes.append(job.process)
    start_failures(state, seed)
    if spec.pause is not None:
        env.process(pause(state, spec.pause))
    for window in spec.maintenance:
        env.process(maintain(state, window))
    ended = env.all_of(processes)
    env.run(until=ended if spec.horizon is None else env.any_of([ended, env.timeout(spec.horizon)]))
    _close(state, states)
    return collect(state, states, seed)


def simulate_training_seeds(
    cluster: Cluster, jobs: Sequence[Job], seeds: Sequence[int], speed: Speed | None = None, progress: Callable[[int, int], None] | None = None
) -> TrainingRuns:
    """Return independent runs, one per seed; ``progress`` is called with (runs done, runs in all)."""
    if not seeds:
        raise SpecError("seeds: expected at least one")
    runs = []
    for seed in seeds:
        runs.append(simulate_training(cluster, jobs, seed, speed))
        if progress is not None:
            progress(len(runs), len(seeds))
    return TrainingRuns(tuple(runs))


def _completed(cluster: Cluster, jobs: Sequence[Job]) -> Cluster:
    if not jobs:
        raise SpecError("jobs: expected at least one")
    names = [job.name for job in jobs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SpecError(f"jobs: the name {twice!r} is taken")
    largest = max(jobs, key=lambda job: job.nodes)
    nodes = cluster.nodes or largest.nodes
    if largest.nodes > nodes:
        raise SpecError(f"jobs: {largest.name!r} takes {largest.nodes} nodes, the cluster has {nodes} beside its spares")
    domains = -(-(nodes + cluster.spare_nodes) // (cluster.nodes_per_domain or nodes + cluster.spare_nodes))
    wrong = next((window.domain for window in cluster.maintenance if window.domain is not None and window.domain >= domains), None)
    if wrong is not None:
        raise SpecError(f"maintenance: domain {wrong} is not there; the cluster has {domains}, counted from 0")
    return cluster.model_copy(update={"nodes": nodes})


def job_mtbf_s(cluster: Cluster, nodes: int) -> float:
    """Return the mean time between failures of a job on so many nodes, in the long run [s]; infinite where nothing fails.

    >>> from effsim.specs.cluster import FailureModel
    >>> round(job_mtbf_s(Cluster(failures=FailureModel(node_mtbf="264 d")), 2048) / 3600, 2)
    3.09
    """
    model = cluster.failures
    rate_per_s = 0.0 if model.node_mtbf is None else nodes / model.node_mtbf
    if model.switch_mtbf is not None:
        rate_per_s += math.ceil(nodes / (cluster.nodes_per_domain or nodes)) / model.switch_mtbf
    return 1.0 / rate_per_s if rate_per_s > 0.0 else math.inf


def checkpoint_interval_s(cluster: Cluster, nodes: int, checkpoint: Checkpoint | None = None) -> float:
    """Return the work between two saves of a job on so many nodes [s]: as given, or Daly's optimum for the blocking part of a save.

    ``checkpoint`` None: the cluster's.
    """
    checkpoint, mtbf_s = checkpoint or cluster.checkpoint, job_mtbf_s(cluster, nodes)
    if checkpoint.interval != YOUNG_DALY:
        return float(checkpoint.interval)
    if math.isinf(mtbf_s):
        return math.inf
    lag_s = checkpoint.write_s - checkpoint.blocking_s
    return max(daly_interval_s(checkpoint.blocking_s, mtbf_s), 2.0 * lag_s, SHORTEST_INTERVAL_S)


def _job_state(cluster: Cluster, number: int, job: Job) -> JobState:
    checkpoint = job.checkpoint or cluster.checkpoint
    lag_s = checkpoint.write_s - checkpoint.blocking_s
    interval_s = min(checkpoint_interval_s(cluster, job.nodes, checkpoint), job.work_s)
    return JobState(number, job, Progress(job.work_s, interval_s, checkpoint.blocking_s, min(lag_s, interval_s)), checkpoint.write_s)


def _speed(cluster: Cluster, given: Speed | None) -> Speed:
    budget = cluster.power_budget
    if budget is None:
        return lambda _share: 1.0
    if budget.curve is None:
        if given is None:
            raise SpecError("power_budget.curve is missing: expected pairs (share of power, share of speed)")
        return given
    powers, speeds = np.array(budget.curve).T

    def speed(share: float) -> float:
        return float(np.interp(share, powers, speeds)) if share >= powers[0] else 0.0

    return speed


def _close(cluster: ClusterState, jobs: Sequence[JobState]) -> None:
    """Enter what is open at the end, and what a run ends without having done again."""
    now_s = cluster.env.now
    for pool in cluster.pools.values():
        pool.change(now_s, 0)
    for job in jobs:
        settle(cluster, job)
        undone_s = job.reached_s - job.progress.done_s
        if undone_s > 0.0:
            cluster.ledger.correct_lost(job.book, undone_s / job.reached_s)
