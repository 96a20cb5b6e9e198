"""The life of a job: queue, work, and all that keeps it from working, as one SimPy process per job."""

import math
from collections.abc import Generator
from typing import Any, Final

import simpy

from effsim.errors import InfeasibleError
from effsim.sim.training.cluster import ClusterState
from effsim.sim.training.job import JobState, Phase

FRUITLESS: Final = 10_000
"""Failures in a row without a save between them after which a job is given up."""


def run_job(cluster: ClusterState, job: JobState) -> Generator[simpy.Event, Any, None]:
    """Queue, hold nodes and work until all is done; preempted, queue again."""
    env = cluster.env
    yield env.timeout(job.spec.submit)
    while job.status != "finished":
        job.granted = env.event()
        cluster.enqueue(job)
        yield job.granted
        yield from occupy(cluster, job)
        cluster.release(job)
        job.phase = None
        cluster.offer()


def occupy(cluster: ClusterState, job: JobState) -> Generator[simpy.Event, Any, None]:
    """Go through phases until the job is done or has made room."""
    env = cluster.env
    while (phase := next_phase(cluster, job)) is not None:
        job.phase, job.phase_start_s = phase, env.now
        has_ended = True
        if phase.duration_s > 0.0:
            job.can_be_poked = True
            try:
                yield env.timeout(phase.duration_s) if math.isfinite(phase.duration_s) else env.event()
            except simpy.Interrupt:
                has_ended = False
            job.can_be_poked = False
        settle(cluster, job)
        if has_ended:
            complete(job, phase)


def next_phase(cluster: ClusterState, job: JobState) -> Phase | None:
    """Return what the job does now; None where it gives its nodes back."""
    now_s = cluster.env.now
    if job.is_broken and not job.is_rolled_back:
        _roll_back(job, now_s)
    if job.is_broken and now_s < job.detected_at_s:
        return _phase(cluster, job, "detection", job.detected_at_s - now_s)
    if job.is_broken:
        job.is_broken = False
        job.must_load(is_hot=cluster.num_free >= job.missing and cluster.spec.spare_nodes >= job.missing)
    if (job.preempt or job.drain or job.grow or cluster.is_paused) and not job.progress.is_saved:
        return _phase(cluster, job, "checkpoint", job.write_s - job.written_s)
    if job.preempt:
        _make_room(job)
        return None
    _exchange_nodes(cluster, job)
    if job.usable < job.enough:
        job.is_hot = False
        return _phase(cluster, job, "waiting", math.inf)
    if cluster.is_paused:
        return _phase(cluster, job, "paused", math.inf)
    if job.is_loading:
        return _phase(cluster, job, "restart", load_s(cluster, job) - job.loaded_s)
    if job.progress.has_work:
        phase = _phase(cluster, job, "work", 0.0)
        return phase._replace(duration_s=job.progress.time_left_s(rate(job, phase)))
    if not job.progress.is_saved:
        return _phase(cluster, job, "checkpoint", job.write_s - job.written_s)
    job.status, job.end_s, job.domains_at_end = "finished", now_s, len(job.domains)
    return None


def _phase(cluster: ClusterState, job: JobState, cause: str, duration_s: float) -> Phase:
    straggler = cluster.spec.failures.straggler
    slowdown = straggler.slowdown if straggler is not None and job.slow else 1.0
    return Phase(cause, max(duration_s, 0.0), len(job.nodes), job.usable, cluster.speed, slowdown, cluster.power_share)


def rate(job: JobState, phase: Phase) -> float:
    """Return work per time while the job works: nodes in use, power and stragglers."""
    return phase.usable / job.spec.nodes * phase.speed / phase.slowdown


def load_s(cluster: ClusterState, job: JobState) -> float:
    """Return the time of a restart and of reading the checkpoint, if there is one [s]."""
    restart = cluster.spec.restart
    start_s = restart.time if restart.with_spare is None or not job.is_hot else restart.with_spare
    checkpoint = job.spec.checkpoint or cluster.spec.checkpoint
    return start_s + (checkpoint.restore_s if job.progress.saved_s > 0.0 else 0.0)


