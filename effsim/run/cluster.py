"""A training scenario on a cluster that fails: its jobs in the simulator over several seeds, and the rows of the table from them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.errors import SpecError
from effsim.results import plain
from effsim.run.doubt import Shift, shifts
from effsim.run.doubt import notes as doubt_notes
from effsim.run.jobs import Planned, beside_of, estimates_of, nodes_of, plan, resolved_checkpoint
from effsim.run.machines import account, resolve_node, site_of
from effsim.run.metrics import CAUSE_WORDS, MAX_GROUPS, OWN, Ends, Values
from effsim.run.training import account_values, parts_of, step_estimate
from effsim.sim.training.cluster import Speed
from effsim.sim.training.parts import BUSY, Beside, Matrix, added, by_part, of_part
from effsim.sim.training.result import TrainingRun, TrainingRuns
from effsim.sim.training.simulation import checkpoint_interval_s, job_mtbf_s, simulate_training_seeds
from effsim.site.account import Use
from effsim.specs import loading
from effsim.specs.cluster import Cluster
from effsim.specs.scenario import Scenario, with_changes
from effsim.units import JOULES_PER_KWH, SECONDS_PER_HOUR

Progress = Callable[[int, int], None]
LIMITS: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Shares of the accelerators' power at which a step is estimated for a power budget without a curve."""
SEEDS_AT_ENDS: Final = 0.3
"""Share of the seeds that are run again at each end of the interval of step time, whose effect is far larger than chance."""
PER_TOKEN: Final = ("accelerator_j_per_token", "server_j_per_token", "site_j_per_token", "owned_usd_per_million_tokens")
"""Rows that a cluster of several jobs does not have: its energy is not that of one run's tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class ClusterAnswer:
    """The rows of one variant, at the median and at the ends of what is not known, and its runs in short."""

    values: Values
    ends: Ends
    notes: tuple[str, ...]
    summary: Mapping[str, Any]
    power: pd.DataFrame


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """A scenario with its jobs at one step time, and what a node without a job has beside its accelerators."""

    scenario: Scenario
    jobs: tuple[Planned, ...]
    unheld: Beside

    @property
    def step_s(self) -> float:
        return self.jobs[0].job.step_time or 0.0

    def matrix(self, run: TrainingRun, power_factor: float = 1.0) -> Matrix:
        """Return the energy of a run by cause and part."""
        books = [(job.node_s, job.energy_j, planned.beside, job.saves, job.loads) for job, planned in zip(run.jobs, self.jobs, strict=True)]
        books.append((*run.unheld, self.unheld, 0, 0))
        return added(
            by_part(time_s, {cause: power_factor * joules for cause, joules in energy_j.items()}, beside, saves, loads)
            for time_s, energy_j, beside, saves, loads in books
        )


def simulate_cluster(scenario: Scenario, result: Any, progress: Progress | None = None) -> ClusterAnswer:
    """Return what the cluster makes of a scenario whose step has been estimated.

    The rows are means over the seeds. Their intervals join causes: chance (5th and 95th percentile over the seeds),
    the time of a step, the power of the accelerators, and each figure that states a range.

    Raises:
        SpecError: The accelerators do not fill whole nodes, or a name or number of the cluster block is wrong.
        InfeasibleError: A job does not fit or never gets on, or the power budget is too small.
    """
    cluster, speed, others = cluster_of(scenario, result), _speed(scenario, result), estimates_of(scenario)
    seeds = range(scenario.seed, scenario.seed + cluster.seeds)
    times_s = (float(result.step_time_s), *(float(end) for end in result.interval("step_time_s", 0.9)))
    powers_w = [float(end) for end in result.interval("power_w", 0.9)]
    power_w = float(result.power_w)
    runs: list[TrainingRuns] = []
    cases: list[_Case] = []
    few = seeds[: math.ceil(len(seeds) * SEEDS_AT_ENDS)]
    nodes, node = nodes_of(scenario, scenario.fleet[0].num_accelerators, "cluster")
    for step_s, these in zip(times_s, (seeds, few, few), strict=True):
        planned = plan(scenario, cluster, result, others, step_s / times_s[0])
        cases.append(_Case(scenario, planned, beside_of(scenario, node, nodes)))
        done = sum(len(one.runs) for one in runs)
        report = None if progress is None else lambda one, _all, done=done: progress(done + one, len(seeds) + 2 * len(few))
        runs.append(simulate_training_seeds(cluster, [one.job for one in planned], these, speed, report))

    def rows(index: int, power_factor: float = 1.0, shift: Shift | None = None) -> list[dict[str, float | None]]:
        mfu = float(result.mfu) * times_s[0] / times_s[index]
        return [{**_values(cases[index], run, power_factor, shift), "mfu": mfu} for run in runs[index].runs]

    median, uses, site = rows(0), [_use(cases[0], runs[0].runs[0])], site_of(scenario)
    ends: dict[str, tuple[Values, Values]] = {
        OWN: (_percentile(median, 5), _percentile(median, 95)),
        "time": (_mean(rows(1)), _mean(rows(2))),
        "power": (_mean(rows(0, powers_w[0] / power_w)), _mean(rows(0, powers_w[1] / power_w))),
        **{cause: (_mean(rows(0, 1.0, low)), _mean(rows(0, 1.0, high))) for cause, (low, high) in shifts(uses, site).items()},
    }
    said = (*_notes(runs[0]), *doubt_notes(uses, site))
    return ClusterAnswer(_mean(median), ends, said, _summary(cases[0], cluster, runs[0]), _trace(runs[0]))


def cluster_of(scenario: Scenario, result: Any) -> Cluster:
    """Return the cluster block with the fleet's nodes, the idle power of its accelerators and the times of a checkpoint, where none is given."""
    machines, _ = parts_of(scenario)
    cluster = scenario.cluster or Cluster()
    accelerator = loading.accelerator(machines.accelerator)
    nodes, node = nodes_of(scenario, machines.num_accelerators, "cluster")
    if cluster.nodes is not None and cluster.nodes < nodes:
        raise SpecError(f"cluster.nodes: {cluster.nodes} given; the fleet has {nodes}")
    if len(scenario.jobs) >= MAX_GROUPS:
        raise SpecError(f"jobs: {len(scenario.jobs)} entries given; the table has rows for {MAX_GROUPS - 1}; use count and every for equal jobs")
    idle_w = cluster.idle_power
    if idle_w is None:
        if accelerator.idle_power is None:
            raise SpecError(f"cluster.idle_power is missing, and the file of {accelerator.name} states none")
        idle_w = accelerator.idle_power.value * node.accelerators_per_node
    saved = resolved_checkpoint(scenario, cluster.checkpoint, result)
    return cluster.model_copy(update={"nodes": cluster.nodes or nodes, "idle_power": idle_w, "checkpoint": saved})


