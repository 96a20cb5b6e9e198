"""One simulation of a serving scenario: its requests, its power over time, and a summary whose parts add up."""

import math
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from effsim._version import __version__
from effsim.errors import SpecError
from effsim.results import Result, plain, weakest
from effsim.run.machines import Account, Group, account, groups_of, site_of, uses_of
from effsim.run.request_log import RequestFile
from effsim.run.vllm_names import vllm_names
from effsim.sim.log import Distribution, Sink
from effsim.sim.result import SimulationResult
from effsim.sim.serving import ServingOptions, simulate_serving
from effsim.site.account import Use
from effsim.site.impact import energy_per_day_kwh, usd_per_million
from effsim.specs.scenario import Scenario, load_scenario, with_changes
from effsim.units import SECONDS_PER_DAY
from effsim.workload.arrivals import requests_of
from effsim.workload.traces import Trace

Progress = Callable[[int, int], None]
PERCENTILES: Final = (50, 90, 95, 99)
LATENCIES: Final = {"ttft": "ttft_s", "tpot": "tpot_s", "e2e": "e2e_latency_s"}
"""Name in objectives and summaries -> column of the requests."""
MAX_KEPT: Final = 1_000_000
"""Requests of which every one is kept; of more there are distributions, and a file where one is asked for."""


class Keep(NamedTuple):
    """What a run keeps beside its summary and tables.

    Args:
        most_legs: So many legs of the replicas, for a trace; 0: none.
        requests_file: Where requests go that are too many to be kept; None: nowhere.
    """

    most_legs: int = 0
    requests_file: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RunResult(Result):
    """One run of a serving scenario.

    Args:
        summary: Counts, latencies, throughput, energy by part and scope, power, carbon, water, cost, utilisation.
        requests: One row per request; none where they are more than :data:`MAX_KEPT`.
        power: Means over time bins; power times ``duration_s`` sums to the joules of the summary.
        uses: How each group of machines was used.
        groups: The resolved fleet.
        simulation: What the simulator returned.
    """

    summary: Mapping[str, Any]
    requests: pd.DataFrame
    power: pd.DataFrame
    uses: tuple[Use, ...]
    groups: tuple[Group, ...]
    simulation: SimulationResult

    def to_dict(self) -> dict[str, Any]:
        """Return the summary; the tables are in ``requests`` and ``power``."""
        return {key: plain(value) for key, value in self.summary.items()}


def simulate(scenario: str | Path | dict[str, Any] | Scenario, *, limit: int | None = None, progress: Progress | None = None) -> RunResult:
    """Return one run of a serving scenario's base, at the medians of the cost model.

    Args:
        scenario: Name of a shipped scenario, path, dict, or Scenario.
        limit: Only the first requests.
        progress: Called now and then with (requests done, requests in all).

    Raises:
        InfeasibleError: The model does not fit the machines.
        SpecError: The scenario is malformed, or is not one of serving.
    """
    return simulate_at(limited(load_scenario(scenario), limit), 0, progress)


def limited(scenario: Scenario, limit: int | None) -> Scenario:
    """Return the scenario with at most ``limit`` requests; its what-ifs are kept.

    Raises:
        SpecError: Generated arrivals and a limit that is not positive.
    """
    if limit is None or scenario.workload is None:
        return scenario
    field = "limit" if scenario.workload.trace is not None else "requests"
    given = getattr(scenario.workload, field)
    changed = with_changes(scenario, {f"workload.{field}": limit if given is None else min(limit, given)})
    return changed.model_copy(update={"what_if": scenario.what_if})


def simulate_at(scenario: Scenario, end: int, progress: Progress | None = None, keep: Keep | None = None) -> RunResult:
    """Return one run at the median (0) or at the fast (-1) or slow (1) end of the interval of time."""
    if scenario.kind != "serving":
        raise SpecError(f"{scenario.name}: only serving scenarios are simulated request by request; `effsim run` answers those of kind {scenario.kind}")
    trace = requests_of(scenario)
    groups = groups_of(scenario, trace, end)
    site = site_of(scenario)
    setups = [group.setup for group in groups for _ in range(group.machines.replicas)]
    keep = keep or Keep()
    kept = len(trace) <= MAX_KEPT
    with nullcontext() if kept or keep.requests_file is None else RequestFile(keep.requests_file) as sink:
        options = options_of(scenario, groups, keep_requests=kept, sink=sink, most_legs=keep.most_legs)
        result = simulate_serving(trace, setups, options, progress)
    uses = uses_of(groups, result.replicas, result.makespan_s)
    totals = account(scenario, uses)
    return RunResult(
        summary=_summary(scenario, trace, groups, result, totals),
        requests=result.requests.to_frame(),
        power=_power(result, totals, has_site=site is not None),
        uses=uses,
        groups=groups,
        simulation=result,
    )