def _roll_back(job: JobState, now_s: float) -> None:
    """Book the loss of a failure.

    Raises:
        InfeasibleError: The job fails again and again without a save between.
    """
    job.reached_s = max(job.reached_s, job.progress.done_s)
    job.lost_s += job.progress.roll_back(now_s)
    job.fruitless = job.fruitless + 1 if job.progress.saves == job.saves_seen else 0
    job.saves_seen = job.progress.saves
    job.is_rolled_back = True
    if job.fruitless > FRUITLESS:
        remedies = ("a shorter checkpoint interval", "a faster save", "fewer nodes", "more reliable nodes")
        raise InfeasibleError(f"job {job.spec.name!r} fails too often to get on: {FRUITLESS:,} failures without a save", "failures", remedies)


def _make_room(job: JobState) -> None:
    job.preempt = job.grow = False
    job.preemptions += 1
    job.must_load(is_hot=False)


def _exchange_nodes(cluster: ClusterState, job: JobState) -> None:
    """Give up what is to be drained, and take what is missing where the job stands still anyway."""
    if job.drain:
        cluster.drain(job)
        job.must_load(is_hot=cluster.num_free >= job.missing and cluster.spec.spare_nodes >= job.missing)
    if job.grow:
        job.grow = False
        if cluster.can_grow(job, cluster.num_free):
            job.must_load(is_hot=False)
    if job.is_loading and job.missing:
        cluster.take(job, job.missing)


def settle(cluster: ClusterState, job: JobState) -> None:
    """Enter the time since the phase began; called once at its end."""
    phase, start_s, now_s = job.phase, job.phase_start_s, cluster.env.now
    if phase is None or now_s <= start_s:
        return
    job.phase_start_s = now_s
    elapsed_s = now_s - start_s
    power = job.spec.power
    full_w = power.useful * phase.power_share
    if phase.cause == "work":
        entries = _work_entries(job, phase, (start_s, elapsed_s), full_w)
    else:
        drawn_w = {"checkpoint": power.checkpoint, "restart": power.restart, "detection": power.stalled_w}.get(phase.cause, power.idle)
        entries = {phase.cause: (phase.nodes * elapsed_s, min(drawn_w, max(full_w, power.idle)))}
        if phase.cause == "restart":
            job.loaded_s += elapsed_s
        elif phase.cause == "checkpoint":
            job.written_s += elapsed_s
    cluster.ledger.add(start_s, now_s, entries, job.book)


def _work_entries(job: JobState, phase: Phase, span: tuple[float, float], full_w: float) -> dict[str, tuple[float, float]]:
    """Advance the work and return (node-seconds, watts) by cause."""
    before_s, power = job.progress.done_s, job.spec.power
    gained_s, blocked_s = job.progress.advance(*span, rate(job, phase))
    again_s = min(max(job.reached_s - before_s, 0.0), gained_s)
    job.reached_s = max(job.reached_s, job.progress.done_s)
    nodes = job.spec.nodes
    return {
        "useful": (nodes * (gained_s - again_s), full_w),
        "recomputed": (nodes * again_s, full_w),
        "throttled": (nodes * gained_s * (1.0 / phase.speed - 1.0), full_w),
        "straggling": (nodes * gained_s * (phase.slowdown - 1.0) / phase.speed, min(power.stalled_w, full_w)),
        "checkpoint": (phase.usable * blocked_s, min(power.checkpoint, max(full_w, power.idle))),
        "waiting": ((phase.nodes - phase.usable) * span[1], power.idle),
    }


def complete(job: JobState, phase: Phase) -> None:
    """Note what a phase that has ended by itself has brought."""
    if phase.cause == "work":
        job.progress.done_s = job.progress.work_s
        job.reached_s = job.progress.work_s
    elif phase.cause == "checkpoint":
        job.progress.save_all()
        job.written_s = 0.0
    elif phase.cause == "restart":
        job.is_loading = False
        job.restarts += 1
        job.loads += job.progress.saved_s > 0.0
