import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.sim.recorder import Histogram, TimeBins


@given(
    lengths=st.lists(st.tuples(st.floats(0, 30), st.floats(1e-6, 40), st.floats(0, 1e6)), min_size=1, max_size=30),
    width_s=st.floats(1e-3, 10),
    max_bins=st.integers(1, 50),
)
def test_bins_conserve_amounts_in_bounded_memory(lengths, width_s, max_bins):
    bins = TimeBins(width_s, 2, max_bins)
    now_s = 0.0
    for gap_s, length_s, amount in lengths:
        bins.add(now_s + gap_s, now_s + gap_s + length_s, (amount, 1.0))
        now_s += gap_s + length_s
    assert sum(bins.sums[0]) == pytest.approx(sum(row[2] for row in lengths), rel=1e-9)
    assert sum(bins.sums[1]) == pytest.approx(len(lengths), rel=1e-9)
    assert len(bins.sums[0]) <= max_bins
    assert bins.width_s * len(bins.sums[0]) >= now_s


def test_doubling_keeps_each_amount_in_its_time():
    fine, coarse = TimeBins(0.25, 1, 64), TimeBins(0.25, 1, 4)
    for start in range(7):
        for bins in (fine, coarse):
            bins.add(start * 0.5, start * 0.5 + 0.5, (float(start),))
    assert coarse.width_s == 1.0
    assert coarse.sums[0] == pytest.approx([sum(fine.sums[0][place : place + 4]) for place in range(0, 16, 4)])


@given(st.lists(st.floats(2e-6, 5e3), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_histogram_quantiles_within_their_bins(durations_s, share):
    histogram = Histogram()
    for duration_s in durations_s:
        histogram.add(duration_s)
    exact = np.quantile(durations_s, share, method="inverted_cdf")
    assert histogram.quantile_s(share) == pytest.approx(exact, rel=0.006)


def test_empty_histogram_has_no_quantile():
    assert np.isnan(Histogram().quantile_s(0.5))
