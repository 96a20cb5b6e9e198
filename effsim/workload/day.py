"""Arrival rates that follow the hours of a day."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from effsim.specs.workload import HOURS, Arrivals
from effsim.workload.traces import FloatArray

DAY_S: Final = 86_400.0
_CELLS_OF_A_SINUSOID: Final = 1_440
_AT_ONCE: Final = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Day:
    """Expected arrivals over a day that repeats; between two edges the rate is constant.

    Args:
        edges_s: [s] from midnight, from 0 to 86,400, shape (cell + 1,).
        so_far: Requests expected from midnight to each edge, shape (cell + 1,).
        start_s: Time of day at which the run begins [s].
    """

    edges_s: FloatArray
    so_far: FloatArray
    start_s: float

    def expected(self, time_s: float) -> float:
        """Return the requests expected from the beginning of the run to a time: the integral of the rate."""
        return self._from_midnight(self.start_s + time_s) - self._from_midnight(self.start_s)

    def _from_midnight(self, time_s: float) -> float:
        days, within_s = divmod(time_s, DAY_S)
        return days * float(self.so_far[-1]) + float(np.interp(within_s, self.edges_s, self.so_far))

    def times_s(self, expected: FloatArray) -> FloatArray:
        """Return the times by which so many requests are expected, the inverse of :meth:`expected`.

        Arrivals of rate 1 in expected requests become arrivals of the day's rate (time rescaling; Daley and Vere-Jones, An Introduction to
        the Theory of Point Processes, theorem 7.4.I); the mean is exact.
        """
        found = np.empty_like(expected)
        for first in range(0, expected.size, _AT_ONCE):
            days, within = np.divmod(expected[first : first + _AT_ONCE] + self._from_midnight(self.start_s), self.so_far[-1])
            found[first : first + _AT_ONCE] = days * DAY_S + np.interp(within, self.so_far, self.edges_s) - self.start_s
        return np.maximum.accumulate(np.maximum(found, 0.0, out=found), out=found)


def day_of(arrivals: Arrivals) -> Day:
    """Return the day of ``diurnal`` arrivals; a sinusoid is cut into minutes, each with its exact mean.

    >>> flat = Arrivals(process="diurnal", rate=2.0, hourly_factors=(1.0,) * 24, start_hour=6.0)
    >>> day_of(flat).expected(3600.0)
    7200.0
    """
    start_s = 3600.0 * (arrivals.start_hour or 0.0)
    if arrivals.swing is not None:
        edges_s = np.linspace(0.0, DAY_S, _CELLS_OF_A_SINUSOID + 1)
        turn, peak_s = 2.0 * math.pi / DAY_S, 3600.0 * (arrivals.peak_hour or 0.0)
        waves_s = (np.sin(turn * (edges_s - peak_s)) + math.sin(turn * peak_s)) / turn
        return Day(edges_s, (arrivals.rate or 0.0) * (edges_s + arrivals.swing * waves_s), start_s)
    if arrivals.hourly_rates is not None:
        rates = np.array(arrivals.hourly_rates)
    else:
        factors = np.array(arrivals.hourly_factors)
        rates = (arrivals.rate or 0.0) * factors * (HOURS / factors.sum())
    so_far = np.concatenate(([0.0], np.cumsum(rates) * 3600.0))
    return Day(np.linspace(0.0, DAY_S, HOURS + 1), so_far, start_s)