def options_of(scenario: Scenario, groups: Sequence[Group], *, keep_requests: bool = True, sink: Sink | None = None, most_legs: int = 0) -> ServingOptions:
    """Return the settings of a run that belong to no replica."""
    site = site_of(scenario)
    arrivals = None if scenario.workload is None else scenario.workload.arrivals
    return ServingOptions(
        router=scenario.router,
        concurrency=None if arrivals is None else arrivals.concurrency,
        pue=1.0 if site is None else site.pue.value,
        limits=limits_of(scenario),
        operation=scenario.operation,
        units=tuple(group.unit for group in groups for _ in range(group.machines.replicas)),
        seed=scenario.seed,
        keep_requests=keep_requests,
        sink=sink,
        most_legs=most_legs,
    )


def _power(result: SimulationResult, totals: Account, *, has_site: bool) -> pd.DataFrame:
    """Return power over time; what fans draw, with their part of the supply's loss, is spread like the accelerators' power."""
    frame = result.power.to_frame()
    accelerator_j = totals.energy.accelerator_j
    fans_j = totals.energy.server_j - result.server_j
    frame["server_w"] = frame["server_w"] + (frame["accelerator_w"] * (fans_j / accelerator_j) if accelerator_j > 0.0 else 0.0)
    if result.operation is not None:
        frame = frame.assign(**result.operation.courses(result.power.time_s, result.power.duration_s))
    site_j = totals.energy.site_j
    frame["site_w"] = frame["server_w"] * (site_j / totals.energy.server_j) if has_site and site_j is not None else np.nan
    return frame


def objectives(scenario: Scenario) -> dict[tuple[str, int], float]:
    """Return the latency objectives that are stated: (latency, percentile) -> limit [s]."""
    stated = scenario.slo.model_dump(exclude_none=True)
    return {(name.split("_p")[0], int(name.split("_p")[1])): limit_s for name, limit_s in stated.items()}


def limits_of(scenario: Scenario) -> dict[str, float]:
    """Return, per latency of a request, the tightest limit that the objectives state [s]; ITL is no property of a request."""
    limits: dict[str, float] = {}
    for (name, _), limit_s in objectives(scenario).items():
        if name in LATENCIES:
            limits[LATENCIES[name]] = min(limit_s, limits.get(LATENCIES[name], math.inf))
    return limits


def attainment(scenario: Scenario, result: SimulationResult) -> float | None:
    """Return the share of all requests whose latencies keep every stated limit; a dropped request keeps none.

    A request of one output token has no TPOT and keeps its limit. ``None`` where no limit is stated.
    """
    return result.counts.within_limits / result.counts.arrived if limits_of(scenario) else None


def _quantiles(values: Any, known: Distribution) -> dict[str, float | None]:
    """Return mean and percentiles [s]: exact where the requests were kept, else of the histogram."""
    present = values[~np.isnan(values)]
    if present.size:
        found = np.percentile(present, PERCENTILES).tolist()
    else:
        found = [known.histogram.quantile_s(share / 100.0) for share in PERCENTILES]
    named = {f"p{share}_s": float(value) if np.isfinite(value) else None for share, value in zip(PERCENTILES, found, strict=True)}
    return {"mean_s": known.mean_s, **named}


def latencies(result: SimulationResult) -> dict[str, dict[str, float | None]]:
    """Return mean and percentiles [s] of each latency over completed requests; ITL over all pairs of tokens."""
    columns = {**LATENCIES, "queue": "queue_s"}
    found = {name: _quantiles(getattr(result.requests, column), result.latency[column]) for name, column in columns.items()}
    itl = {f"p{share}_s": result.inter_token.quantile_s(share / 100.0) for share in PERCENTILES}
    itl = {"mean_s": result.inter_token.mean_s(), **itl}
    return {**found, "itl": {key: value if np.isfinite(value) else None for key, value in itl.items()}}


def _slo(scenario: Scenario, found: Mapping[str, Mapping[str, float | None]], share: float | None) -> dict[str, Any]:
    stated = {}
    for (name, percentile), limit_s in objectives(scenario).items():
        value_s = found[name][f"p{percentile}_s"]
        stated[f"{name}_p{percentile}"] = {"limit_s": limit_s, "value_s": value_s, "met": None if value_s is None else value_s <= limit_s}
    return {"attainment": share, "objectives": stated}


