"""A training scenario on a cluster that fails: its run in the simulator over several seeds, and the rows of the table from them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.errors import SpecError
from effsim.results import plain
from effsim.run.doubt import Shift, shifts
from effsim.run.doubt import notes as doubt_notes
from effsim.run.machines import account, resolve_node, site_of
from effsim.run.metrics import CAUSE_WORDS, OWN, Ends, Values
from effsim.run.training import account_values, parts_of, step_estimate, steps_of
from effsim.sim.training.cluster import Speed
from effsim.sim.training.result import TrainingRun, TrainingRuns
from effsim.sim.training.simulation import checkpoint_interval_s, job_mtbf_s, simulate_training_seeds
from effsim.site.account import Use
from effsim.specs import loading
from effsim.specs.cluster import Cluster, Job, NodePower
from effsim.specs.scenario import Scenario, with_changes
from effsim.units import JOULES_PER_KWH

Progress = Callable[[int, int], None]
BUSY: Final = ("useful", "recomputed", "checkpoint", "straggling", "throttled")
"""Causes during which the hosts feed their accelerators."""
LIMITS: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Shares of the accelerators' power at which a step is estimated for a power budget without a curve."""
SEEDS_AT_ENDS: Final = 0.3
"""Share of the seeds that are run again at each end of the interval of step time, whose effect is far larger than chance."""


@dataclass(frozen=True, slots=True, eq=False)
class ClusterAnswer:
    """The rows of one variant, at the median and at the ends of what is not known, and its runs in short."""

    values: Values
    ends: Ends
    notes: tuple[str, ...]
    summary: Mapping[str, Any]
    power: pd.DataFrame


def simulate_cluster(scenario: Scenario, result: Any, progress: Progress | None = None) -> ClusterAnswer:
    """Return what the cluster makes of a scenario whose step has been estimated.

    The rows are means over the seeds. Their intervals join causes: chance (5th and 95th percentile over the seeds),
    the time of a step, the power of the accelerators, and each figure that states a range.

    Raises:
        SpecError: The accelerators do not fill whole nodes, or a name or number of the cluster block is wrong.
        InfeasibleError: The run never gets on, or the power budget is too small.
    """
    cluster, speed = cluster_of(scenario), _speed(scenario, result)
    seeds = range(scenario.seed, scenario.seed + cluster.seeds)
    times_s = (float(result.step_time_s), *(float(end) for end in result.interval("step_time_s", 0.9)))
    powers_w = [float(end) for end in result.interval("power_w", 0.9)]
    power_w = float(result.power_w)
    runs: list[TrainingRuns] = []
    few = seeds[: math.ceil(len(seeds) * SEEDS_AT_ENDS)]
    for step_s, these in zip(times_s, (seeds, few, few), strict=True):
        job = job_of(scenario, cluster, step_s, power_w)
        done = sum(len(one.runs) for one in runs)
        report = None if progress is None else lambda one, _all, done=done: progress(done + one, len(seeds) + 2 * len(few))
        runs.append(simulate_training_seeds(cluster, [job], these, speed, report))

    def rows(index: int, power_factor: float = 1.0, shift: Shift | None = None) -> list[dict[str, float | None]]:
        mfu = float(result.mfu) * times_s[0] / times_s[index]
        return [{**_values(scenario, run, times_s[index], (power_factor, shift)), "mfu": mfu} for run in runs[index].runs]

    median, uses, site = rows(0), [_use(scenario, runs[0].runs[0])], site_of(scenario)
    ends: dict[str, tuple[Values, Values]] = {
        OWN: (_percentile(median, 5), _percentile(median, 95)),
        "time": (_mean(rows(1)), _mean(rows(2))),
        "power": (_mean(rows(0, powers_w[0] / power_w)), _mean(rows(0, powers_w[1] / power_w))),
        **{cause: (_mean(rows(0, 1.0, low)), _mean(rows(0, 1.0, high))) for cause, (low, high) in shifts(uses, site).items()},
    }
    said = (*_notes(runs[0]), *doubt_notes(uses, site))
    return ClusterAnswer(_mean(median), ends, said, _summary(scenario, cluster, runs[0]), _trace(runs[0]))


def cluster_of(scenario: Scenario) -> Cluster:
    """Return the cluster block with the fleet's nodes, and with the idle power of its accelerators where none is given."""
    machines, _ = parts_of(scenario)
    cluster = scenario.cluster or Cluster()
    accelerator = loading.accelerator(machines.accelerator)
    per_node = resolve_node(machines, accelerator).accelerators_per_node
    if machines.num_accelerators % per_node:
        raise SpecError(f"cluster: {machines.num_accelerators} accelerators do not fill whole nodes of {per_node}")
    nodes = machines.num_accelerators // per_node
    if cluster.nodes is not None and cluster.nodes < nodes:
        raise SpecError(f"cluster.nodes: {cluster.nodes} given; the fleet has {nodes}")
    idle_w = cluster.idle_power
    if idle_w is None:
        if accelerator.idle_power is None:
            raise SpecError(f"cluster.idle_power is missing, and the file of {accelerator.name} states none")
        idle_w = accelerator.idle_power.value * per_node
    return cluster.model_copy(update={"nodes": cluster.nodes or nodes, "idle_power": idle_w})


