"""The highest number that holds, where what holds may be noisy."""

from collections.abc import Callable
from typing import Final

BELOW: Final = (0.93, 0.85, 0.75)
"""Shares of what was found that are looked at once more: a run just below a failure can hold by luck."""

Holds = Callable[[float], bool]


def highest(holds: Holds, start: float, lowest: float, most: float, tolerance_ratio: float) -> tuple[float, float] | None:
    """Return a number that holds and one that does not, at most ``tolerance_ratio`` of each other apart.

    From ``start`` by factors of two to a bracket, then by bisection of its logarithm. Below what is found some more are tried, and where one
    fails the search goes on below it, so that every number tried below the result holds.

    Args:
        holds: The question; asked of a number once.
        start: Where to begin.
        lowest: Nothing lower is tried.
        most: Nothing higher is tried.
        tolerance_ratio: Of the width of the bracket to its lower end.

    Returns:
        The bracket; None where ``lowest`` does not hold; an upper end of infinity where ``most`` does.

    >>> low, high = highest(lambda x: x < 3.0, 100.0, 0.01, 1e6, 0.01)
    >>> 2.97 < low < 3.0 <= high <= low * 1.01
    True
    """
    known: dict[float, bool] = {}

    def ask(number: float) -> bool:
        if number not in known:
            known[number] = holds(number)
        return known[number]

    low, high = start, start
    if ask(start):
        while ask(high):
            if high >= most:
                return high, float("inf")
            low, high = high, min(2.0 * high, most)
    else:
        low = _down(ask, start, lowest)
        if not ask(low):
            return None
        high = min(number for number, answer in known.items() if not answer)
    while True:
        while high > low * (1.0 + tolerance_ratio):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if ask(middle) else (low, middle)
        failed = [number for share in BELOW if (number := share * low) > lowest and not ask(number)]
        if not failed:
            return low, high
        high = min(failed)
        low = max((number for number, answer in known.items() if answer and number < high), default=lowest)
        if not ask(low):
            return None


def _down(ask: Holds, start: float, lowest: float) -> float:
    """Return the first number that holds on the way down by halves, else the lowest."""
    number = start
    while number > lowest:
        number = max(0.5 * number, lowest)
        if ask(number):
            break
    return number


def fewest(holds: Callable[[int], bool], most: int) -> int | None:
    """Return the lowest whole number from 1 on that holds while the one below does not, found by doubling and bisection; None where ``most`` does not.

    >>> fewest(lambda count: count >= 37, 100), fewest(lambda count: count >= 37, 36)
    (37, None)
    """
    low, high = 0, 1
    while not holds(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
