"""How well a median is known from the samples, without assuming how they are distributed."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Median(NamedTuple):
    """A median with its confidence interval [unit of the samples]."""

    value: float
    low: float
    high: float

    @property
    def relative_half_width(self) -> float:
        """Half the interval over the median."""
        return 0.5 * (self.high - self.low) / self.value if self.value else 0.0


def median_interval(samples: Sequence[float], confidence: float) -> Median:
    """Return the median and the narrowest symmetric pair of order statistics that encloses the true one with this confidence.

    The true median lies between the samples of rank ``r`` and ``n + 1 - r`` with probability ``1 - 2 P(X < r)``, X binomial with n
    trials and p = 1/2, whatever the distribution. Too few samples for the confidence give the whole range.
    Source: Conover, Practical Nonparametric Statistics, 3rd ed. (1999), section 3.2; Le Boudec, Performance Evaluation (2010), 2.2.

    Args:
        samples: At least one.
        confidence: Between 0 and 1.

    >>> median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0], 0.95)
    Median(value=5.5, low=2.0, high=9.0)
    """
    ordered = sorted(samples)
    rank = _rank(len(ordered), confidence)
    return Median(statistics.median(ordered), ordered[rank - 1], ordered[len(ordered) - rank])


def _rank(count: int, confidence: float) -> int:
    """Return the largest r with ``2 P(X < r) <= 1 - confidence``, at least 1."""
    below, rank = 0.0, 0
    logarithm = -count * math.log(2.0)  # of the probability of X = 0
    while rank < (count + 1) // 2:
        below += math.exp(logarithm)
        if 2.0 * below > 1.0 - confidence:
            break
        rank += 1
        logarithm += math.log((count - rank + 1) / rank)
    return max(rank, 1)