def job_of(scenario: Scenario, cluster: Cluster, step_s: float, power_w: float) -> Job:
    """Return the run as a job of whole nodes; its powers are those of the accelerators.

    While it saves, restarts or waits, an accelerator draws what its file states for an engine that is loaded and idle: the
    high end of its idle power. What waits in a collective draws more than that; how much is not known.
    """
    machines, training = parts_of(scenario)
    accelerator = loading.accelerator(machines.accelerator)
    per_node = resolve_node(machines, accelerator).accelerators_per_node
    nodes = machines.num_accelerators // per_node
    useful_w = power_w / nodes
    figure = accelerator.idle_power
    loaded_w = (cluster.idle_power or 0.0) if figure is None else max(figure.high or figure.value, figure.value) * per_node
    waiting_w = min(loaded_w, useful_w)
    ranks = machines.parallelism
    replica = ranks.tensor * ranks.pipeline * ranks.context
    group = replica // per_node if replica % per_node == 0 and nodes % (replica // per_node) == 0 else 1
    return Job(
        name=scenario.name,
        nodes=nodes,
        steps=steps_of(training),
        step_time=step_s,
        power=NodePower(useful=useful_w, checkpoint=waiting_w, restart=waiting_w, idle=waiting_w),
        min_nodes=cluster.elastic_min_nodes,
        node_group=group,
    )


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


def _use(scenario: Scenario, run: TrainingRun) -> Use:
    """Return how all nodes were used over the run, spares and those in repair among them."""
    machines, _ = parts_of(scenario)
    accelerator = loading.accelerator(machines.accelerator)
    node = resolve_node(machines, accelerator)
    busy_s = math.fsum(run.node_s[cause] for cause in BUSY) / run.nodes
    return Use(accelerator, node, run.nodes * node.accelerators_per_node, run.wall_s, busy_s, run.total_j)


def _values(scenario: Scenario, run: TrainingRun, step_s: float, moved: tuple[float, Shift | None]) -> dict[str, float | None]:
    """Return the rows of one run, with its power multiplied and a figure moved; causes that do not occur are absent."""
    power_factor, shift = moved
    _, training = parts_of(scenario)
    (job,) = run.jobs
    tokens = job.done_s / step_s * training.global_batch_size * training.sequence_length
    held_s = math.fsum(job.node_s.values())
    return {
        "step_time_s": step_s,
        "tokens_per_s": tokens / run.wall_s,
        "goodput": run.goodput,
        "trained_billion_tokens": tokens / 1e9,
        "interruptions": float(job.failures),
        **{f"time_{cause}_share": job.node_s[cause] / held_s if job.node_s[cause] > 0.0 else None for cause in CAUSE_WORDS},
        **{f"energy_{cause}_mwh": power_factor * joules / JOULES_PER_KWH / 1e3 if joules > 0.0 else None for cause, joules in run.energy_j.items()},
        **account_values(scenario, account(scenario, [_use(scenario, run)], (power_factor,), shift), tokens),
    }


def _mean(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    return {key: None if _absent(rows, key) else fmean(row[key] or 0.0 for row in rows) for key in rows[0]}


def _percentile(rows: list[dict[str, float | None]], percent: float) -> dict[str, float | None]:
    return {key: None if _absent(rows, key) else float(np.percentile([row[key] or 0.0 for row in rows], percent)) for key in rows[0]}


def _absent(rows: list[dict[str, float | None]], key: str) -> bool:
    """Return whether no run has a row; a cause that only some runs have counts 0 in the others."""
    return all(row[key] is None for row in rows)


def _notes(runs: TrainingRuns) -> tuple[str, ...]:
    unfinished = sum(run.jobs[0].status != "finished" for run in runs.runs)
    return (f"not finished at the horizon in {unfinished} of {len(runs.runs)} runs",) if unfinished else ()


def _summary(scenario: Scenario, cluster: Cluster, runs: TrainingRuns) -> dict[str, Any]:
    nodes = job_of(scenario, cluster, 1.0, 1.0).nodes
    interval_s, mtbf_s = checkpoint_interval_s(cluster, nodes), job_mtbf_s(cluster, nodes)
    return {
        "nodes": runs.runs[0].nodes,
        "spare_nodes": cluster.spare_nodes,
        "seeds": len(runs.runs),
        "job_mtbf_s": mtbf_s if math.isfinite(mtbf_s) else None,
        "checkpoint_interval_s": interval_s if math.isfinite(interval_s) else None,
        "checkpoint_write_s": cluster.checkpoint.write_s,
        "goodput": plain(runs.goodput),
        "wall_s": plain(runs.wall_s),
        "accelerator_energy_j": plain(runs.total_j),
        "node_s": {cause: plain(spread) for cause, spread in runs.by_cause("node_s").items()},
        "energy_j": {cause: plain(spread) for cause, spread in runs.by_cause("energy_j").items()},
        "signal_total": None if runs.runs[0].signal_total is None else fmean(run.signal_total or 0.0 for run in runs.runs),
        "runs": runs.to_frame().to_dict(orient="records"),
    }


def _trace(runs: TrainingRuns) -> pd.DataFrame:
    """Return the power of the first run."""
    frame = runs.runs[0].power.to_frame()
    return frame.rename(columns={"power_w": "accelerator_w"})
