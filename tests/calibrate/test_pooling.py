"""Pooling of calibrations: the mean and spread by hand."""

import math

import pytest

from effsim.calibrate.pooling import TRANSFER, pooled, pools
from effsim.errors import CalibrationError
from effsim.specs import loading
from effsim.specs.calibration import Calibration


def made(accelerator: str, doubt: float, **values: tuple[float, float]) -> Calibration:
    coefficients = {key: {"value": value, "unit": "1", "log_sd": sd, "kind": "fitted", "source": "fit"} for key, (value, sd) in values.items()}
    return Calibration.model_validate(
        {
            "name": f"{accelerator}_megatron", "kind": "posterior", "accelerator": accelerator, "engine": "megatron", "coefficients": coefficients,
            "sources": {"fit": {"title": "made up", "date": "2026"}}, "discrepancy_log_sd": {"time": doubt},
        }
    )  # fmt: skip


TWO = [made("h100_sxm", 0.1, gemm_efficiency=(0.4, 0.3), link_efficiency=(0.5, 0.1)), made("b200_sxm", 0.2, gemm_efficiency=(0.9, 0.4))]


def test_the_mean_is_geometric_and_the_spread_that_between_and_within() -> None:
    document = pooled(TWO, "prior_datacenter_gpu_megatron", ("datacenter_gpu", "megatron"), "2026-11")
    prior = loading.calibration(document)
    assert list(prior.coefficients) == ["gemm_efficiency"]
    assert prior.coefficients["gemm_efficiency"].value == pytest.approx(0.6)
    between, within = 0.5 * math.log(0.9 / 0.4) ** 2, (0.3**2 + 0.4**2) / 2
    assert prior.coefficients["gemm_efficiency"].log_sd == pytest.approx(math.sqrt(between + within), rel=1e-3)
    assert prior.discrepancy_log_sd == {"time": pytest.approx(TRANSFER * 0.2)}
    assert (prior.kind, prior.device_class, prior.engine) == ("prior", "datacenter_gpu", "megatron")


def test_one_accelerator_or_nothing_in_common_is_refused() -> None:
    with pytest.raises(CalibrationError, match="at least two accelerators are needed, got h100_sxm_megatron"):
        pooled(TWO[:1], "prior_x", ("datacenter_gpu", "megatron"), "2026")
    with pytest.raises(CalibrationError, match="no coefficient in common"):
        pooled([TWO[0], made("gb200", 0.1, scan_efficiency=(0.1, 0.1))], "prior_x", ("datacenter_gpu", "megatron"), "2026")


def test_pools_are_by_class_and_engine() -> None:
    lonely = made("tpu_v4", 0.1, gemm_efficiency=(0.5, 0.1))
    found = pools({one.name: one for one in (*TWO, lonely)}, {"h100_sxm": "datacenter_gpu", "b200_sxm": "datacenter_gpu", "tpu_v4": "tpu"})
    assert {key: [one.accelerator for one in group] for key, group in found.items()} == {("datacenter_gpu", "megatron"): ["h100_sxm", "b200_sxm"]}
