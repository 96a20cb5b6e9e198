"""How newcomers enter a batch: limits that the arithmetic must meet, and the median by drawing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.cost.steady_state import NEWCOMERS_TOGETHER, PROMPT_CV, Load, cases, median_arrivals, pace


def load(batch, prompt=500.0, output=300.0, budget=8192.0):
    return Load(*(np.array([float(part)]) for part in (batch, prompt, output, budget)))


@pytest.mark.parametrize("rate", [1.5, 4.0, 12.0])
def test_the_median_of_arrivals_is_that_of_draws(rate):
    """200,000 draws of a compound Poisson: the grid of 1/64 and the draws together are good to 3 %."""
    random = np.random.default_rng(1)
    spread = np.sqrt(np.log1p(PROMPT_CV**2))
    counts = random.poisson(rate, 200_000)
    lengths = random.lognormal(-(spread**2) / 2, spread, counts.sum())
    sums = np.add.reduceat(np.append(lengths, 0.0), np.minimum(np.concatenate([[0], np.cumsum(counts)[:-1]]), len(lengths))) * (counts > 0)
    assert float(median_arrivals(rate)) == pytest.approx(np.median(sums), rel=0.03, abs=0.02)


def test_most_passes_carry_nothing_below_log_2_newcomers():
    assert float(median_arrivals(np.log(2.0))) == 0.0
    assert float(median_arrivals(0.8)) > 0.0


@given(st.floats(0.0, 200.0), st.floats(0.0, 200.0))
def test_more_newcomers_never_bring_less(one, other):
    low, high = sorted((one, other))
    assert float(median_arrivals(low)) <= float(median_arrivals(high)) + 1e-9


@given(st.floats(1.0, 4_000.0), st.floats(10.0, 4_000.0), st.floats(10.0, 4_000.0), st.floats(0.1, 1.0))
def test_a_pass_with_prefill_carries_what_the_mean_asks_for(batch, prompt, output, share):
    """Prompt tokens per pass, in the mean: passes with prefill times what one of them carries is newcomers times computed tokens, unless the
    token budget is short, and then it is full.
    """
    one = load(batch, prompt, output)
    speed, made = pace(one, 1, share), cases(one, 1, share)["mixed"]
    carried = float((speed.share * made.prefill_seqs * made.prefill_tokens)[0])
    asked = float((speed.rate * prompt * share)[0])
    assert carried == pytest.approx(min(asked, float(speed.per_pass[0])), rel=1e-6)


def test_a_cached_prefix_is_attended_to_but_not_computed():
    whole, half = (cases(load(64.0), 1, share)["mixed"] for share in (1.0, 0.5))
    assert float(half.prefill_tokens[0]) == pytest.approx(250.0)
    assert float(half.prefill_before[0]) == pytest.approx(250.0)
    assert float(whole.prefill_before[0]) == 0.0
    assert float(half.completed_prefills[0]) == pytest.approx(float(whole.completed_prefills[0]))


def test_passes_with_prefill_are_rarer_where_newcomers_come_together():
    speed = pace(load(300.0), 1, 1.0)
    assert float(speed.share[0]) == pytest.approx(1.0 - np.exp(-1.0 / NEWCOMERS_TOGETHER))
