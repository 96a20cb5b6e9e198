"""What a run leaves behind with bounded memory: sums in time bins, a histogram of latencies."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from effsim.sim.request import InFlight

MAX_BINS: Final = 20_000


class TimeBins:
    """Amounts spread evenly over intervals of time and summed in bins.

    What an interval adds to a bin is its amount times the share of the interval in that bin, so that the bins add up to
    the amounts. When an interval ends beyond ``max_bins`` bins their width doubles.

    >>> bins = TimeBins(1.0, 1, max_bins=2)
    >>> bins.add(0.5, 2.5, (8.0,))
    >>> bins.width_s, bins.sums[0]
    (2.0, [6.0, 2.0])
    """

    __slots__ = ("max_bins", "sums", "width_s")

    def __init__(self, width_s: float, channels: int, max_bins: int = MAX_BINS) -> None:
        self.width_s = width_s
        self.max_bins = max_bins
        self.sums: list[list[float]] = [[] for _ in range(channels)]

    def add(self, start_s: float, end_s: float, amounts: tuple[float, ...]) -> None:
        """Spread one amount per channel evenly from ``start_s`` to ``end_s``."""
        last = self._reach(end_s)
        first = int(start_s / self.width_s)
        if first >= last:
            for sums, amount in zip(self.sums, amounts, strict=True):
                sums[last] += amount
            return
        left = 1.0
        for place in range(first, last + 1):
            here = left if place == last else max((place + 1) * self.width_s - max(start_s, place * self.width_s), 0.0) / (end_s - start_s)
            left -= here
            for sums, amount in zip(self.sums, amounts, strict=True):
                sums[place] += amount * here

    def _reach(self, end_s: float) -> int:
        """Return the bin in which a time lies, having made room for it."""
        last = int(end_s / self.width_s)
        while last >= self.max_bins:
            self.width_s *= 2.0
            self.sums = [[sum(sums[place : place + 2]) for place in range(0, len(sums), 2)] for sums in self.sums]
            last = int(end_s / self.width_s)
        missing = last + 1 - len(self.sums[0])
        if missing > 0:
            for sums in self.sums:
                sums.extend([0.0] * missing)
        return last


_EDGES_S: Final = tuple(1e-6 * 10.0 ** (place / 400) for place in range(4001))


class Histogram:
    """Counts of positive durations in bins of equal width on a logarithmic scale, 400 per decade from 1 µs to 10,000 s.

    Quantiles are exact within 0.6 % of their value; shorter and longer durations count in the outermost bins.
    """

    __slots__ = ("counts",)

    _PER_DECADE: Final = 400
    _DECADES: Final = 10
    _LOWEST_S: Final = 1e-6

    def __init__(self) -> None:
        self.counts = [0] * (self._PER_DECADE * self._DECADES)

    def add(self, duration_s: float, count: int = 1) -> None:
        """Count a duration ``count`` times."""
        place = int(math.log10(duration_s / self._LOWEST_S) * self._PER_DECADE) if duration_s > self._LOWEST_S else 0
        self.counts[min(place, len(self.counts) - 1)] += count

    def add_ramp(self, first_s: float, growth_s: float, steps: int, weight: int) -> None:
        """Count the durations ``first + i growth`` for i from 0 to ``steps`` - 1, each ``weight`` times."""
        counts = self.counts
        done = 0
        while done < steps:
            here_s = first_s + growth_s * done
            place = min(int(math.log10(here_s / self._LOWEST_S) * self._PER_DECADE), len(counts) - 1) if here_s > self._LOWEST_S else 0
            left = steps - done
            if growth_s < 0.0:
                n = 1
            elif growth_s * (left - 1) + here_s < _EDGES_S[place + 1] or place == len(counts) - 1:
                n = left
            else:
                n = min(left, max(1, math.ceil((_EDGES_S[place + 1] - here_s) / growth_s)))
            counts[place] += n * weight
            done += n

    def add_all(self, durations_s: NDArray[np.float64]) -> None:
        """Count each of the durations once; NaN is left out."""
        present = durations_s[~np.isnan(durations_s)]
        places = np.log10(np.maximum(present, self._LOWEST_S) / self._LOWEST_S) * self._PER_DECADE
        found = np.bincount(np.minimum(places.astype(np.int64), len(self.counts) - 1), minlength=len(self.counts))
        self.counts = [a + b for a, b in zip(self.counts, found.tolist(), strict=True)]

    def mean_s(self) -> float:
        """Return the mean of the counted durations, each at the middle of its bin, so exact within 0.3 % [s]; NaN where none was counted."""
        counts = np.array(self.counts)
        total = int(counts.sum())
        edges_s = self._LOWEST_S * 10.0 ** (np.arange(counts.size + 1) / self._PER_DECADE)
        return float(counts @ (0.5 * (edges_s[1:] + edges_s[:-1]))) / total if total else math.nan

    def counts_up_to(self, limits_s: Sequence[float]) -> list[int]:
        """Return how many durations end in bins up to each limit; a bin that a limit divides counts where its middle lies.

        >>> histogram = Histogram()
        >>> histogram.add(0.02, 99); histogram.add(5.0)
        >>> histogram.counts_up_to((0.01, 1.0, 10.0))
        [0, 99, 100]
        """
        cumulated = np.concatenate(([0], np.cumsum(self.counts)))
        places = np.log10(np.maximum(limits_s, self._LOWEST_S) / self._LOWEST_S) * self._PER_DECADE
        found: list[int] = cumulated[np.minimum(np.rint(places).astype(np.int64), len(self.counts))].tolist()
        return found

    def quantile_s(self, share: float) -> float:
        """Return the duration that a share of the counted ones does not exceed [s]; NaN where none was counted.

        >>> histogram = Histogram()
        >>> histogram.add(0.02, 99); histogram.add(5.0)
        >>> round(histogram.quantile_s(0.5), 3), round(histogram.quantile_s(0.999), 1)
        (0.02, 5.0)
        """
        cumulated: NDArray[np.int64] = np.cumsum(self.counts)
        total = int(cumulated[-1])
        if total == 0:
            return math.nan
        place = int(np.searchsorted(cumulated, share * total, side="left"))
        return float(self._LOWEST_S * 10.0 ** ((place + 0.5) / self._PER_DECADE))


class Recorder:
    """What all replicas of a run write to; channels: accelerator J, server J above its floor, and s × running, waiting, KV blocks.

    Attributes:
        on_leg: Called at the end of each leg with the replica, the time [s], its iterations and its energy [J].
    """

    __slots__ = ("bins", "finished", "inter_token", "on_leg")

    def __init__(self, bin_s: float, max_bins: int, finished: Callable[[InFlight], None]) -> None:
        self.bins = TimeBins(bin_s, 5, max_bins)
        self.inter_token = Histogram()
        self.finished = finished
        self.on_leg: Callable[[Any, float, int, float], None] | None = None
