"""What a fleet can take: the highest request rate that holds its objectives, and the fewest replicas for a rate."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from scipy import stats

from effsim.errors import InfeasibleError, SpecError
from effsim.results import Result
from effsim.run.bracket import fewest, highest
from effsim.run.serving import limited
from effsim.run.trial import QUEUE, Objective, Trial
from effsim.specs.scenario import MAX_REPLICAS, Scenario, load_scenario

Progress = Callable[[str, float], None]
MOST_TIMES_OWN: Final = 2.0**20
USUAL_RUNS: Final = 14
"""Of a search for a rate; the bar of progress counts on it."""
REPLICA_RUNS: Final = 8
LATENCIES_LONG: Final = 20.0
"""A run whose requests arrive within fewer latencies of a request alone is hardly ever in a steady state."""


class Search(NamedTuple):
    """How a capacity is searched for.

    Args:
        seeds: Independent draws of the requests; the search is made for each. A recorded trace is one draw.
        tolerance_ratio: Width of the bracket of the rate, relative.
        warm_up_share: Of the first requests, which do not count.
        limit: Only the first requests.
        entry: Of the fleet, whose replicas are counted.
    """

    seeds: int = 3
    tolerance_ratio: float = 0.02
    warm_up_share: float = 0.1
    limit: int | None = None
    entry: int = 0


@dataclass(frozen=True, slots=True)
class RateCapacity(Result):
    """The highest rate at which all objectives hold.

    Args:
        scenario: Its name.
        rate_per_s: Requests per second, mean over the seeds.
        low_per_s: Of the 90 % interval of the mean over seeds (Student's t); None with one draw.
        high_per_s: Likewise.
        rates_per_s: Of each seed; each is the lower end of its bracket.
        tolerance_ratio: Width of that bracket, relative.
        binding: Objectives that fail just above, over all seeds, the one that is missed by most first.
        objectives: At the rate found for the first seed.
        above: At the rate just above, likewise.
        replicas: Of the fleet.
        requests: Of a run.
        notes: What a reader must know.
    """

    scenario: str
    rate_per_s: float
    low_per_s: float | None
    high_per_s: float | None
    rates_per_s: tuple[float, ...]
    tolerance_ratio: float
    binding: tuple[str, ...]
    objectives: tuple[Objective, ...]
    above: tuple[Objective, ...]
    replicas: int
    requests: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReplicaCapacity(Result):
    """The fewest replicas of one entry of the fleet that hold all objectives at a rate, with every seed.

    ``replicas_of_seeds``: for each seed alone. ``binding``: objectives that fail with one replica less, the one that is missed by most first;
    empty where one replica is enough. ``objectives``: with ``replicas``, for the first seed.
    """

    scenario: str
    rate_per_s: float
    replicas: int
    replicas_of_seeds: tuple[int, ...]
    entry: int
    accelerators: int
    binding: tuple[str, ...]
    objectives: tuple[Objective, ...]
    requests: int
    notes: tuple[str, ...]


Given = str | Path | dict[str, Any] | Scenario


def highest_rate(scenario: Given, search: Search | None = None, progress: Progress | None = None) -> RateCapacity:
    """Return the highest request rate that holds the scenario's objectives, and at which its replicas keep up.

    Raises:
        InfeasibleError: An objective fails even where requests hardly ever meet; names it, and what would lift it.
        SpecError: A closed loop, a malformed setting, or requests that are too few to find a limit.
    """
    search = _checked(search)
    whole = limited(load_scenario(scenario), search.limit)
    rates, failing, first = [], [], None
    trials = _trials(whole, search)
    for number, trial in enumerate(trials):
        runs: dict[float, tuple[Objective, ...]] = {}

        def holds(rate_per_s: float, trial: Trial = trial, runs: dict[float, tuple[Objective, ...]] = runs, number: int = number) -> bool:
            if progress is not None:
                progress(f"draw {number + 1}: {rate_per_s:.4g} requests/s", (number + min(len(runs) / USUAL_RUNS, 0.95)) / len(trials))
            runs[rate_per_s] = trial.play(rate_per_s)
            return all(one.met for one in runs[rate_per_s])

        lowest = trial.lowest_rate_per_s()
        own = max(trial.own_rate_per_s, lowest)
        found = highest(holds, own, lowest, MOST_TIMES_OWN * own, search.tolerance_ratio)
        if found is None:
            raise _infeasible(whole, min(runs), runs[min(runs)])
        if math.isinf(found[1]):
            raise SpecError(f"{whole.name}: its {len(trial.trace):,} requests are too few to find a limit: all objectives hold even where they come at once")
        rates.append(found[0])
        failing.append(runs[found[1]])
        first = first or (runs[found[0]], runs[found[1]])
    low, high = _interval(rates)
    at, above = first or ((), ())
    replicas = sum(machines.replicas for machines in whole.fleet)
    return RateCapacity(
        whole.name, float(np.mean(rates)), low, high, tuple(rates), search.tolerance_ratio, _binding(failing), at, above, replicas, len(trials[0].trace),
        (*_notes(whole, trials), *_shortness(trials[0], rates[0])),
    )  # fmt: skip


def fewest_replicas(scenario: Given, rate_per_s: float, search: Search | None = None, progress: Progress | None = None) -> ReplicaCapacity:
    """Return the fewest replicas of one entry of the fleet that hold the objectives at a rate; the other entries stay as they are.

    Raises:
        InfeasibleError: An objective fails whatever their number; names it, and what would lift it.
        SpecError: A rate that is not positive, an entry that the fleet has not, a closed loop, a malformed setting.
    """
    search = _checked(search)
    whole = limited(load_scenario(scenario), search.limit)
    if not (math.isfinite(rate_per_s) and rate_per_s > 0.0):
        raise SpecError(f"rate: expected requests per second above 0, got {rate_per_s!r}")
    if not 0 <= search.entry < len(whole.fleet):
        raise SpecError(f"entry: expected 0 to {len(whole.fleet) - 1}, of the fleet's {len(whole.fleet)}, got {search.entry}")
    most = MAX_REPLICAS - sum(machines.replicas for place, machines in enumerate(whole.fleet) if place != search.entry)
    counts, failing, runs_of = [], [], []
    trials = _trials(whole, search)
    for number, trial in enumerate(trials):
        runs: dict[int, tuple[Objective, ...]] = {}

        def holds(count: int, trial: Trial = trial, runs: dict[int, tuple[Objective, ...]] = runs, number: int = number) -> bool:
            if progress is not None:
                progress(f"draw {number + 1}: {count} replicas", (number + min(len(runs) / REPLICA_RUNS, 0.95)) / len(trials))
            trial.with_replicas(search.entry, count)
            runs[count] = trial.play(rate_per_s)
            return all(one.met for one in runs[count])

        found = fewest(holds, min(most, len(trial.trace)))  # more replicas than requests change nothing
        if found is None:
            raise _infeasible(whole, rate_per_s, runs[max(runs)], f"with {max(runs):,} replicas")
        counts.append(found)
        runs_of.append(runs)
        failing.append(runs.get(found - 1, ()))
    needed = max(counts)
    if needed != counts[0]:
        trials[0].with_replicas(search.entry, needed)
    at = runs_of[0][needed] if needed in runs_of[0] else trials[0].play(rate_per_s)
    accelerators = needed * whole.fleet[search.entry].parallelism.accelerators
    binding = _binding([run for run, count in zip(failing, counts, strict=True) if count == needed])
    return ReplicaCapacity(whole.name, rate_per_s, needed, tuple(counts), search.entry, accelerators, binding, at, len(trials[0].trace), _notes(whole, trials))


def _checked(search: Search | None) -> Search:
    search = search or Search()
    if search.seeds < 1:
        raise SpecError(f"seeds: expected at least 1, got {search.seeds}")
    if not 1e-4 <= search.tolerance_ratio <= 0.5:  # noqa: PLR2004
        raise SpecError(f"tolerance: expected 0.0001 to 0.5, got {search.tolerance_ratio:g}")
    if not 0.0 <= search.warm_up_share <= 0.9:  # noqa: PLR2004
        raise SpecError(f"warm-up: expected a share of 0 to 0.9, got {search.warm_up_share:g}")
    return search


def _is_recorded(scenario: Scenario) -> bool:
    return scenario.workload is not None and scenario.workload.trace is not None and scenario.workload.volume_scale == 1.0


def _trials(scenario: Scenario, search: Search) -> list[Trial]:
    seeds = 1 if _is_recorded(scenario) else search.seeds
    return [Trial(scenario, scenario.seed + number, search.warm_up_share) for number in range(seeds)]


def _interval(rates_per_s: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the 90 % interval of the mean of independent draws; None of a single one.

    >>> _interval([10.0])
    (None, None)
    >>> low, high = _interval([9.0, 10.0, 11.0])
    >>> round(low, 2), round(high, 2)
    (8.31, 11.69)
    """
    if len(rates_per_s) == 1:
        return None, None
    mean, count = float(np.mean(rates_per_s)), len(rates_per_s)
    half = float(stats.t.ppf(0.95, count - 1)) * float(np.std(rates_per_s, ddof=1)) / math.sqrt(count)
    return mean - half, mean + half


def _binding(failing: Sequence[Sequence[Objective]]) -> tuple[str, ...]:
    worst: dict[str, float] = {}
    for run in failing:
        for one in run:
            if not one.met:
                worst[one.name] = max(one.load, worst.get(one.name, 0.0))
    return tuple(sorted(worst, key=lambda name: -worst[name]))


def _notes(scenario: Scenario, trials: Sequence[Trial]) -> tuple[str, ...]:
    said = [f"{len(trials[0].trace):,} requests per run, {trials[0].trace.origin}; another rate divides the gaps between arrivals"]
    if _is_recorded(scenario):
        said.append("a recorded trace is one draw: no interval over seeds")
    if not any(value is not None for value in scenario.slo.model_dump().values()):
        said.append("the scenario states no objective: this is the highest rate that its replicas keep up with")
    return tuple(said)


def _shortness(trial: Trial, rate_per_s: float) -> tuple[str, ...]:
    span_s = len(trial.trace) / rate_per_s
    if span_s >= LATENCIES_LONG * trial.alone_s:
        return ()
    return (f"at this rate the requests arrive within {span_s:.3g} s, and one alone takes {trial.alone_s:.3g} s: a longer load would give a steadier answer",)


def _infeasible(scenario: Scenario, rate_per_s: float, run: Sequence[Objective], where: str = "where requests hardly ever meet") -> InfeasibleError:
    """Return what to say of objectives that cannot hold."""
    failed = sorted((one for one in run if not one.met), key=lambda one: -one.load)
    worst = failed[0]
    value = "not reached, as requests are dropped" if worst.value is None or math.isinf(worst.value) else f"{worst.value:.3g}"
    message = f"{scenario.name}: {', '.join(one.name for one in failed)} cannot hold: at {rate_per_s:.3g} requests/s, {where}, "
    message += f"{worst.name} is {value}, above its limit of {worst.limit:g}."
    if worst.value is not None and math.isinf(worst.value):
        return InfeasibleError(message, worst.name, ("more KV cache (gpu_memory_utilization, parallelism.tensor, kv_precision: fp8)", "looser admission"))
    if worst.name == QUEUE:
        return InfeasibleError(message, worst.name, ("a lower rate", "more replicas of the other entries of the fleet"))
    loosened = f"{worst.name} of {worst.value:.3g} s or more" if worst.value is not None else f"a looser {worst.name}"
    shorter = "shorter prompts" if worst.name.startswith("ttft") else "fp8 or fewer bits of weights"
    return InfeasibleError(message, worst.name, (loosened, "more accelerators per replica (parallelism.tensor)", "a faster accelerator", shorter))
