"""What the control of a cluster did during a run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OperationReport:
    """Counts and courses of a run to which more happened than arrivals.

    Args:
        failures: Of replicas that were on or being started.
        retries: Requests placed anew after a failure.
        starts: Replicas started: by the autoscaler, after a failure, after maintenance.
        stops: Replicas switched off by the autoscaler.
        maintained: Replicas taken out for maintenance.
        transfers: KV caches sent from a prefill to a decode replica.
        transfer_bytes: Their size.
        transfer_j: Their energy, which is part of the link energy of the senders and of the requests.
        dropped_j: Energy of the accelerators spent on requests that were dropped.
        over_budget_s: Time of the intervals whose mean power was above the budget.
        over_budget_j: Energy above the budget in them.
        replicas: (time [s], replicas on, replicas being started), one entry per change.
        levels: (time [s], level) of the rung of power: W per accelerator, or share of the full clock; one entry per change.
    """

    failures: int
    retries: int
    starts: int
    stops: int
    maintained: int
    transfers: int
    transfer_bytes: float
    transfer_j: float
    dropped_j: float
    over_budget_s: float
    over_budget_j: float
    replicas: tuple[tuple[float, int, int], ...]
    levels: tuple[tuple[float, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the counts; the courses are in :meth:`courses`."""
        return {name: value for name, value in asdict(self).items() if name not in {"replicas", "levels"}}

    def courses(self, time_s: FloatArray, duration_s: FloatArray) -> dict[str, FloatArray]:
        """Return, as means over bins, the replicas that are on and being started, and the level of power where there is a budget."""
        times_s, on, starting = zip(*self.replicas, strict=True)
        found = {"replicas_on": mean_in_bins(times_s, on, time_s, duration_s), "replicas_starting": mean_in_bins(times_s, starting, time_s, duration_s)}
        if self.levels:
            changes_s, level = zip(*self.levels, strict=True)
            found["power_level"] = mean_in_bins(changes_s, level, time_s, duration_s)
        return found


def mean_in_bins(changes_s: Sequence[float], values: Sequence[float], time_s: FloatArray, duration_s: FloatArray) -> FloatArray:
    """Return the means over bins of what keeps each value until the next change.

    >>> mean_in_bins([0.0, 1.0, 3.0], [2, 4, 0], np.array([0.0, 2.0]), np.array([2.0, 2.0])).tolist()
    [3.0, 2.0]
    """
    at_s, level = np.array(changes_s, dtype=np.float64), np.array(values, dtype=np.float64)
    before = np.concatenate(([0.0], np.cumsum(level[:-1] * np.diff(at_s))))  # integral up to each change

    def integral(until_s: FloatArray) -> FloatArray:
        place = np.searchsorted(at_s, until_s, side="right") - 1
        total: FloatArray = before[place] + level[place] * (until_s - at_s[place])
        return total

    return (integral(time_s + duration_s) - integral(time_s)) / duration_s
