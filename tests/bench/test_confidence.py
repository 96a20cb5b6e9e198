"""Intervals of medians hold the true median as often as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.bench.confidence import median_interval


@pytest.mark.parametrize(("count", "low", "high"), [(6, 1, 6), (10, 2, 9), (20, 6, 15), (50, 18, 33), (100, 40, 61)])
def test_ranks_are_those_of_the_published_table(count, low, high):
    """Le Boudec (2010), table A.1: order statistics for a 95 % interval of the median."""
    found = median_interval([float(rank) for rank in range(1, count + 1)], 0.95)
    assert (found.low, found.high) == (low, high)


@pytest.mark.parametrize("count", [8, 25, 200])
@pytest.mark.parametrize("draw", ["exponential", "standard_cauchy", "uniform"])
def test_coverage(count, draw):
    rng = np.random.default_rng(1)
    true = {"exponential": np.log(2.0), "standard_cauchy": 0.0, "uniform": 0.5}[draw]
    drawn = [median_interval(getattr(rng, draw)(size=count).tolist(), 0.9) for _ in range(600)]
    inside = np.mean([found.low <= true <= found.high for found in drawn])
    assert 0.87 <= inside <= 0.985  # at least 0.9 in theory, above it for few samples, as ranks are whole


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=40), st.floats(0.5, 0.999))
def test_the_interval_holds_the_median_and_lies_within_the_samples(samples, confidence):
    found = median_interval(samples, confidence)
    assert min(samples) <= found.low <= found.value <= found.high <= max(samples)
