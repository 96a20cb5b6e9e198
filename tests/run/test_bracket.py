"""The search for the highest number that holds: right where the answer is monotone, on the safe side where it is not."""

import math

from hypothesis import given
from hypothesis import strategies as st

from effsim.run.bracket import fewest, highest

LOWEST, MOST, TOLERANCE = 0.01, 1e6, 0.01


@given(st.floats(0.02, 1e5), st.floats(0.011, 1e5))
def test_a_limit_is_found_from_anywhere(limit, start):
    low, high = highest(lambda number: number <= limit, start, LOWEST, MOST, TOLERANCE)
    assert low <= limit < high <= low * (1.0 + TOLERANCE) * (1.0 + 1e-12)


@given(st.integers(0, 2**32), st.floats(0.5, 50.0), st.floats(0.02, 1000.0))
def test_below_the_answer_everything_tried_holds(seed, limit, start):
    """Near the limit chance decides, the same for a number each time."""
    asked = {}

    def holds(number):
        noise = 0.2 * math.sin(seed + 1e4 * number)
        asked[number] = number * (1.0 + noise) <= limit
        return asked[number]

    low, high = highest(holds, start, LOWEST, MOST, TOLERANCE)
    assert asked[low]
    assert not asked[high]
    assert high <= low * (1.0 + TOLERANCE) * (1.0 + 1e-12)
    assert all(answer for number, answer in asked.items() if number <= low)
    assert low <= limit / 0.8


def test_a_lucky_island_is_left():
    low, _ = highest(lambda number: number <= 10.0 or 19.0 <= number <= 20.5, 20.0, LOWEST, MOST, TOLERANCE)
    assert 9.9 <= low <= 10.0


def test_nothing_holds_and_everything_holds():
    assert highest(lambda _: False, 5.0, LOWEST, MOST, TOLERANCE) is None
    assert highest(lambda _: True, 5.0, LOWEST, MOST, TOLERANCE) == (MOST, math.inf)


@given(st.integers(1, 500), st.integers(1, 500))
def test_the_fewest(needed, most):
    assert fewest(lambda count: count >= needed, most) == (needed if needed <= most else None)
