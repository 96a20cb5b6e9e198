"""From run files to a calibration: known machines are recovered, what tells nothing stays out, what is wrong is refused."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effsim.bench.kernels import gemm
from effsim.bench.run_file import write_run
from effsim.calibrate import bench_rows
from effsim.calibrate.bench_rows import predictor, readings
from effsim.calibrate.least_squares import Data, Posterior, posterior
from effsim.calibrate.run_file import (
    FITTED,
    INFORMED,
    accelerator_of,
    calibration_document,
    covered,
    engine_of,
    fit,
    fit_readings,
    read_files,
    spreads,
    start_of,
)
from effsim.cost.device import build_device, combine
from effsim.cost.kernels import overlap, tile_quantization
from effsim.errors import CalibrationError, SpecError, UnknownNameError
from effsim.specs import loading
from tests.calibrate.run_files import ALONE, blank_run, drawn, measured, prior_of

H100 = loading.accelerator("h100_sxm")
PRIOR = prior_of()
NAMES = [name for name in FITTED if PRIOR.log_sd[name] > 0.0]


def fitted(run, prior=PRIOR):
    return fit_readings(readings(run, H100), H100, ALONE, prior)


def written(folder, run, name="run.json"):
    write_run(folder / name, run)
    return read_files([folder / name])


@pytest.fixture(scope="module")
def seeds():
    """Fits to runs of ten machines drawn from the prior."""
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        truth = drawn(PRIOR, rng, NAMES)
        found.append((truth, fitted(measured(truth, rng))))
    return found


def test_intervals_hold_the_truth_about_as_often_as_they_say(seeds):
    """Of all coefficients that the rows determine, over ten machines: a 90 % interval; binomial bounds for about 140 of them."""
    inside = [
        abs(math.log(found.posterior.median[name] / getattr(truth, name))) < 1.645 * found.posterior.log_sd[name]
        for truth, found in seeds
        for name in found.posterior.coefficients
        if found.posterior.log_sd[name] < INFORMED * PRIOR.log_sd[name]
    ]
    assert len(inside) > 100
    assert 0.83 < np.mean(inside) <= 1.0


def test_what_was_measured_is_known_better_than_before(seeds):
    for _, found in seeds:
        for name in ("gemm_efficiency", "memory_efficiency", "attention_memory_efficiency", "static_power", "compute_power", "memory_power"):
            assert found.posterior.log_sd[name] < 0.4 * PRIOR.log_sd[name], name


def test_the_rows_and_those_not_fitted_are_met(seeds):
    """Noise of 4 %: the fit's own rows, and the transformer that it has not seen."""
    for _, found in seeds:
        assert np.nanmedian(np.abs(found.log_errors)) < 0.05
        assert found.checks.shape == (2, 5)
        assert np.nanmax(np.abs(found.checks)) < 0.2


def test_what_no_row_tells_of_stays_at_the_prior_and_is_named(seeds, tmp_path):
    truth, _ = seeds[0]
    run = measured(truth, np.random.default_rng(0), metered=False)
    files = written(tmp_path, run)
    prior, layers = start_of(H100)
    document = calibration_document(fit(files, H100, prior), "mine", H100, layers, files, None)
    loading.calibration(document)
    silent = document["account"]["unidentified"]
    assert {"static_power", "memory_power", "link_efficiency", "collective_latency_factor"} <= set(silent)
    assert not set(silent) & set(document["coefficients"])
    assert all(name in document["note"] for name in silent)


def test_without_noise_the_truth_is_found():
    truth = dataclasses.replace(PRIOR.median, gemm_efficiency=0.62, memory_efficiency=0.81, attention_memory_efficiency=0.7, static_power=0.2, memory_power=0.3)
    found = fitted(measured(truth, np.random.default_rng(1), noise=0.0)).posterior.median
    for name in ("gemm_efficiency", "memory_efficiency", "attention_memory_efficiency", "static_power", "memory_power"):
        assert found[name] == pytest.approx(getattr(truth, name), rel=0.03), name


