"""The fit over arrays: problems whose posterior is known in closed form."""

import dataclasses

import numpy as np
import pytest

from effsim.calibrate.least_squares import Data, posterior
from effsim.cost.device import prior_for
from effsim.errors import CalibrationError
from effsim.specs import loading

PRIOR = prior_for(loading.accelerator("h100_sxm"), "none")
NAMES = ("gemm_efficiency", "memory_efficiency", "scan_efficiency")


def linear(slopes, shift, rows=50):
    """Errors linear in the logarithms: ``slopes . (log c - log prior) - shift`` in every row, one quantity."""
    origin = np.log([getattr(PRIOR.median, name) for name in NAMES])

    def log_errors(c):
        moved = np.log([getattr(c, name) for name in NAMES]) - origin
        return np.full((1, rows), float(np.dot(slopes, moved)) - shift)

    return log_errors


def test_the_posterior_of_a_linear_problem_is_the_normal_one():
    """One slope of 1, n rows of noise s, prior sd p: sd^2 = 1 / (n / s^2 + 1 / p^2), median shift n / s^2 times that; errors far below
    the noise, where the robust loss is quadratic. The noise is estimated: 0.03 is its floor.
    """
    shift, rows, noise = 1e-3, 50, 0.03
    found = posterior(Data(linear((1.0, 0.0, 0.0), shift, rows), np.ones(rows), (noise,)), PRIOR, NAMES)
    weight = rows / noise**2
    sd = (weight + 1.0 / PRIOR.log_sd["gemm_efficiency"] ** 2) ** -0.5
    assert found.log_sd["gemm_efficiency"] == pytest.approx(sd, rel=1e-3)
    assert np.log(found.median["gemm_efficiency"] / PRIOR.median.gemm_efficiency) == pytest.approx(shift * weight * sd**2, rel=2e-3)


def test_what_no_row_depends_on_keeps_its_prior_and_is_uncorrelated():
    found = posterior(Data(linear((1.0, 0.5, 0.0), 0.01), np.ones(50), (0.03,)), PRIOR, NAMES)
    assert found.median["scan_efficiency"] == pytest.approx(PRIOR.median.scan_efficiency, rel=1e-9)
    assert found.log_sd["scan_efficiency"] == pytest.approx(PRIOR.log_sd["scan_efficiency"], rel=1e-6)
    assert found.correlation[0][2] == pytest.approx(0.0, abs=1e-9)
    assert found.correlation[0][1] < -0.5  # only a sum of the two is known


def test_rows_of_less_weight_tell_less():
    full, tenth = (posterior(Data(linear((1.0, 0.0, 0.0), 0.0), np.full(50, w), (0.03,)), PRIOR, NAMES) for w in (1.0, 0.1))
    assert tenth.log_sd["gemm_efficiency"] > 2.5 * full.log_sd["gemm_efficiency"]


def test_missing_values_are_no_rows():
    def half(c):
        errors = linear((1.0, 0.0, 0.0), 1e-3)(c)
        errors[:, 25:] = np.nan
        return errors

    whole = posterior(Data(linear((1.0, 0.0, 0.0), 1e-3, 25), np.ones(25), (0.03,)), PRIOR, NAMES)
    holes = posterior(Data(half, np.ones(50), (0.03,)), PRIOR, NAMES)
    assert holes.median == pytest.approx(whole.median, rel=1e-6)
    assert holes.log_sd == pytest.approx(whole.log_sd, rel=1e-6)


def test_shares_stay_below_one():
    found = posterior(Data(linear((1.0, 0.0, 0.0), 5.0), np.ones(50), (0.03,)), PRIOR, NAMES)
    assert found.median["gemm_efficiency"] <= 0.98


def test_as_prior_carries_the_posterior_on():
    found = posterior(Data(linear((1.0, 0.5, 0.0), 0.01), np.ones(50), (0.03,)), PRIOR, NAMES).as_prior()
    assert found.provenance == "calibrated"
    assert found.log_sd["gemm_efficiency"] < PRIOR.log_sd["gemm_efficiency"]
    assert found.log_sd["link_power"] == PRIOR.log_sd["link_power"]
    assert np.allclose(np.array(found.correlation), np.array(found.correlation).T)


@pytest.mark.parametrize(
    ("names", "said"), [(("gemm_eficiency",), "no coefficient 'gemm_eficiency'"), (("busy_power",), "busy_power: its prior has no spread")]
)
def test_what_cannot_be_fitted_is_refused(names, said):
    prior = dataclasses.replace(PRIOR, log_sd={**PRIOR.log_sd, "busy_power": 0.0})
    with pytest.raises(CalibrationError, match=said):
        posterior(Data(linear((1.0, 0.0, 0.0), 0.0), np.ones(50), (0.03,)), prior, names)
