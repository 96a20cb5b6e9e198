"""What one run of one variant contributes to a report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from effsim.errors import InfeasibleError
from effsim.results import Provenance, weakest
from effsim.run.cluster import simulate_cluster
from effsim.run.doubt import Shift, notes, shifts
from effsim.run.machines import account, site_of
from effsim.run.metrics import Ends, Values, per_output_token, site_values
from effsim.run.serving import Keep, Progress, RunResult, simulate_at
from effsim.run.training import estimate, run_use, training_values
from effsim.sim.result import SimulationResult
from effsim.specs.scenario import Scenario


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The values of a variant's rows from one run.

    Args:
        values: Row -> value.
        ends: For each cause of doubt that needs no run of its own: the values at both ends.
        provenance: Of the whole.
        infeasible: Why there are no values.
        notes: What a reader must know beside the numbers.
        summary: The run in full.
        requests: One row per request, where there are requests and they were asked for.
        power: Power over time, likewise.
        simulation: What the simulator of serving returned, likewise.
    """

    values: Values = field(default_factory=dict)
    ends: Ends = field(default_factory=dict)
    provenance: Provenance = "assumed"
    infeasible: str | None = None
    notes: tuple[str, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    requests: pd.DataFrame | None = None
    power: pd.DataFrame | None = None
    simulation: SimulationResult | None = None


def evaluate(scenario: Scenario, end: int = 0, progress: Progress | None = None, keep: Keep | None = None) -> Outcome:
    """Return the outcome of a variant at the median (0), or at the fast (-1) or slow (1) end of the interval of time.

    Args:
        scenario: The variant.
        end: Which of the three.
        progress: Called now and then with (requests done, requests in all).
        keep: Give tables and what else it names along with the values; None: values and summary alone.

    Raises:
        SpecError: A mistake in the scenario; what physics forbids is an outcome.
    """
    try:
        if scenario.kind == "serving":
            return _serving(scenario, simulate_at(scenario, end, progress, keep), tables=keep is not None)
        return _training(scenario) if scenario.cluster is None else _cluster(scenario, progress)
    except InfeasibleError as error:
        return Outcome(infeasible=str(error))


def _serving(scenario: Scenario, result: RunResult, *, tables: bool) -> Outcome:
    def at(power_end: int, shift: Shift | None = None) -> dict[str, float | None]:
        return _serving_values(scenario, result, power_end, shift)

    summary, site = result.summary, site_of(scenario)
    said = [f"{count:,} requests dropped: {reason}" for reason, count in summary["requests"]["dropped_by_reason"].items()]
    if summary["operation"] is not None and summary["operation"]["over_budget_s"]:
        said.append(
            f"power above its budget for {summary['operation']['over_budget_s']:g} s, by {summary['operation']['over_budget_j'] / 3.6e6:.3g} kWh in all"
        )
    if scenario.engine.prefix_caching and not any(group.setup.finds_prefixes for group in result.groups):
        said.append(f"prefix_caching: nothing is found again: the cache of {scenario.model} is not one block after the other (windows, states)")
    for name, one in summary["slo"]["objectives"].items():
        if one["met"] is False:
            said.append(f"misses {name} of {one['limit_s']:g} s: {one['value_s']:.3g} s")
    return Outcome(
        values=at(0),
        ends={"power": (at(-1), at(1)), **{cause: (at(0, low), at(0, high)) for cause, (low, high) in shifts(result.uses, site).items()}},
        provenance=weakest(group.provenance for group in result.groups),
        notes=(*said, *notes(result.uses, site)),
        summary=result.to_dict(),
        requests=result.requests if tables else None,
        power=result.power if tables else None,
        simulation=result.simulation if tables else None,
    )


def _serving_values(scenario: Scenario, result: RunResult, power_end: int, shift: Shift | None) -> dict[str, float | None]:
    factors = [group.power_factor(use, power_end) for group, use in zip(result.groups, result.uses, strict=True)]
    totals = account(scenario, result.uses, factors, shift)
    summary = result.summary
    requests, tokens = summary["requests"], summary["tokens"]
    values: dict[str, float | None] = {f"{name}_p{share}_s": summary["latency"][name][f"p{share}_s"] for name in ("ttft", "tpot") for share in (50, 90, 99)}
    values |= {
        "slo_attainment": summary["slo"]["attainment"],
        "completed_requests": requests["completed"],
        "dropped_requests": requests["dropped"],
        "output_tokens_per_s": summary["throughput"]["output_tokens_per_s"],
    }
    values |= per_output_token(totals, tokens["completed_output"], tokens["completed_output"] + tokens["completed_prompt"])
    values |= site_values(totals, scenario.device)
    life_h = values["battery_life_h"]
    values["output_tokens_per_charge"] = None if life_h is None else summary["throughput"]["output_tokens_per_s"] * life_h * 3600.0
    return values


def _training(scenario: Scenario) -> Outcome:
    result, provenance, summary = estimate(scenario)
    time_s, power_w = result.interval("step_time_s", 0.9), result.interval("power_w", 0.9)
    median_s, median_w = float(result.step_time_s), float(result.power_w)

    def at(step_s: float, watts: float, shift: Shift | None = None) -> dict[str, float | None]:
        return training_values(scenario, result, step_s, watts, shift)

    uses, site = (run_use(scenario, result, median_s, median_w),), site_of(scenario)
    ends: dict[str, tuple[Values, Values]] = {
        "time": (at(float(time_s[0]), median_w), at(float(time_s[1]), median_w)),
        "power": (at(median_s, float(power_w[0])), at(median_s, float(power_w[1]))),
        **{cause: (at(median_s, median_w, low), at(median_s, median_w, high)) for cause, (low, high) in shifts(uses, site).items()},
    }
    return Outcome(values=at(median_s, median_w), ends=ends, provenance=provenance, notes=notes(uses, site), summary=summary)


def _cluster(scenario: Scenario, progress: Progress | None) -> Outcome:
    result, provenance, summary = estimate(scenario)
    answer = simulate_cluster(scenario, result, progress)
    undisturbed = {key: summary.pop(key) for key in ("duration_s", "energy", "power", "carbon", "water", "cost")}
    whole = {**summary, "cluster": answer.summary, "undisturbed": undisturbed}
    return Outcome(values=answer.values, ends=answer.ends, provenance=provenance, notes=answer.notes, summary=whole, power=answer.power)
