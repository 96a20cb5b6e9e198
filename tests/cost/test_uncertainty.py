"""Intervals: the delta method against sampling, and what an interval must never do."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.cost.deployment import Settings, deploy
from effsim.cost.device import COEFFICIENTS, Coefficients, prior_for
from effsim.cost.serving import Load, estimate_load, predict
from effsim.cost.uncertainty import interval, log_sd, sd_of_range
from effsim.errors import SpecError
from effsim.specs import loading
from effsim.workload.operations import Parallelism

PRIOR = prior_for(loading.accelerator("h100_sxm"), "none")
OUTPUTS = ("tpot_s", "itl_s", "ttft_s", "power_w", "energy_per_output_token_j")


def power_law(coefficients):
    """An output whose logarithm is linear: sd = sqrt((2 s1)^2 + (3 s2)^2)."""
    return {"x": coefficients.gemm_efficiency**2 / coefficients.memory_efficiency**3}


def test_a_power_law_is_exact():
    sds = PRIOR.log_sd
    expected = math.hypot(2 * sds["gemm_efficiency"], 3 * sds["memory_efficiency"])
    assert log_sd(power_law, PRIOR, {})["x"] == pytest.approx(expected, rel=1e-9)


def test_what_the_model_cannot_explain_adds_in_squares():
    plain = log_sd(power_law, PRIOR, {})["x"]
    assert log_sd(power_law, PRIOR, {"x": 0.3})["x"] == pytest.approx(math.hypot(plain, 0.3), rel=1e-9)


@pytest.mark.parametrize(("correlation", "factor"), [(1.0, 0.0), (-1.0, 2.0), (0.0, math.sqrt(2.0))])
def test_correlations_cancel_or_add(correlation, factor):
    """log(a / b) with equal sd s: s sqrt(2 - 2 rho)."""
    place = [COEFFICIENTS.index(name) for name in ("gemm_efficiency", "memory_efficiency")]
    matrix = np.eye(len(COEFFICIENTS))
    matrix[place[0], place[1]] = matrix[place[1], place[0]] = correlation
    prior = dataclasses.replace(PRIOR, log_sd=dict.fromkeys(COEFFICIENTS, 0.1), correlation=tuple(map(tuple, matrix)))
    found = log_sd(lambda c: {"x": c.gemm_efficiency / c.memory_efficiency}, prior, {})["x"]
    assert found == pytest.approx(0.1 * factor, abs=1e-6)


def test_no_doubt_no_interval():
    certain = dataclasses.replace(PRIOR, log_sd=dict.fromkeys(COEFFICIENTS, 1e-9))
    assert log_sd(power_law, certain, {})["x"] == pytest.approx(0.0, abs=1e-7)


@given(st.floats(1e-6, 1e6), st.floats(0.0, 2.0), st.floats(0.01, 0.98))
def test_an_interval_contains_its_value_and_grows_with_level_and_doubt(value, sd, level):
    low, high = interval(value, sd, level)
    assert low <= value * (1 + 1e-12)
    assert high >= value * (1 - 1e-12)
    wider, doubtful = interval(value, sd, level + 0.01), interval(value, sd + 0.1, level)
    assert wider[0] <= low <= high <= wider[1]
    assert doubtful[0] <= low <= high <= doubtful[1]


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 90.0, float("nan")])
def test_a_level_is_a_share(level):
    with pytest.raises(SpecError, match="level: must lie between 0 and 1"):
        interval(1.0, 0.1, level)


@given(st.floats(0.01, 100.0), st.floats(1.01, 50.0))
def test_a_range_is_the_90_percent_interval_of_its_sd(low, ratio):
    middle = low * math.sqrt(ratio)
    assert interval(middle, sd_of_range(low, low * ratio), 0.9) == pytest.approx((low, low * ratio))


def deployment(name, parallelism):
    """Engine without a range of its own, so that all doubt is in the prior."""
    engine = loading.engine("vllm")
    quiet = engine.model_copy(update={"iteration_overhead": engine.iteration_overhead.model_copy(update={"low": None, "high": None})})
    found = deploy(name, "h100_sxm", parallelism, Settings(calibration="none", engine=quiet))
    return dataclasses.replace(found, prior=dataclasses.replace(found.prior, discrepancy_log_sd={"time": 0.0, "power": 0.0}))


@pytest.mark.parametrize(
    ("name", "parallelism", "load"),
    [
        ("llama-3.1-8b", Parallelism(), (16, 512, 256)),
        ("llama-3.1-70b", Parallelism(tensor=8), (128, 1_000, 300)),
        ("qwen3-30b-a3b", Parallelism(tensor=2), (64, 512, 256)),
    ],
)
def test_intervals_cover_what_sampled_coefficients_give(name, parallelism, load):
    """800 draws from the prior: the 90 % interval holds about 90 % of them; sampling itself is good to 3 points at 3 sigma.

    The delta method is linear; the clock response is not, and a sum of many log-normal times leans upwards: 7 points are allowed.
    """
    found = deployment(name, parallelism)
    point = Load(*(np.array([float(part)]) for part in (*load, 8_192)))
    estimate = estimate_load(found, *(float(part) for part in (*load, 8_192)))
    random = np.random.default_rng(3)
    sds = np.array([found.prior.log_sd[name] for name in COEFFICIENTS])
    medians = np.array([getattr(found.prior.median, name) for name in COEFFICIENTS])
    drawn = [predict(found, Coefficients(*(medians * np.exp(sds * random.standard_normal(len(sds))))), point) for _ in range(800)]
    for output in OUTPUTS:
        low, high = estimate.interval(output, 0.9)
        inside = np.mean([low <= sample[output][0] <= high for sample in drawn])
        assert 0.83 <= inside <= 0.965, (output, inside)


def test_a_narrower_posterior_narrows_every_interval():
    found = deployment("llama-3.1-8b", Parallelism())
    half = dataclasses.replace(found, prior=dataclasses.replace(found.prior, log_sd={name: sd / 2 for name, sd in found.prior.log_sd.items()}))
    wide, narrow = (estimate_load(each, 16.0, 512.0, 256.0, 8_192.0) for each in (found, half))
    for output in OUTPUTS:
        assert narrow.relative_sd(output) == pytest.approx(wide.relative_sd(output) / 2, rel=0.1)


def test_only_predicted_fields_have_intervals():
    estimate = estimate_load(deployment("llama-3.1-8b", Parallelism()), 16.0, 512.0, 256.0, 8_192.0)
    with pytest.raises(SpecError, match=r"interval: 'max_batch' has none; choose from ttft_s"):
        estimate.interval("max_batch")
