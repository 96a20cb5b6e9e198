"""What the simulation of a training cluster returns."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from effsim.results import Result
from effsim.sim.training.cluster import ClusterState
from effsim.sim.training.job import JobState
from effsim.sim.training.ledger import UNHELD, total

FloatArray = NDArray[np.float64]
Status = Literal["finished", "running", "queued", "not submitted"]


@dataclass(frozen=True, slots=True, eq=False)
class PowerTrace:
    """Mean power of all nodes over consecutive bins that cover the run; times ``duration_s`` it sums to the energy."""

    time_s: FloatArray
    duration_s: FloatArray
    power_w: FloatArray

    def to_frame(self) -> pd.DataFrame:
        """Return one row per bin; ``time_s`` is its start."""
        return pd.DataFrame({name: getattr(self, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True, eq=False)
class JobOutcome(Result):
    """One job of a run.

    Args:
        name: As given.
        status: At the end of the account.
        goodput: Work done over the time since it first started; NaN where it did not.
        queue_s: Without nodes, before its start and after preemptions.
        start_s: First start; None where it did not.
        end_s: None where it has not finished.
        done_s: Work done [s on all its nodes].
        lost_s: Work thrown away by failures [s].
        saves: Checkpoints written.
        failures: Interruptions by failures.
        restarts: Of its processes.
        loads: Checkpoints read.
        preemptions: By other jobs.
        domains: Network domains that it lies in at last.
        node_s: Node-seconds by cause.
        energy_j: By cause.
    """

    name: str
    status: Status
    goodput: float
    queue_s: float
    start_s: float | None
    end_s: float | None
    done_s: float
    lost_s: float
    saves: int
    failures: int
    restarts: int
    loads: int
    preemptions: int
    domains: int
    node_s: Mapping[str, float]
    energy_j: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRun(Result):
    """A cluster from time 0 to ``wall_s``.

    Args:
        wall_s: When the last job has ended, or the horizon.
        nodes: Spares among them.
        goodput: Work done over the time since the first start, jobs weighted by their nodes.
        utilization: Share of all node-seconds in which a job held the node.
        node_s: Node-seconds by cause; they sum to ``nodes · wall_s``.
        energy_j: By cause, see :data:`~effsim.sim.training.ledger.CAUSES`.
        counts: Failures and planned events by kind.
        jobs: In the order given.
        power: Of all nodes over time.
        signal_total: kg CO2e or USD of all energy, where a pause signal is given.
        seed: Of its random numbers.
    """

    wall_s: float
    nodes: int
    goodput: float
    utilization: float
    node_s: Mapping[str, float]
    energy_j: Mapping[str, float]
    counts: Mapping[str, int]
    jobs: tuple[JobOutcome, ...]
    power: PowerTrace
    signal_total: float | None
    seed: int

    @property
    def total_j(self) -> float:
        """Energy of all nodes [J]."""
        return total(self.energy_j)

    @property
    def unheld(self) -> tuple[dict[str, float], dict[str, float]]:
        """Node-seconds and joules by cause of nodes without a job: idle, in repair, in maintenance."""
        time_s = {cause: amount - math.fsum(job.node_s[cause] for job in self.jobs) for cause, amount in self.node_s.items() if cause in UNHELD}
        return time_s, {cause: self.energy_j[cause] - math.fsum(job.energy_j[cause] for job in self.jobs) for cause in time_s}

    def share(self, cause: str) -> float:
        """Return the share of a cause in all node-seconds."""
        return self.node_s[cause] / (self.nodes * self.wall_s)


def collect(cluster: ClusterState, jobs: Sequence[JobState], seed: int) -> TrainingRun:
    """Return the result of a run whose books are closed."""
    end_s = float(cluster.env.now)
    book = cluster.ledger.cluster
    held_s = math.fsum(total(job.book.node_s) for job in jobs)
    started = [job for job in jobs if job.start_s is not None]
    span_s = math.fsum(job.spec.nodes * _span_s(job, end_s) for job in started)
    return TrainingRun(
        wall_s=end_s,
        nodes=cluster.total,
        goodput=math.fsum(job.spec.nodes * job.progress.done_s for job in started) / span_s if span_s > 0.0 else math.nan,
        utilization=held_s / (cluster.total * end_s),
        node_s=dict(book.node_s),
        energy_j=dict(book.energy_j),
        counts=dict(sorted(cluster.counts.items())),
        jobs=tuple(_outcome(job, end_s) for job in jobs),
        power=_trace(cluster, end_s),
        signal_total=None if cluster.ledger.signal is None else cluster.ledger.weighted,
        seed=seed,
    )


def _span_s(job: JobState, end_s: float) -> float:
    return 0.0 if job.start_s is None else (end_s if job.end_s is None else job.end_s) - job.start_s


def _outcome(job: JobState, end_s: float) -> JobOutcome:
    span_s = _span_s(job, end_s)
    status = "not submitted" if job.spec.submit > end_s else job.status
    waits = status == "queued"
    return JobOutcome(
        name=job.spec.name,
        status=cast("Status", status),
        goodput=job.progress.done_s / span_s if span_s > 0.0 else math.nan,
        queue_s=job.queue_s + (end_s - job.queued_since_s if waits else 0.0),
        start_s=job.start_s,
        end_s=job.end_s,
        done_s=job.progress.done_s,
        lost_s=job.lost_s,
        saves=job.progress.saves,
        failures=job.failures,
        restarts=job.restarts,
        loads=job.loads,
        preemptions=job.preemptions,
        domains=len(job.domains) if job.end_s is None else job.domains_at_end,
        node_s=dict(job.book.node_s),
        energy_j=dict(job.book.energy_j),
    )


def _trace(cluster: ClusterState, end_s: float) -> PowerTrace:
    bins = cluster.ledger.bins
    sums = np.array(bins.sums[0])
    edges_s = np.minimum(np.arange(len(sums) + 1) * bins.width_s, end_s)
    duration_s = np.diff(edges_s)
    kept = duration_s > 0.0
    if kept.any() and not kept.all():  # what rounding put beyond the end belongs before it
        sums[np.flatnonzero(kept)[-1]] += sums[~kept].sum()
    return PowerTrace(edges_s[:-1][kept], duration_s[kept], sums[kept] / duration_s[kept])


@dataclass(frozen=True, slots=True)
class Spread(Result):
    """A number over independent runs: mean, standard deviation (of runs, not of the mean) and percentiles."""

    mean: float
    sd: float
    p5: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRuns(Result):
    """Runs of one cluster with different seeds."""

    runs: tuple[TrainingRun, ...]

    def spread(self, of: Callable[[TrainingRun], float]) -> Spread:
        """Return the spread of what a function reads from each run.

        ``spread(lambda run: run.goodput)``
        """
        values = np.array([of(run) for run in self.runs])
        p5, p50, p95 = np.percentile(values, (5, 50, 95))
        sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        return Spread(float(values.mean()), sd, float(p5), float(p50), float(p95))

    @property
    def goodput(self) -> Spread:
        """Of :attr:`TrainingRun.goodput`."""
        return self.spread(lambda run: run.goodput)

    @property
    def wall_s(self) -> Spread:
        """Of the time of the run [s]."""
        return self.spread(lambda run: run.wall_s)

    @property
    def total_j(self) -> Spread:
        """Of the energy of all nodes [J]."""
        return self.spread(lambda run: run.total_j)

    def by_cause(self, field: Literal["node_s", "energy_j"]) -> dict[str, Spread]:
        """Return the spread of each cause's node-seconds or joules."""
        return {cause: self.spread(lambda run, cause=cause: getattr(run, field)[cause]) for cause in getattr(self.runs[0], field)}  # type: ignore[misc]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per run."""
        rows = [
            {
                "seed": run.seed, "wall_s": run.wall_s, "goodput": run.goodput, "utilization": run.utilization, "total_j": run.total_j,
                **{f"{cause}_share": run.share(cause) for cause in run.node_s}, **{f"{cause}_j": joules for cause, joules in run.energy_j.items()},
                "failures": sum(job.failures for job in run.jobs),
            }
            for run in self.runs
        ]  # fmt: skip
        return pd.DataFrame(rows)