def _speed(scenario: Scenario, result: Any) -> Speed | None:
    """Return share of power -> share of speed from estimates at lower power limits, where a budget has no curve of its own."""
    budget = None if scenario.cluster is None else scenario.cluster.power_budget
    if budget is None or budget.curve is not None:
        return None
    machines, _ = parts_of(scenario)
    accelerator = loading.accelerator(machines.accelerator)
    lowest_w = 0.0 if accelerator.min_power_limit is None else accelerator.min_power_limit.value
    each_w = float(result.power_w) / machines.num_accelerators
    points = {1.0: 1.0}
    for share in LIMITS[1:]:
        if share * each_w >= lowest_w:
            slower = step_estimate(with_changes(scenario, {"fleet.0.power_limit": share * each_w}))
            points[float(slower.power_w) / float(result.power_w)] = float(result.step_time_s) / float(slower.step_time_s)
    shares = np.array(sorted(points))
    speeds = np.maximum.accumulate([points[share] for share in shares])

    def speed(share: float) -> float:
        return float(np.interp(share, shares, speeds)) if share >= shares[0] else 0.0

    return speed


def _use(case: _Case, run: TrainingRun, matrix: Matrix | None = None) -> Use:
    """Return how all nodes were used over the run, spares and those in repair among them."""
    machines, _ = parts_of(case.scenario)
    accelerator = loading.accelerator(machines.accelerator)
    node = resolve_node(machines, accelerator)
    busy_s = math.fsum(run.node_s[cause] for cause in BUSY) / run.nodes
    parts = matrix or case.matrix(run)
    beside = of_part(parts, "network"), of_part(parts, "storage")
    return Use(accelerator, node, run.nodes * node.accelerators_per_node, run.wall_s, busy_s, run.total_j, *beside)


def _values(case: _Case, run: TrainingRun, power_factor: float, shift: Shift | None) -> dict[str, float | None]:
    """Return the rows of one run, with its power multiplied and a figure moved; causes that do not occur are absent."""
    scenario, step_s = case.scenario, case.step_s
    _, training = parts_of(scenario)
    job = run.jobs[0]
    tokens = job.done_s / step_s * training.global_batch_size * training.sequence_length
    held_s = math.fsum(job.node_s.values())
    use = _use(case, run)
    found = {
        "step_time_s": step_s,
        "tokens_per_s": tokens / run.wall_s,
        "goodput": job.goodput if math.isfinite(job.goodput) else None,
        "trained_billion_tokens": tokens / 1e9,
        "interruptions": float(sum(one.failures for one in run.jobs)),
        **{f"time_{cause}_share": job.node_s[cause] / held_s if job.node_s[cause] > 0.0 else None for cause in CAUSE_WORDS},
        **{f"energy_{cause}_mwh": power_factor * joules / JOULES_PER_KWH / 1e3 if joules > 0.0 else None for cause, joules in run.energy_j.items()},
        **account_values(scenario, account(scenario, [use], (power_factor,), shift), max(tokens, 1.0)),
    }
    if len(run.jobs) > 1:
        found |= {**dict.fromkeys(PER_TOKEN), **_queue_values(case, run)}
    elif tokens <= 0.0:
        found |= dict.fromkeys(PER_TOKEN)
    return found