@settings(max_examples=15)
@given(st.floats(0.3, 0.9), st.integers(1, 4096))
def test_a_product_takes_what_the_equations_say(efficiency, m):
    """By hand: fixed time, and arithmetic against traffic."""
    case = gemm.case((m, 4096, 4096), "bf16")
    run = blank_run()
    row = dataclasses.replace(run.rows[0], kind="gemm", dtype="bf16", shape=case.shape, flop=case.flop, bytes=case.bytes, duty_ratio=1.0, power_w=None)
    c = dataclasses.replace(PRIOR.median, gemm_efficiency=efficiency)
    device = build_device(H100, c)
    compute_s = case.flop / (device.peak_flop_per_s["bf16"] * efficiency) * tile_quantization(m, 1.0, 4096.0, 4096.0, 132.0)
    vector_s = case.flop / (device.peak_flop_per_s["fp32"] * c.vector_efficiency)
    compute_s = min(compute_s, vector_s) if m <= 8 else compute_s
    memory_s = case.bytes / (c.memory_efficiency * device.bandwidth_bytes_per_s)
    found, _ = predictor(readings(dataclasses.replace(run, rows=(row,)), H100).fitted, H100, ALONE)(dataclasses.replace(c, static_power=1e-3))
    assert found[0] == pytest.approx(c.gemm_kernel_s + overlap(compute_s, memory_s, c.overlap_softness)[0], rel=1e-6)


def test_a_share_of_the_window_draws_that_share_above_static_power():
    run = measured(PRIOR.median, np.random.default_rng(2), noise=0.0)
    found = readings(run, H100).fitted
    _, power_w = predictor(found, H100, ALONE)(PRIOR.median)
    static_w = build_device(H100, PRIOR.median).static_w
    duty = {one.row.duty_ratio: watts for one, watts in zip(found, power_w, strict=True) if one.row.kind == "gemm_duty"}
    whole = next(w for one, w in zip(found, power_w, strict=True) if one.row.kind == "gemm" and one.row.shape == {"m": 8192, "n": 8192, "k": 8192})
    assert len(duty) == 5
    for share, watts in duty.items():
        assert watts == pytest.approx(static_w + share * (whole - static_w), rel=0.01)


def test_rows_that_tell_nothing_of_engines_are_counted_with_the_reason():
    found = readings(blank_run(), H100)
    assert found.aside[bench_rows.CHECKED] == len(found.checks) == 5
    assert found.aside[bench_rows.UNFUSED] == 6
    assert found.aside[bench_rows.DTYPE] == 8
    assert {one.row.dtype for one in found.fitted if one.row.kind == "gemm"} == {"bf16", "fp16", "fp8", "int8"}
    numpy_run = dataclasses.replace(blank_run(), rows=tuple(dataclasses.replace(row, implementation="numpy, scores in memory") for row in blank_run().rows))
    assert not [one for one in readings(numpy_run, H100).fitted if "attention" in one.row.kind]


def test_of_two_methods_the_faster_counts():
    run = blank_run()
    faster = tuple(dataclasses.replace(row, time_s=5e-4) if row.shape.get("method") == "flex" else row for row in run.rows)
    methods = [one.row.shape["method"] for one in readings(dataclasses.replace(run, rows=faster), H100).fitted if one.row.kind == "decode_attention"]
    assert methods.count("flex") == 2


def test_calls_issued_from_python_count_only_where_the_kernel_is_longer():
    run = blank_run()
    rows = tuple(dataclasses.replace(row, launch="eager", time_s=6e-6 if row.shape.get("mode") == "issued" else row.time_s) for row in run.rows)
    short = tuple(dataclasses.replace(row, time_s=8e-6) if row.kind == "gemm" and row.shape["m"] == 1 else row for row in rows)
    found = readings(dataclasses.replace(run, rows=short), H100)
    kept = [one.row for one in found.fitted]
    assert not [row for row in kept if row.kind == "launch"]
    assert not [row for row in kept if row.kind == "gemm" and row.shape["m"] == 1]
    assert [row for row in kept if row.kind == "gemm"]


