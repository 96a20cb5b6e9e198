"""One load of a serving scenario, played at any rate by any number of replicas, and whether its objectives hold."""

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from effsim.errors import SpecError
from effsim.results import Result
from effsim.run.machines import Group, groups_of
from effsim.run.serving import LATENCIES, MAX_KEPT, objectives, options_of
from effsim.sim.result import RequestColumns, SimulationResult
from effsim.sim.serving import simulate_serving
from effsim.specs.scenario import Scenario, with_changes
from effsim.workload.arrivals import requests_of
from effsim.workload.traces import Trace, select

QUEUE: Final = "queue_growth"
QUEUE_LIMIT: Final = 0.02
"""Mean wait of the last fifth of the requests over the time in which requests arrive. A load that is higher than what can be served by a share e
makes a wait that grows by e per second."""
LAST_SHARE: Final = 0.2
ALONE_REQUESTS: Final = 200
LOWEST_LOAD: Final = 0.01
"""The lowest rate tried: at it, requests served one at a time would take this share of the time."""


@dataclass(frozen=True, slots=True)
class Objective(Result):
    """One objective in one run: a latency in s, of ``queue_growth`` s per s; ``value`` is None where there is none, infinite of dropped requests."""

    name: str
    limit: float
    value: float | None

    @property
    def met(self) -> bool:
        """Whether it holds; what has no value breaks nothing."""
        return self.value is None or self.value <= self.limit

    @property
    def load(self) -> float:
        """Value over limit: the highest binds first."""
        return 0.0 if self.value is None else self.value / self.limit if self.limit > 0.0 else math.inf


class Trial:
    """The requests of one seed and the resolved fleet.

    The requests are drawn once; another rate divides the gaps between arrivals, so that runs differ by the rate alone.

    Args:
        scenario: A serving scenario with open arrivals.
        seed: In the place of the scenario's own.
        warm_up_share: Of the first requests, which do not count; ITL is of all of them.

    Raises:
        SpecError: A closed loop, which has no rate, or more requests than a run keeps.

    Attributes:
        own_rate_per_s: Of the scenario: requests over the time of the last arrival.
        alone_s: Mean latency of requests served one at a time, once :meth:`lowest_rate_per_s` has been asked; else 0.
    """

    def __init__(self, scenario: Scenario, seed: int, warm_up_share: float) -> None:
        load = scenario.workload
        if scenario.kind != "serving" or load is None:
            raise SpecError(f"{scenario.name}: only a serving scenario has a capacity in requests per second; this one is of kind {scenario.kind}")
        if load.arrivals is not None and load.arrivals.concurrency is not None:
            raise SpecError(f"{scenario.name}: closed_loop arrivals have no rate; expected a trace, or poisson, gamma, deterministic or diurnal arrivals")
        self.scenario = with_changes(scenario, {"seed": seed})
        self.trace: Trace = requests_of(self.scenario)
        if len(self.trace) > MAX_KEPT:
            raise SpecError(f"{scenario.name}: {len(self.trace):,} requests; a search takes at most {MAX_KEPT:,}; a limit (--limit) cuts them")
        if self.trace.arrival_s[-1] <= 0.0:
            raise SpecError(f"{scenario.name}: all requests arrive at once, which is no rate; expected arrivals over some time")
        self.own_rate_per_s = len(self.trace) / float(self.trace.arrival_s[-1])
        self.groups: tuple[Group, ...] = groups_of(self.scenario, self.trace)
        self._first = int(warm_up_share * len(self.trace))
        self.alone_s = 0.0

    def with_replicas(self, entry: int, count: int) -> None:
        """Take so many replicas of one entry of the fleet from now on."""
        group = self.groups[entry]
        changed = replace(group, machines=group.machines.model_copy(update={"replicas": count}))
        self.groups = (*self.groups[:entry], changed, *self.groups[entry + 1 :])

    def play(self, rate_per_s: float) -> tuple[Objective, ...]:
        """Return each objective of a run at a rate; the last is whether the replicas keep up."""
        trace = select(self.trace, rate_per_s / self.own_rate_per_s)
        result = simulate_serving(trace, self._setups(), options_of(self.scenario, self.groups))
        values = [self._value(result, name, percentile) for name, percentile in objectives(self.scenario)]
        found = [Objective(f"{name}_p{q}", limit_s, value) for ((name, q), limit_s), value in zip(objectives(self.scenario).items(), values, strict=True)]
        return (*found, Objective(QUEUE, QUEUE_LIMIT, _queue_growth(result.requests)))

    def lowest_rate_per_s(self) -> float:
        """Return a rate at which requests hardly ever meet: that of :data:`LOWEST_LOAD` times what is served one at a time."""
        few = select(self.trace, limit=min(ALONE_REQUESTS, len(self.trace)))
        result = simulate_serving(few, self._setups(), replace(options_of(self.scenario, self.groups), concurrency=1))
        if not result.counts.completed:
            reason = next(iter(result.counts.dropped))
            raise SpecError(f"{self.scenario.name}: no request is served even one at a time: {reason}")
        self.alone_s = result.latency["e2e_latency_s"].mean_s or 0.0
        return LOWEST_LOAD / self.alone_s if self.alone_s else self.own_rate_per_s

    def _setups(self) -> list[Any]:
        return [group.setup for group in self.groups for _ in range(group.machines.replicas)]

    def _value(self, result: SimulationResult, name: str, percentile: int) -> float | None:
        if name == "itl":
            value_s = result.inter_token.quantile_s(percentile / 100.0)
            return None if math.isnan(value_s) else value_s
        values_s = getattr(result.requests, LATENCIES[name])[self._first :]
        lost = result.requests.replica[self._first :] < 0
        return percentile_of(np.where(lost, np.inf, values_s), percentile)


def percentile_of(values: NDArray[np.float64], percentile: float) -> float | None:
    """Return a percentile by linear interpolation; NaN is left out, infinity is larger than all else; None of nothing.

    >>> percentile_of(np.array([1.0, 2.0, np.nan, 3.0]), 50), percentile_of(np.array([1.0, np.inf]), 90)
    (2.0, inf)
    """
    known = np.sort(values[~np.isnan(values)])
    if not known.size:
        return None
    place = percentile / 100.0 * (known.size - 1)
    low, high = known[math.floor(place)], known[math.ceil(place)]
    if math.isinf(high) or low == high:
        return float(high)
    return float(low + (high - low) * (place - math.floor(place)))


def _queue_growth(requests: RequestColumns) -> float | None:
    """Return the mean wait of the last arrivals that were served over the time in which requests arrive."""
    last = requests.queue_s[int((1.0 - LAST_SHARE) * requests.queue_s.size) :]
    served = last[~np.isnan(last)]
    return float(served.mean() / requests.arrival_s[-1]) if served.size and requests.arrival_s[-1] > 0.0 else None