def _summary(scenario: Scenario, trace: Trace, groups: Sequence[Group], result: SimulationResult, totals: Account) -> dict[str, Any]:
    counts, span_s = result.counts, result.makespan_s
    found = latencies(result)
    return {
        "name": scenario.name,
        "kind": scenario.kind,
        "model": scenario.model,
        "site": scenario.site,
        "seed": scenario.seed,
        "duration_s": span_s,
        "requests": {
            "arrived": counts.arrived,
            "completed": counts.completed,
            "dropped": sum(counts.dropped.values()),
            "dropped_by_reason": dict(counts.dropped),
            "preemptions": counts.preemptions,
        },
        "tokens": {
            "trace_prompt": int(trace.prompt_tokens.sum()),
            "trace_output": int(trace.output_tokens.sum()),
            "completed_prompt": counts.prompt_tokens,
            "completed_output": counts.output_tokens,
            "recomputed": counts.recomputed_tokens,
        },
        "throughput": {
            "requests_per_s": counts.completed / span_s,
            "prompt_tokens_per_s": counts.prompt_tokens / span_s,
            "output_tokens_per_s": counts.output_tokens / span_s,
            "total_tokens_per_s": (counts.prompt_tokens + counts.output_tokens) / span_s,
            "goodput_requests_per_s": counts.within_limits / span_s if limits_of(scenario) else None,
        },
        "latency": found,
        "vllm_bench": vllm_names(counts, span_s, found, has_limits=bool(limits_of(scenario))),
        "slo": _slo(scenario, found, attainment(scenario, result)),
        "energy": {**{f"accelerator_{part}": getattr(result.energy, part) for part in type(result.energy).__slots__}, **totals.energy.to_dict()},
        "energy_by_state": {f"accelerator_{state}": value for state, value in result.energy_by_state.items()},
        **money_and_matter(totals, counts.output_tokens, counts.prompt_tokens),
        "utilization": {
            "iterations": counts.iterations,
            "busy_share": [replica.busy_s / span_s for replica in result.replicas],
            "mean_running": float(np.average(result.power.running, weights=result.power.duration_s)),
            "mean_kv_usage": float(np.average(result.power.kv_usage, weights=result.power.duration_s)),
        },
        "operation": None if result.operation is None else result.operation.to_dict(),
        "assumptions": {
            "trace": trace.name,
            "trace_origin": trace.origin,
            "trace_notes": list(trace.notes),
            "engine": sorted({f"{group.engine.name} {group.engine.version}" for group in groups}),
            "provenance": weakest(group.provenance for group in groups),
            "lifetime_s": scenario.cost.lifetime,
            "utilization": scenario.cost.utilization,
            "partly_used_servers": "charged by the share of their accelerators in use",
            "effsim": __version__,
            "python": platform.python_version(),
        },
    }


def money_and_matter(totals: Account, output_tokens: int, prompt_tokens: int) -> dict[str, Any]:
    """Return power, impact and cost of a run, for summaries; what is not known is ``None``."""
    span_s, energy, effect, machines = totals.duration_s, totals.energy, totals.impact, totals.machines
    site_w = None if energy.site_j is None else energy.site_j / span_s
    bill = None if effect is None else effect.electricity_usd
    owned = None if machines.purchase_usd is None or bill is None else machines.purchase_usd + bill
    return {
        "power": {
            "accelerator_w": energy.accelerator_j / span_s,
            "server_w": energy.server_j / span_s,
            "site_w": site_w,
            "site_kwh_per_day": None if site_w is None else energy_per_day_kwh(site_w),
        },
        "carbon": {
            "operational_kg": None if effect is None else effect.operational_carbon_kg,
            "operational_kg_per_day": None if effect is None else effect.operational_carbon_kg * SECONDS_PER_DAY / span_s,
            "embodied_kg": machines.embodied_carbon_kg,
        },
        "water": {
            "on_site_m3": None if effect is None else effect.water_on_site_m3,
            "of_grid_m3": None if effect is None else effect.water_of_grid_m3,
        },
        "cost": {
            "hardware_usd": machines.purchase_usd,
            "electricity_usd": bill,
            "owned_usd": owned,
            "rented_usd": machines.rental_usd,
            "owned_usd_per_million_output_tokens": None if owned is None else usd_per_million(owned, output_tokens),
            "owned_usd_per_million_tokens": None if owned is None else usd_per_million(owned, output_tokens + prompt_tokens),
            "rented_usd_per_million_output_tokens": None if machines.rental_usd is None else usd_per_million(machines.rental_usd, output_tokens),
        },
    }