def changed(run, kind, **changes):
    return dataclasses.replace(run, rows=tuple(dataclasses.replace(row, **changes) if row.kind == kind else row for row in run.rows))


def test_throttled_and_wide_rows_weigh_less_and_are_counted(tmp_path):
    run = measured(PRIOR.median, np.random.default_rng(3))
    run = changed(run, "read", notes=("throttled by temperature",))
    run = dataclasses.replace(
        run, rows=tuple(dataclasses.replace(row, time_low_s=0.6 * row.time_s, time_high_s=1.5 * row.time_s) if row.kind == "copy" else row for row in run.rows)
    )
    found = readings(run, H100)
    weights = {one.row.kind: one.weight for one in found.fitted}
    assert weights["read"] == pytest.approx(0.25, rel=0.01)
    assert weights["copy"] < 0.8 * weights["gemm"]
    assert weights["gemm"] > 0.99
    files = written(tmp_path, run)
    prior, layers = start_of(H100)
    told = calibration_document(fit(files, H100, prior), "mine", H100, layers, files, None)["account"]
    assert (told["throttled"], told["wide"]) == (4, 5)


def test_a_throttled_row_that_is_far_off_moves_little():
    run = measured(PRIOR.median, np.random.default_rng(4))
    off = dataclasses.replace(run, rows=tuple(dataclasses.replace(row, time_s=3.0 * row.time_s) if row.kind == "read" else row for row in run.rows))
    noted = changed(off, "read", notes=("throttled by temperature",))
    plain, said = (abs(math.log(fitted(one).posterior.median["memory_efficiency"] / PRIOR.median.memory_efficiency)) for one in (off, noted))
    assert said < plain


def test_going_on_from_a_calibration_keeps_what_it_knew(tmp_path):
    first = written(tmp_path, measured(PRIOR.median, np.random.default_rng(5)))
    prior, layers = start_of(H100)
    one = calibration_document(fit(first, H100, prior), "first", H100, layers, first, None)
    again, both = start_of(H100, base=loading.calibration(one))
    second = written(tmp_path, measured(PRIOR.median, np.random.default_rng(6)), "second.json")
    found = fit(second, H100, again)
    two = calibration_document(found, "second", H100, both, second, None)
    assert set(one["coefficients"]) <= set(two["coefficients"])
    assert all(two["coefficients"][key]["log_sd"] <= before["log_sd"] * 1.001 for key, before in one["coefficients"].items())
    assert two["account"]["prior"] == ["prior_datacenter_gpu", "first"]
    shipped, _ = start_of(H100, "vllm", "h100_sxm_vllm")
    serving = calibration_document(fit(first, H100, shipped), "third", H100, start_of(H100, "vllm", "h100_sxm_vllm")[1], first, "vllm")
    assert "eager_experts_s" in serving["coefficients"], "what no kernel tells of is taken over"
    loading.calibration(serving)


def test_stated_spreads_lie_between_the_posterior_and_the_prior():
    found = fitted(measured(PRIOR.median, np.random.default_rng(7)))
    assert all(found.posterior.log_sd[name] <= sd <= PRIOR.log_sd[name] + 1e-12 for name, sd in spreads(found.posterior).items())
    matrix = np.array(found.posterior.correlation)
    assert np.linalg.eigvalsh(matrix).min() > -1e-9


def test_kinds_and_precisions_that_were_measured():
    assert covered(readings(blank_run(), H100)) == {"kind": ["dense", "moe"], "precision": ["bf16", "fp16", "fp8", "int8"]}
    few = dataclasses.replace(blank_run(), rows=tuple(row for row in blank_run().rows if row.kind in {"gemm", "copy"}))
    assert covered(readings(few, H100)) == {"kind": [], "precision": []}


