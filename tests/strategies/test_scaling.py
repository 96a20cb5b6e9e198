"""Scaling laws: closed forms and monotony."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.strategies.effect import StepsEffect, combined_range, relative
from effsim.strategies.job import TrainingJob
from effsim.strategies.scaling import FITS, critical_batch_tokens, examples_over_least, steps_over_least, tokens_for_gap, tokens_for_size
from effsim.strategies.training import batch_size

SIZES = st.floats(1e7, 1e12)
BATCHES = st.floats(1e3, 1e9)


@given(batch=BATCHES, critical=BATCHES)
def test_steps_and_examples_lie_on_the_hyperbola(batch, critical):
    steps, examples = steps_over_least(batch, critical), examples_over_least(batch, critical)
    assert (steps - 1.0) * (examples - 1.0) == pytest.approx(1.0, rel=1e-3)
    assert examples * critical == pytest.approx(steps * batch)  # examples are steps times the batch


@given(batch=BATCHES, critical=BATCHES, factor=st.floats(1.01, 100.0))
def test_larger_batches_take_fewer_steps_and_more_examples(batch, critical, factor):
    assert steps_over_least(batch * factor, critical) <= steps_over_least(batch, critical)
    assert examples_over_least(batch * factor, critical) >= examples_over_least(batch, critical)


def test_the_critical_batch_grows_as_the_loss_falls():
    assert critical_batch_tokens(2.0) > critical_batch_tokens(2.5) > critical_batch_tokens(3.0)
    assert critical_batch_tokens(1.0) == 2.1e8


def test_at_the_critical_batch_twice_the_least():
    assert steps_over_least(5e6, 5e6) == examples_over_least(5e6, 5e6) == 2.0


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0, 4.0])
def test_a_batch_far_below_the_critical_one_costs_nothing(scale):
    job = TrainingJob("llama-3.2-1b", "h100_sxm", num_accelerators=4, global_batch_size=4, sequence_length=64, tokens=1e12)
    effect = batch_size.steps(job, batch_size.apply(job, scale=scale))
    assert effect.median == pytest.approx(1.0, abs=1e-3)
    assert (effect.median > 1.0) == (scale > 1.0)


def test_batch_effects_are_inverse():
    job = TrainingJob("llama-3.2-1b", "h100_sxm", num_accelerators=8, global_batch_size=64, tokens=1e11)
    larger = batch_size.apply(job, scale=2.0)
    assert batch_size.steps(job, larger).median * batch_size.steps(larger, job).median == pytest.approx(1.0)


@pytest.mark.parametrize("fit", FITS)
@given(parameters=SIZES, tokens=st.floats(1e9, 1e14))
def test_tokens_invert_the_loss(fit, parameters, tokens):
    assert fit.tokens_for(fit.data_term(tokens)) == pytest.approx(tokens, rel=1e-9)
    assert fit.loss(parameters, tokens) == pytest.approx(fit.irreducible + fit.size_term(parameters) + fit.data_term(tokens))


def test_the_published_optimum_of_chinchilla_is_near():
    # 70 billion parameters, 1.4 trillion tokens: 1.936 by the law (Hoffmann et al., section 3.3)
    assert FITS[0].loss(7e10, 1.4e12) == pytest.approx(1.936, abs=0.002)


@given(gap=st.floats(1e-5, 0.2), more=st.floats(1.01, 3.0), parameters=SIZES, tokens=st.floats(1e9, 1e14))
def test_a_wider_gap_takes_more_tokens(gap, more, parameters, tokens):
    narrow, wide = tokens_for_gap(gap, parameters, tokens), tokens_for_gap(gap * more, parameters, tokens)
    assert all(1.0 < a <= b for a, b in zip(narrow, wide, strict=True))
    assert sorted(narrow) == list(narrow)


@given(parameters=SIZES, share=st.floats(0.3, 0.99), tokens=st.floats(1e9, 1e13))
def test_a_smaller_model_takes_more_tokens(parameters, share, tokens):
    factors = tokens_for_size(parameters * share, parameters, tokens)
    assert all(factor > 1.0 for factor in factors)
    assert sorted(factors) == list(factors)
    reached = [(fit, f) for fit in FITS for f in (factors[0], factors[2]) if math.isfinite(f)]
    close = [fit for fit, f in reached if math.isclose(fit.loss(parameters * share, tokens * f), fit.loss(parameters, tokens), rel_tol=1e-9)]
    assert len(close) >= sum(math.isfinite(f) for f in (factors[0], factors[2]))  # each end is the answer of one fit


def test_a_gap_that_no_data_close():
    assert tokens_for_gap(0.5, 7e9, 1.4e11) == (math.inf, math.inf, math.inf)


@given(a=st.floats(0.1, 1.0), b=st.floats(1.0, 2.0), c=st.floats(2.0, 9.0))
def test_relative_ranges(a, b, c):
    assert relative((a, b, c), (1.0, 1.0, 1.0)) == (a, b, c)
    low, median, high = relative((a, b, c), (a, b, c))
    assert low <= median == 1.0 <= high
    assert low * high == pytest.approx(1.0)


def effect(low, median, high):
    return StepsEffect(low, median, high, "a", "b", "c")


def test_doubts_add_in_quadrature():
    # ln 2 of tokens either way and a log-sd whose 95 % quantile is ln 2: sqrt(2) ln 2 together
    low, high = combined_range(effect(0.5, 1.0, 2.0), 3.0, math.log(2.0) / 1.6448536, 1.6448536)
    assert (low, high) == pytest.approx((3.0 / 2.0 ** math.sqrt(2.0), 3.0 * 2.0 ** math.sqrt(2.0)))
    assert combined_range(effect(1.0, 1.0, 1.0), 0.7, 0.0, 1.64) == (0.7, 0.7)
    assert combined_range(effect(0.5, 0.8, 1.0), 2.0, 0.0, 1.64) == pytest.approx((1.0, 2.0))


def test_ends_that_are_unknown_or_never_reached():
    assert combined_range(effect(1.0, None, None), 0.5, 0.0, 1.64) == (0.5, None)
    assert combined_range(effect(1.0, math.inf, math.inf), 0.5, 0.1, 1.64)[1] == math.inf
    assert combined_range(effect(1.0, 1.2, math.inf), 0.5, 0.1, 1.64)[1] == math.inf
