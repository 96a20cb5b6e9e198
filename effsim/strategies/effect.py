"""What a choice does to the number of tokens that reach the same loss."""

import math
from dataclasses import dataclass

from effsim.errors import SpecError

Range = tuple[float, float, float]
"""Low, median, high."""

SAME: Range = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class StepsEffect:
    """Tokens to the same loss, as a multiple of the base job's; at the same batch size this is the multiple of steps.

    ``None`` where no figure is published; infinite where no number of tokens reaches the loss.

    Args:
        low: Fewest that a source supports.
        median: Between the sources.
        high: Most that a source supports.
        source: Authors, title or venue, arXiv number.
        date: Of the source: a year, or year and month.
        note: How the range follows from the source, and where it holds.

    Raises:
        SpecError: The figures are not in order, not positive, or the source is missing.
    """

    low: float | None
    median: float | None
    high: float | None
    source: str
    date: str
    note: str

    def __post_init__(self) -> None:
        """Refuse figures out of order."""
        given = [value for value in (self.low, self.median, self.high) if value is not None]
        if sorted(given) != given or any(not value > 0.0 for value in given):
            raise SpecError(f"a steps effect needs 0 < low <= median <= high, got {self.low}, {self.median}, {self.high}")
        if not (self.source and self.date and self.note):
            raise SpecError("a steps effect needs a source, its date and a note")

    @property
    def is_exactly_one(self) -> bool:
        """Whether nothing changes."""
        return (self.low, self.median, self.high) == SAME


def relative(changed: Range, base: Range) -> Range:
    """Return a range relative to another whose errors are its own, the ends at their worst: two things equally good need not be equal.

    >>> relative((0.5, 0.8, 1.0), (1.0, 1.0, 1.0))
    (0.5, 0.8, 1.0)
    >>> relative((0.5, 0.8, 1.0), (0.5, 0.8, 1.0))
    (0.5, 1.0, 2.0)
    """
    return changed[0] / base[2], changed[1] / base[1], changed[2] / base[0]


def combined_range(effect: StepsEffect, ratio: float, log_sd: float, quantile: float) -> tuple[float | None, float | None]:
    """Return the interval of ``ratio`` times the tokens: the two doubts added in quadrature on the logarithm.

    Args:
        effect: On tokens.
        ratio: Of energy per token.
        log_sd: Standard deviation of its logarithm.
        quantile: Of the standard normal at the upper end of the interval.
    """
    return _end(effect.low, effect.median, ratio, -quantile * log_sd), _end(effect.high, effect.median, ratio, quantile * log_sd)


def _end(end: float | None, median: float | None, ratio: float, reach: float) -> float | None:
    if end is None:
        return None
    if median is None or math.isinf(median):  # no centre to widen about
        return ratio * end * math.exp(reach)
    if math.isinf(end):
        return math.inf
    return ratio * median * math.exp(math.copysign(math.hypot(math.log(end / median), reach), reach))