def test_the_accelerator_is_found_by_the_drivers_name(tmp_path):
    assert accelerator_of(written(tmp_path, blank_run())).name == "h100_sxm"
    assert accelerator_of(written(tmp_path, blank_run("No such thing")), "h100_sxm").name == "h100_sxm"


def test_a_device_that_no_catalog_has_is_named_with_the_nearest(tmp_path):
    with pytest.raises(CalibrationError, match=r"'NVIDIA H100 80GB HBM9' is in no catalog; did you mean .*nvidia-h100-80gb-hbm3.*--accelerator"):
        accelerator_of(written(tmp_path, blank_run("NVIDIA H100 80GB HBM9")))
    with pytest.raises(UnknownNameError, match="h100_sxm"):
        accelerator_of(written(tmp_path, blank_run("x"), "x.json"), "h100_smx")


def test_another_device_than_measured_is_refused(tmp_path):
    files = written(tmp_path, blank_run())
    with pytest.raises(CalibrationError, match=r"h200_sxm given, but .* NVIDIA H100 80GB HBM3, which is h100_sxm"):
        accelerator_of(files, "h200_sxm")
    other = written(tmp_path, blank_run("NVIDIA H200"), "other.json")
    with pytest.raises(CalibrationError, match="several devices"):
        accelerator_of([*files, *other])
    cpu = blank_run("AMD EPYC", device={"kind": "cpu", "model": "AMD EPYC", "compute_units": 2})
    with pytest.raises(CalibrationError, match="used 2 threads, but epyc_9654 has 96 cores"):
        accelerator_of(written(tmp_path, cpu, "cpu.json"), "epyc_9654")
    named = blank_run("Intel Xeon Platinum 8480+", device={"kind": "cpu", "model": "Intel Xeon Platinum 8480+", "compute_units": 8})
    with pytest.raises(CalibrationError, match="used 8 threads, but xeon_8480_plus has 56 cores"):
        accelerator_of(written(tmp_path, named, "xeon.json"))
    with pytest.raises(CalibrationError, match=r"is a datacenter_gpu, but .* was measured on a cpu"):
        accelerator_of(written(tmp_path, cpu, "cpu.json"), "h100_sxm")


def test_altered_twice_given_and_empty_files_are_refused(tmp_path):
    files = written(tmp_path, blank_run())
    with pytest.raises(CalibrationError, match="holds the same run as"):
        read_files([files[0].path, files[0].path])
    text = files[0].path.read_text(encoding="utf-8")
    (tmp_path / "altered.json").write_text(text.replace('"m": 8192', '"m": 8191'), encoding="utf-8")
    with pytest.raises(SpecError, match="altered"):
        read_files([tmp_path / "altered.json"])
    (tmp_path / "cut.json").write_text(text[:1000], encoding="utf-8")
    with pytest.raises(SpecError, match="cut short"):
        read_files([tmp_path / "cut.json"])
    nothing = written(tmp_path, dataclasses.replace(blank_run(), rows=()), "empty.json")
    with pytest.raises(CalibrationError, match="nothing to fit: no rows"):
        fit(nothing, H100, PRIOR)


def test_an_unfinished_run_and_its_idle_power_are_remarked(tmp_path):
    run = dataclasses.replace(measured(PRIOR.median, np.random.default_rng(8)), status="interrupted")
    run = changed(run, "idle", power_w=80.0)
    files = written(tmp_path, run)
    prior, layers = start_of(H100)
    told = calibration_document(fit(files, H100, prior), "mine", H100, layers, files, None)["account"]
    assert told["remarks"] == ["run.json: the run is interrupted", "idle: 80 W measured, 71 W on the data sheet, which the model takes"]
    assert told["files"][0]["software"]["driver"] == "580.65"
    assert json.loads(json.dumps(told)) == told


