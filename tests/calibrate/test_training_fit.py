"""The fit of coefficients: made-up machines whose coefficients are known must be found again."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from effsim.calibrate.training_fit import Fit, Observation, calibration_document, fit, leave_one_out, remembered, write_calibration
from effsim.cost.device import Coefficients, Prior, prior_for
from effsim.errors import CalibrationError
from effsim.specs import loading

PRIOR: Prior = prior_for(loading.accelerator("h100_sxm"), "none")
TRUE = dataclasses.replace(PRIOR.median, gemm_efficiency=0.6, memory_efficiency=0.9, gemm_kernel_s=4e-6)
CHOSEN = ("gemm_efficiency", "memory_efficiency", "gemm_kernel_s", "scan_efficiency")
WORK = [(flop, moved, kernels) for flop in (1e14, 1e15) for moved in (1e10, 1e12) for kernels in (100.0, 1e5)]


def machine(flop: float, moved_bytes: float, kernels: float):
    """Return the time of some work on a machine of 1 PFLOP/s and 3 TB/s, as a function of its coefficients."""

    def step_time_s(c: Coefficients) -> float:
        return flop / (1e15 * c.gemm_efficiency) + moved_bytes / (3e12 * c.memory_efficiency) + kernels * c.gemm_kernel_s

    return step_time_s


def rows(noise: float = 0.0, seed: int = 0) -> list[Observation]:
    draws = np.random.default_rng(seed).normal(0.0, noise, len(WORK)) if noise else np.zeros(len(WORK))
    return [Observation(f"run {i}", machine(*work), machine(*work)(TRUE) * math.exp(e)) for i, (work, e) in enumerate(zip(WORK, draws, strict=True))]


def test_known_coefficients_are_found_again() -> None:
    found = fit(rows(), PRIOR, CHOSEN)
    for name in CHOSEN[:3]:
        assert found.median[name] == pytest.approx(getattr(TRUE, name), rel=0.02), name
    assert found.mape_pct < 0.5
    assert all(found.log_sd[name] < PRIOR.log_sd[name] for name in CHOSEN[:3])


def test_a_coefficient_that_no_run_depends_on_keeps_its_prior() -> None:
    found = fit(rows(0.02), PRIOR, CHOSEN)
    assert found.median["scan_efficiency"] == pytest.approx(PRIOR.median.scan_efficiency, rel=1e-6)
    assert found.log_sd["scan_efficiency"] == pytest.approx(PRIOR.log_sd["scan_efficiency"], rel=1e-3)


def test_one_wild_run_does_not_carry_the_fit_away() -> None:
    clean = rows(0.01)
    wild = [*clean[:-1], dataclasses.replace(clean[-1], measured=3.0 * clean[-1].measured)]
    assert fit(wild, PRIOR, CHOSEN).median["gemm_efficiency"] == pytest.approx(TRUE.gemm_efficiency, rel=0.1)


def test_few_runs_stay_near_the_prior() -> None:
    one = fit(rows()[:1], PRIOR, CHOSEN)
    assert abs(math.log(one.median["memory_efficiency"] / PRIOR.median.memory_efficiency)) < PRIOR.log_sd["memory_efficiency"]


def test_shares_stay_below_one() -> None:
    fast = [dataclasses.replace(row, measured=row.measured / 4.0) for row in rows()]
    found = fit(fast, PRIOR, CHOSEN)
    assert found.median["gemm_efficiency"] <= 0.98 + 1e-9
    assert found.median["memory_efficiency"] <= 0.98 + 1e-9


def test_the_noise_is_about_that_of_the_runs() -> None:
    found = fit([row for seed in range(6) for row in rows(0.05, seed)], PRIOR, CHOSEN)
    assert 0.03 < found.noise_log_sd < 0.08


def test_correlation_is_a_correlation() -> None:
    matrix = np.array(fit(rows(0.02), PRIOR, CHOSEN).correlation)
    assert np.allclose(matrix, matrix.T)
    assert np.allclose(np.diag(matrix), 1.0)
    assert np.linalg.eigvalsh(matrix).min() > -1e-9


def test_runs_of_one_configuration_weigh_as_one() -> None:
    runs = rows(0.03)
    doubled = [dataclasses.replace(row, name=f"{row.name} {k}", weight=0.5) for row in runs for k in range(2)]
    once, twice = fit(runs, PRIOR, CHOSEN), fit(doubled, PRIOR, CHOSEN)
    assert twice.median["gemm_efficiency"] == pytest.approx(once.median["gemm_efficiency"], rel=1e-3)


def test_a_run_left_out_is_predicted_worse_than_one_that_was_fitted() -> None:
    runs = rows(0.05)
    whole = fit(runs, PRIOR, CHOSEN)
    left = leave_one_out(runs, whole)
    assert set(left) == set(whole.residual)
    assert np.mean(np.abs(list(left.values()))) >= np.mean(np.abs(list(whole.residual.values())))


def test_leaving_out_needs_two_runs() -> None:
    with pytest.raises(CalibrationError, match="at least two"):
        leave_one_out(rows()[:1], fit(rows()[:1], PRIOR, CHOSEN))


def test_predictions_are_remembered() -> None:
    calls: list[Coefficients] = []

    def counted(c: Coefficients) -> float:
        calls.append(c)
        return 1.0

    known = remembered(counted)
    assert known(TRUE) == known(TRUE) == 1.0
    assert len(calls) == 1


@pytest.fixture(scope="module")
def found() -> Fit:
    return fit(rows(0.02), PRIOR, CHOSEN)


def test_a_written_calibration_is_read_back(found: Fit, tmp_path: Path) -> None:
    document = calibration_document(found, "h100_sxm_made-up", ("h100_sxm", "megatron"), ("Made-up runs", "2026-11"), {"time": 0.04})
    write_calibration(tmp_path / "h100_sxm_made-up.yaml", document)
    again = prior_for(loading.accelerator("h100_sxm"), str(tmp_path / "h100_sxm_made-up.yaml"))
    assert again.median.gemm_efficiency == pytest.approx(found.median["gemm_efficiency"], rel=1e-3)
    assert again.median.link_efficiency == PRIOR.median.link_efficiency
    assert set(document["coefficients"]) == set(CHOSEN[:3]), "nothing was learned about scans"
    assert np.shape(document["correlation"]) == (3, 3)
    assert again.discrepancy_log_sd["time"] == 0.04
    assert again.provenance == "calibrated"


def test_a_calibration_under_another_name_is_refused(found: Fit, tmp_path: Path) -> None:
    document = calibration_document(found, "a", ("h100_sxm", "megatron"), ("Made-up runs", "2026-11"), {"time": 0.04})
    with pytest.raises(CalibrationError, match="must agree"):
        write_calibration(tmp_path / "b.yaml", document)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("runs", "chosen", "message"),
    [
        ([], CHOSEN, "nothing to fit"),
        (rows()[:2], ("gem_efficiency",), "no coefficient 'gem_efficiency'"),
        ([dataclasses.replace(rows()[0], measured=0.0)], CHOSEN, "above 0"),
        ([dataclasses.replace(rows()[0], measured=math.nan)], CHOSEN, "above 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(runs: list[Observation], chosen: tuple[str, ...], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        fit(runs, PRIOR, chosen)