def _queue_values(case: _Case, run: TrainingRun) -> dict[str, float | None]:
    """Return the rows of a shared cluster: how long each group of jobs waited, how many finished, how full the cluster was."""
    waits_s: dict[int, list[float]] = {}
    for job, planned in zip(run.jobs, case.jobs, strict=True):
        waits_s.setdefault(planned.group, []).append(job.queue_s)
    return {
        "cluster_utilization": run.utilization,
        "finished_jobs": float(sum(job.status == "finished" for job in run.jobs)),
        "preemptions": float(sum(job.preemptions for job in run.jobs)),
        "queue_wait_h": fmean(job.queue_s for job in run.jobs) / SECONDS_PER_HOUR,
        **{f"queue_wait_{group}_h": fmean(waits) / SECONDS_PER_HOUR for group, waits in waits_s.items()},
    }


def _mean(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    return {key: None if _absent(rows, key) else fmean(row[key] or 0.0 for row in rows) for key in rows[0]}


def _percentile(rows: list[dict[str, float | None]], percent: float) -> dict[str, float | None]:
    return {key: None if _absent(rows, key) else float(np.percentile([row[key] or 0.0 for row in rows], percent)) for key in rows[0]}


def _absent(rows: list[dict[str, float | None]], key: str) -> bool:
    """Return whether no run has a row; a cause that only some runs have counts 0 in the others."""
    return all(row[key] is None for row in rows)


def _notes(runs: TrainingRuns) -> tuple[str, ...]:
    unfinished = sum(any(job.status != "finished" for job in run.jobs) for run in runs.runs)
    return (f"not finished at the horizon in {unfinished} of {len(runs.runs)} runs",) if unfinished else ()


def _summary(case: _Case, cluster: Cluster, runs: TrainingRuns) -> dict[str, Any]:
    nodes = case.jobs[0].job.nodes
    interval_s, mtbf_s = checkpoint_interval_s(cluster, nodes), job_mtbf_s(cluster, nodes)
    matrix = added(case.matrix(run) for run in runs.runs)
    return {
        "nodes": runs.runs[0].nodes,
        "spare_nodes": cluster.spare_nodes,
        "queue": cluster.queue,
        "seeds": len(runs.runs),
        "job_mtbf_s": mtbf_s if math.isfinite(mtbf_s) else None,
        "checkpoint_interval_s": interval_s if math.isfinite(interval_s) else None,
        "checkpoint_write_s": cluster.checkpoint.write_s,
        "checkpoint_blocking_s": cluster.checkpoint.blocking_s,
        "goodput": plain(runs.goodput),
        "wall_s": plain(runs.wall_s),
        "accelerator_energy_j": plain(runs.total_j),
        "node_s": {cause: plain(spread) for cause, spread in runs.by_cause("node_s").items()},
        "energy_j": {cause: plain(spread) for cause, spread in runs.by_cause("energy_j").items()},
        "mean_energy_j_by_cause_and_part": {cause: {part: joules / len(runs.runs) for part, joules in parts.items()} for cause, parts in matrix.items()},
        "jobs": _job_rows(case.jobs, runs.runs),
        "signal_total": None if runs.runs[0].signal_total is None else fmean(run.signal_total or 0.0 for run in runs.runs),
        "runs": runs.to_frame().to_dict(orient="records"),
    }


def _job_rows(jobs: Sequence[Planned], runs: Sequence[TrainingRun]) -> list[dict[str, Any]]:
    """Return one row per job: means over the seeds."""
    rows = []
    for index, planned in enumerate(jobs):
        outcomes = [run.jobs[index] for run in runs]
        ended = [one.end_s for one in outcomes if one.end_s is not None]
        working = [one.goodput for one in outcomes if math.isfinite(one.goodput)]
        rows.append(
            {
                "name": planned.job.name,
                "nodes": planned.job.nodes,
                "priority": planned.job.priority,
                "submit_s": planned.job.submit,
                "queue_s": fmean(one.queue_s for one in outcomes),
                "end_s": fmean(ended) if len(ended) == len(outcomes) else None,
                "finished_share": len(ended) / len(outcomes),
                "goodput": fmean(working) if working else None,
                "preemptions": fmean(one.preemptions for one in outcomes),
                "failures": fmean(one.failures for one in outcomes),
                "accelerator_energy_j": fmean(math.fsum(one.energy_j.values()) for one in outcomes),
            }
        )
    return rows


def _trace(runs: TrainingRuns) -> pd.DataFrame:
    """Return the power of the first run."""
    frame = runs.runs[0].power.to_frame()
    return frame.rename(columns={"power_w": "accelerator_w"})
