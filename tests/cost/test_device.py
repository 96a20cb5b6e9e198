import dataclasses

import pytest

from effsim import catalog
from effsim.cost.device import COEFFICIENTS, build_device, combine, dtypes, peak, prior_for
from effsim.errors import CalibrationError, SpecError
from effsim.specs import loading
from effsim.specs.calibration import Calibration

H100 = loading.accelerator("h100_sxm")
PRIOR = loading.calibration("prior_datacenter_gpu")
SOURCES = {"test": {"title": "A test", "date": "2026"}}


def posterior(names, **changes):
    coefficients = {name: {"value": 0.5, "unit": "1", "log_sd": 0.05, "kind": "fitted", "source": "test"} for name in names}
    return Calibration.model_validate({"name": "mine", "kind": "posterior", "coefficients": coefficients, "sources": SOURCES, **changes})


def test_every_class_of_accelerator_has_a_complete_prior():
    for name in catalog.files("accelerators"):
        prior = prior_for(loading.accelerator(name), "none")
        assert all(getattr(prior.median, coefficient) > 0.0 for coefficient in COEFFICIENTS)
        assert set(prior.discrepancy_log_sd) >= {"time", "power"}
        assert build_device(loading.accelerator(name), prior.median).static_w < loading.accelerator(name).tdp.value


def test_data_sheet_figures_arrive_in_si():
    """H100 SXM: 989 TFLOP/s bf16, 3.35 TB/s, 80 GiB, 700 W, 71 W idle, NVLink 450 GB/s each way, 132 SMs."""
    device = build_device(H100, prior_for(H100, "none").median)
    assert device.peak_flop_per_s["bf16"] == 989e12
    assert device.peak_flop_per_s["bf16:2:4"] == 1979e12
    assert (device.bandwidth_bytes_per_s, device.memory_bytes, device.tdp_w, device.limit_w) == (3.35e12, 80 * 2**30, 700.0, 700.0)
    assert (device.idle_w, device.link_bytes_per_s, device.compute_units) == (71.0, 450e9, 132.0)


def test_static_power_lies_above_idle_by_its_share_of_the_rest():
    coefficients = dataclasses.replace(prior_for(H100, "none").median, static_power=0.2)
    assert build_device(H100, coefficients).static_w == pytest.approx(71.0 + 0.2 * (700.0 - 71.0))


def test_without_an_idle_power_the_coefficient_stands_in():
    unknown = H100.model_copy(update={"idle_power": None})
    coefficients = dataclasses.replace(prior_for(H100, "none").median, idle_power=0.1)
    assert build_device(unknown, coefficients).idle_w == pytest.approx(70.0)


@pytest.mark.parametrize("limit_w", [0.0, -1.0, 199.0, 701.0, float("nan")])
def test_a_power_limit_out_of_range_is_refused(limit_w):
    with pytest.raises(SpecError, match=r"power_limit: .* h100_sxm takes 200 to 700 W"):
        build_device(H100, prior_for(H100, "none").median, limit_w)


def test_substitutes_compute_what_a_device_lacks():
    """V100 has no bf16: its fp16 units stand in, at their rate."""
    v100 = loading.accelerator("v100_sxm2_32gb")
    device = build_device(v100, prior_for(v100, "none").median)
    assert "bf16" not in v100.peak
    assert device.peak_flop_per_s["bf16"] == v100.peak["fp16"].value
    assert "fp8" not in dtypes(v100)
    with pytest.raises(SpecError, match="has no units for fp8; it computes"):
        peak(device, "fp8")


def test_a_posterior_lies_over_the_prior():
    found = combine((PRIOR, posterior(["gemm_efficiency"], accelerator="h100_sxm")), "h100_sxm")
    assert (found.median.gemm_efficiency, found.log_sd["gemm_efficiency"], found.provenance) == (0.5, 0.05, "calibrated")
    assert found.median.memory_efficiency == PRIOR.coefficients["memory_efficiency"].value
    assert combine((PRIOR,), "h100_sxm").provenance == "datasheet"


def test_correlations_are_placed_by_name_and_the_rest_is_independent():
    names = ["memory_efficiency", "gemm_efficiency"]
    found = combine((PRIOR, posterior(names, correlation=[[1.0, 0.4], [0.4, 1.0]])), "h100_sxm").correlation
    place = {name: index for index, name in enumerate(COEFFICIENTS)}
    for one, row in place.items():
        for other, column in place.items():
            expected = 1.0 if one == other else 0.4 if {one, other} == set(names) else 0.0
            assert found[row][column] == expected


def test_strange_coefficients_are_answered_with_the_nearest():
    with pytest.raises(CalibrationError, match=r"no coefficient 'gemm_eficiency'.*gemm_efficiency"):
        combine((PRIOR, posterior(["gemm_eficiency"])), "h100_sxm")


def test_a_calibration_of_another_accelerator_is_refused():
    with pytest.raises(CalibrationError, match=r"is of 'a100_sxm_80gb' and cannot be used for 'h100_sxm'"):
        combine((PRIOR, posterior(["gemm_efficiency"], accelerator="a100_sxm_80gb")), "h100_sxm")


def test_an_incomplete_prior_is_refused():
    with pytest.raises(CalibrationError, match=r"lacks the coefficients .*memory_efficiency"):
        combine((posterior(["gemm_efficiency"], kind="prior"),), "h100_sxm")