def test_a_calibration_of_another_engine_or_accelerator_is_no_start():
    with pytest.raises(CalibrationError, match="h100_sxm_vllm is of the engine vllm, --engine says sglang"):
        start_of(H100, "sglang", "h100_sxm_vllm")
    with pytest.raises(CalibrationError, match="cannot be used for 'h200_sxm'"):
        start_of(loading.accelerator("h200_sxm"), "vllm", "h100_sxm_vllm")


def test_what_the_prior_switches_off_stays_off_under_another_prior(tmp_path):
    """Powers were fitted without those of busy units: laid over a prior that has them, they must not count twice."""
    files = written(tmp_path, measured(PRIOR.median, np.random.default_rng(9)))
    prior, layers = start_of(H100)
    calibration = loading.calibration(calibration_document(fit(files, H100, prior), "mine", H100, layers, files, None))
    under = combine((*start_of(H100, "vllm")[1], calibration), "h100_sxm")
    assert under.median.busy_power == PRIOR.median.busy_power < 1e-3
    assert under.log_sd["busy_power"] == 0.0
    assert calibration.coefficients["busy_power"].source == "prior"


def test_the_engine_is_the_usual_one_where_its_kernels_are_known():
    assert engine_of(H100, None) == "vllm"
    assert engine_of(H100, "sglang") == "sglang"
    assert engine_of(loading.accelerator("epyc_9654"), None) is None


def test_correlated_coefficients_are_held_together():
    """Two coefficients, one measurement of the first: the second follows by its correlation, ``rho (1 - s^2)`` as in a normal."""
    spread = 0.3
    prior = dataclasses.replace(PRIOR, log_sd={**PRIOR.log_sd, "gemm_kernel_s": spread, "attention_kernel_s": spread})
    names, rho, shift, noise = ("gemm_kernel_s", "attention_kernel_s"), 0.8, 0.1, 0.1

    def log_errors(c):
        return np.array([[math.log(c.gemm_kernel_s / prior.median.gemm_kernel_s) - shift]])

    held = np.array([[1.0, rho], [rho, 1.0]])
    found = posterior(Data(log_errors, np.ones(1), (noise,), held), prior, names, _started(prior, names, noise))
    moved = {name: math.log(found.median[name] / getattr(prior.median, name)) for name in names}
    gain = spread**2 / (spread**2 + noise**2)
    assert moved["gemm_kernel_s"] == pytest.approx(gain * shift, rel=0.02)
    assert moved["attention_kernel_s"] == pytest.approx(rho * moved["gemm_kernel_s"], rel=0.02)
    assert found.log_sd["attention_kernel_s"] == pytest.approx(spread * math.sqrt(1.0 - rho**2 * gain), rel=0.02)


def _started(prior, names, noise):
    return Posterior(names, {name: getattr(prior.median, name) for name in names}, {}, (), (noise,), prior)


@pytest.mark.parametrize(
    ("kind", "shape", "said"),
    [
        ("gemm", {"m": 8, "n": 8}, "row gemm bf16 m=8 n=8: k must be a whole number above 0, got None"),
        ("gemm", {"m": 8, "n": "x", "k": 8}, "n must be a whole number above 0, got 'x'"),
        ("all_reduce", {"elements": 2**20, "devices": 1}, "devices must be at least 2, got 1"),
    ],
)
def test_rows_without_their_shape_are_refused(kind, shape, said):
    row = dataclasses.replace(blank_run().rows[1], kind=kind, dtype="bf16", shape=shape, bytes=2.0**22)
    with pytest.raises(CalibrationError, match=said):
        readings(dataclasses.replace(blank_run(), rows=(row,)), H100)


def test_a_row_of_a_kind_to_come_is_set_aside():
    row = dataclasses.replace(blank_run().rows[1], kind="novel", shape={})
    assert readings(dataclasses.replace(blank_run(), rows=(row,)), H100).aside == {bench_rows.STRANGE: 1}


def test_the_device_facts_may_be_absent():
    run = dataclasses.replace(blank_run(), device={"kind": "cuda", "model": "NVIDIA H100 80GB HBM3", "cache_bytes": "much"})
    assert readings(run, H100).fitted
