"""Serving runs made up by the model itself: known coefficients come back, and a model left out is left out."""

import dataclasses

import numpy as np
import pytest

from effsim.calibrate.serving_fit import OUTPUTS, Runs, calibration_document, discrepancy, fit, leave_one_model_out, log_errors
from effsim.cost.deployment import Settings, deploy
from effsim.cost.device import combine
from effsim.cost.serving import Load, predict
from effsim.errors import CalibrationError
from effsim.specs import loading
from effsim.specs.calibration import Calibration
from effsim.workload.operations import Parallelism

PRIOR = combine(tuple(loading.calibration(f"prior_datacenter_gpu{suffix}") for suffix in ("", "_vllm")), "h100_sxm")
CHOSEN = ("memory_efficiency", "host_overhead_factor", "busy_power", "static_power")
TRUE = dataclasses.replace(PRIOR.median, memory_efficiency=0.8, host_overhead_factor=2.0, busy_power=0.6)
BATCHES = np.array([1.0, 8.0, 64.0])


def made_up(name: str, split: int = 1, factor: float = 1.0, accelerator: str = "h100_sxm") -> Runs:
    deployment = deploy(name, accelerator, Parallelism(tensor=split), Settings(calibration="none"))
    load = Load(BATCHES, np.full(3, 500.0), np.full(3, 300.0), np.full(3, 8192.0))
    values = predict(deployment, TRUE, load)
    return Runs(f"{name} {split}", name, deployment, load, {output: factor * values[output] for output in OUTPUTS})


RUNS = [made_up("llama-3.1-8b"), made_up("qwen3-8b"), made_up("llama-3.1-70b", 4)]


@pytest.fixture(scope="module")
def whole():
    return fit(RUNS, PRIOR, CHOSEN)


def test_true_coefficients_are_found_again(whole):
    for name in ("memory_efficiency", "host_overhead_factor", "busy_power"):
        assert whole.median[name] == pytest.approx(getattr(TRUE, name), rel=0.1), name
    assert np.abs(log_errors(RUNS, whole.all_coefficients)).max() < 0.05


def test_a_model_left_out_has_no_say_in_its_prediction(whole):
    """Runs of one model twice as slow and hungry: its own prediction is that of a fit that has never seen them."""
    spoilt = [*RUNS[:2], made_up("llama-3.1-70b", 4, 2.0)]
    left = leave_one_model_out(spoilt, PRIOR, whole)
    (one,) = [found for found in left if found.runs.model == "llama-3.1-70b"]
    alone = fit(spoilt[:2], PRIOR, CHOSEN, whole)
    assert one.predicted["itl_s"] == pytest.approx(predict(one.runs.deployment, alone.all_coefficients, one.runs.load)["itl_s"], rel=1e-9)
    assert np.all(one.log_error("itl_s") < -0.5)


def test_the_discrepancy_covers_what_it_is_asked_to():
    """Residuals of a known spread: the least d for which nine tenths lie within 1.645 sqrt(s^2 + d^2)."""
    left = leave_one_model_out(RUNS, PRIOR, fit(RUNS, PRIOR, CHOSEN))
    wide = [dataclasses.replace(one, predicted={name: 1.3 * value for name, value in one.predicted.items()}) for one in left]
    found = discrepancy(wide)
    for kind, output in (("power", "power_w"), ("energy", "energy_per_output_token_j")):
        errors = np.concatenate([one.log_error(output) for one in wide])
        sds = np.concatenate([one.parameter_log_sd[output] for one in wide])
        inside = np.abs(errors) <= 1.645 * np.hypot(sds, found[kind]) * 1.001
        assert inside.mean() >= 0.88
    assert discrepancy(wide, without="llama-3.1-8b") != found or len(wide) == 1


def test_the_document_is_a_calibration_of_the_accelerator(whole):
    left = leave_one_model_out(RUNS, PRIOR, whole)
    document = calibration_document(whole, "h100_sxm_made-up", ("made up", "2026"), {"kind": ["dense"], "precision": ["bf16"]}, left)
    found = Calibration.model_validate(document)
    assert (found.accelerator, found.engine, found.covers["kind"]) == ("h100_sxm", "vllm", ("dense",))
    assert set(found.coefficients) == set(CHOSEN)
    assert {"time", "power", "energy"} == set(found.discrepancy_log_sd)


def test_what_cannot_be_fitted_is_refused(whole):
    with pytest.raises(CalibrationError, match="no measured runs"):
        fit([], PRIOR)
    with pytest.raises(CalibrationError, match="several accelerators"):
        fit([RUNS[0], made_up("qwen3-8b", accelerator="b200_sxm")], PRIOR, CHOSEN)
    with pytest.raises(CalibrationError, match="above 0"):
        fit([RUNS[0]._replace(measured={**RUNS[0].measured, "itl_s": np.array([1.0, -1.0, 1.0])})], PRIOR, CHOSEN)
    with pytest.raises(CalibrationError, match="at least two models"):
        leave_one_model_out(RUNS[:1], PRIOR, whole)
