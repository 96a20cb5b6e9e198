"""Lengths and times drawn from distributions."""

import math

import numpy as np
import pytest

from effsim.errors import SpecError
from effsim.specs.workload import Empirical, ExponentialTime, Geometric, Histogram, Lognormal, LognormalTime, Uniform, UniformTime
from effsim.workload import lengths as module
from effsim.workload.lengths import lengths, resolved, times_s


def drawn(distribution, count=100_000):
    return lengths(distribution, np.random.default_rng(1), count)


def test_lengths_follow_their_distributions():
    fitted = drawn(Lognormal(kind="lognormal", median=1000.0, p90=4000.0))
    assert np.quantile(fitted, [0.5, 0.9]) == pytest.approx([1000.0, 4000.0], rel=0.03)
    assert drawn(Lognormal(kind="lognormal", mean=300.0, sigma=0.7)).mean() == pytest.approx(300.0, rel=0.01)
    held = drawn(Lognormal(kind="lognormal", median=10.0, p90=100.0, minimum=5, maximum=50))
    assert (held.min(), held.max()) == (5, 50)
    even = drawn(Uniform(kind="uniform", low=3, high=6))
    assert np.bincount(even)[3:] / even.size == pytest.approx([0.25] * 4, abs=0.01)
    weighted = drawn(Empirical(kind="empirical", values=(7, 9), weights=(3.0, 1.0)))
    assert (weighted == 7).mean() == pytest.approx(0.75, abs=0.01)
    assert set(weighted.tolist()) == {7, 9}
    turns = drawn(Geometric(kind="geometric", mean=4.0))
    assert turns.mean() == pytest.approx(4.0, rel=0.02)
    assert (turns == 1).mean() == pytest.approx(0.25, abs=0.01)


def test_times_follow_their_distributions():
    random = np.random.default_rng(1)
    assert times_s(ExponentialTime(kind="exponential", mean=30.0), random, 100_000).mean() == pytest.approx(30.0, rel=0.02)
    skewed = times_s(LognormalTime(kind="lognormal", median=10.0, p90=60.0), random, 100_000)
    assert np.quantile(skewed, [0.5, 0.9]) == pytest.approx([10.0, 60.0], rel=0.03)
    even = times_s(UniformTime(kind="uniform", low=2.0, high=4.0), random, 100_000)
    assert (even.min() >= 2.0, even.max() <= 4.0, math.isclose(even.mean(), 3.0, rel_tol=0.01)) == (True, True, True)


def test_blocks_do_not_show(monkeypatch):
    whole = drawn(Lognormal(kind="lognormal", median=100.0, p90=400.0), 1000)
    monkeypatch.setattr(module, "DRAWN_AT_ONCE", 64)
    assert (drawn(Lognormal(kind="lognormal", median=100.0, p90=400.0), 1000) == whole).all()


def test_a_histogram_is_read_from_its_file(tmp_path):
    (tmp_path / "h.csv").write_text("tokens,count\n10,1\n20,3\n", encoding="utf-8")
    found = resolved(Histogram(kind="histogram", file="h.csv"), lambda name: tmp_path / name)
    assert (drawn(found) == 20).mean() == pytest.approx(0.75, abs=0.01)
    with pytest.raises(SpecError, match=r"h\.csv: a histogram is read from its file"):
        drawn(Histogram(kind="histogram", file="h.csv"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("length,count\n1,1\n", "line 1: expected the columns tokens and weight"),
        ("tokens,weight\n1,1\n0,2\n", "line 3: tokens: expected a number from 1 to 100,000,000, got '0,2'"),
        ("tokens,weight\n1,nan\n", "line 2: weight: expected a number from 0"),
        ("tokens,weight\n1\n", "line 2: weight: expected"),
        ("tokens,weight\n1.5,1\n", "tokens: expected whole numbers, found 1.5"),
        ("tokens,weight\n1,0\n", "at least one row with a weight above 0"),
    ],
)
def test_a_broken_histogram_is_refused(tmp_path, text, message):
    (tmp_path / "h.csv").write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=message):
        resolved(Histogram(kind="histogram", file="h.csv"), lambda name: tmp_path / name)
