"""``effsim calibrate run`` and ``show`` from file to estimate: intervals shrink, the provenance says where they hold, logs and a real CPU."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from effsim.bench.command import Options, execute
from effsim.bench.run_file import write_run
from effsim.calibrate.combined import joined, story
from effsim.catalog import SPECS_VARIABLE
from effsim.cli import app
from effsim.cost.serving import estimate_serving
from effsim.specs import loading
from tests.calibrate.run_files import blank_run, drawn, measured, prior_of

PRIOR = prior_of(engine="vllm")
NAMES = ("gemm_efficiency", "memory_efficiency", "attention_memory_efficiency", "gemm_kernel_s", "static_power", "busy_power", "memory_power")
TRUTH = drawn(PRIOR, np.random.default_rng(11), NAMES)
LOAD = {"batch": 32, "prompt_tokens": 512, "output_tokens": 256}
OUTPUTS = ("itl_s", "tpot_s", "power_w", "energy_per_output_token_j")


def run(*arguments):
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)])


def read_json(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout, parse_constant=pytest.fail)


def width(estimate, output):
    low, high = estimate.interval(output, 0.9)
    return high / low


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "run.json"
    write_run(path, measured(TRUTH, np.random.default_rng(12)))
    return path


@pytest.fixture(scope="module")
def calibrated(bench):
    out = bench.parent / "mine.yaml"
    assert run("run", bench, "--engine", "vllm", "-o", out).exit_code == 0
    return out


def test_intervals_of_estimates_shrink_and_move_towards_the_truth(calibrated):
    serving = {"model": "llama-3.1-8b", "accelerator": "h100_sxm", "precision": "bf16", **LOAD}
    truth = {key: {"value": getattr(TRUTH, key), "unit": "1", "log_sd": 0.0, "kind": "assumed", "source": "x"} for key in NAMES}
    truth["gemm_kernel_s"]["unit"] = "s"
    known = {"name": "truth", "kind": "posterior", "accelerator": "h100_sxm", "engine": "vllm", "coefficients": truth}
    known["sources"] = {"x": {"title": "made up", "date": "2026"}}
    empty = {**known, "name": "empty", "coefficients": {}}
    want, before, after = (estimate_serving(**serving, calibration=one) for one in (known, empty, str(calibrated)))
    sheet = estimate_serving(**serving, calibration="none")
    for name in OUTPUTS:
        assert width(after, name) < width(sheet, name), name
        assert abs(getattr(after, name) / getattr(want, name) - 1.0) < 0.06, name
        low, high = after.interval(name, 0.9)
        assert low < getattr(want, name) < high
    for name in ("power_w", "energy_per_output_token_j"):  # of times, the engine's host and what the model cannot explain remain
        assert width(after, name) < 0.95 * width(before, name), name


def test_inside_what_was_measured_it_is_calibrated_and_outside_transferred(calibrated):
    inside = estimate_serving("llama-3.1-8b", "h100_sxm", precision="bf16", calibration=str(calibrated), **LOAD)
    assert inside.provenance == "calibrated"
    for model, precision in (("nemotron-nano-9b-v2", "bf16"), ("llama-3.1-8b", "int4")):
        outside = estimate_serving(model, "h100_sxm", precision=precision, calibration=str(calibrated), **LOAD)
        assert outside.provenance == "transferred"
    narrow = loading.calibration(str(calibrated)).model_copy(update={"covers": {"kind": ("moe",)}})
    wide = estimate_serving("llama-3.1-8b", "h100_sxm", precision="bf16", calibration=narrow, **LOAD)
    assert width(wide, "tpot_s") > width(inside, "tpot_s")


def test_in_the_users_folder_it_is_found_by_itself(bench, tmp_path, monkeypatch):
    out = tmp_path / "calibrations" / "h100_sxm_vllm.yaml"
    assert run("run", bench, "--engine", "vllm", "-o", out).exit_code == 0
    shipped = estimate_serving("llama-3.1-8b", "h100_sxm", precision="bf16", **LOAD)
    monkeypatch.setenv(SPECS_VARIABLE, str(tmp_path))
    own = estimate_serving("llama-3.1-8b", "h100_sxm", precision="bf16", **LOAD)
    named = estimate_serving("llama-3.1-8b", "h100_sxm", precision="bf16", calibration=str(out), **LOAD)
    assert own.tpot_s == named.tpot_s != shipped.tpot_s


def test_what_a_file_says_of_itself(calibrated):
    told = read_json(run("show", calibrated, "--json"))
    one = next(p for p in told["parameters"] if p["name"] == "memory_efficiency")
    assert one["shrinkage"] == pytest.approx(1.0 - one["log_sd"] / one["prior_log_sd"])
    assert one["prior"] == pytest.approx(PRIOR.median.memory_efficiency, rel=1e-3)
    assert told["covers"] == {"kind": ["dense", "moe"], "precision": ["bf16", "fp16", "fp8", "int8"]}
    errors = [abs(row["error_ratio"]) for row in told["worst_residuals"]]
    assert errors == sorted(errors, reverse=True)
    assert told["files"][0]["device"] == "NVIDIA H100 80GB HBM3"
    text = run("show", calibrated).stdout
    assert "memory_efficiency" in text
    assert "rows not fitted, predicted" in text
    assert "covers kind: dense, moe" in text


def test_a_file_without_an_account_is_set_against_class_and_engine():
    told = read_json(run("show", "h100_sxm_vllm", "--json"))
    assert all(one["shrinkage"] is not None for one in told["parameters"])
    assert told["rows"] is None
    assert read_json(run("show", "prior_cpu", "--json"))["parameters"][0]["shrinkage"] is None


def log_of(coefficients, folder):
    """Write a plain CSV of loads of Llama 3.1 8B on a machine with these coefficients."""
    truth = {"name": "truth", "kind": "posterior", "accelerator": "h100_sxm", "engine": "vllm", "sources": {"x": {"title": "made up", "date": "2026"}}}
    units = loading.calibration("prior_datacenter_gpu").coefficients
    values = {name: {"value": getattr(coefficients, name), "unit": units[name].unit, "log_sd": 0.0, "kind": "assumed", "source": "x"} for name in units}
    lines = ["batch,prompt_tokens,output_tokens,output_tokens_per_s,itl_median_s,power_w"]
    for batch in (1, 8, 32, 64, 128):
        one = estimate_serving("llama-3.1-8b", "h100_sxm", precision="bf16", calibration={**truth, "coefficients": values}, **{**LOAD, "batch": batch})
        lines.append(f"{batch},512,256,{one.output_tokens_per_s},{one.itl_s},{one.power_w}")
    path = folder / "log.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_logs_and_microbenchmarks_together_know_more_than_either(bench, calibrated, tmp_path):
    truth = dataclasses.replace(TRUTH, host_overhead_factor=1.6 * TRUTH.host_overhead_factor)
    log = log_of(truth, tmp_path)
    both = tmp_path / "both.yaml"
    options = ("--model", "llama-3.1-8b", "--precision", "bf16")
    told = read_json(run("run", bench, "--with", log, *options, "--engine", "vllm", "-o", both, "--json"))
    assert {row["quantity"] for row in loading.calibration(str(both)).account.model_dump()["residuals"]} >= {"time", "power", "itl_s", "tpot_s", "power_w"}
    assert [Path(one["name"]).name for one in told["files"]] == ["run.json", "log.csv"]
    assert run("logs", log, "--accelerator", "h100_sxm", *options, "--from", "prior_datacenter_gpu_vllm", "-o", tmp_path / "logs.yaml").exit_code == 0
    widths = {}
    for path in (calibrated, tmp_path / "logs.yaml", both):
        found = estimate_serving("llama-3.1-8b", "h100_sxm", precision="bf16", calibration=str(path), **LOAD)
        widths[path.stem] = width(found, "itl_s")
    assert widths["both"] < min(widths["mine"], widths["logs"])
    host = next(one for one in told["parameters"] if one["name"] == "host_overhead_factor")
    assert host["value"] > host["prior"], "kernels say nothing of the host; the logs do"


def test_a_joined_account_names_what_neither_moved():
    def part(sd, *, prior_sd):
        coefficients = {"a": {"log_sd": sd[0]}, "b": {"log_sd": sd[1]}}
        account = {"start": {key: {"value": 1.0, "log_sd": prior_sd} for key in coefficients}, "files": [], "rows": 3, "residuals": []}
        return {"note": "x", "sources": {}, "coefficients": coefficients, "account": account}

    found = joined(part((0.1, 0.5), prior_sd=0.5), part((0.1, 0.48), prior_sd=0.5))
    assert found["account"]["unidentified"] == ["b"]
    assert found["account"]["rows"] == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--with", "log.csv"), "--model"),
        (("--accelerator", "h100_smx"), "did you mean 'h100_sxm'"),
        (("--engine", "vlm"), "vllm"),
        (("--from", "h200_sxm_vllm_kernels"), "cannot be used for 'h100_sxm'"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(bench, tmp_path, arguments, said):
    result = run("run", bench, *arguments, "-o", tmp_path / "new.yaml")
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


MY_CPU = """
name: my_cpu
vendor: whoever
device_class: cpu
architecture: any
memory: {{value: 4 GiB, kind: assumed, source: here}}
memory_bandwidth: {{value: 25 GB/s, kind: assumed, source: here}}
peak: {{fp32: {{value: 100 GFLOP/s, kind: assumed, source: here}}}}
tdp: {{value: 20 W, kind: assumed, source: here}}
compute_units: {cores}
sources: {{here: {{title: "Orders of magnitude for a test", date: "2026-11"}}}}
"""


def test_a_real_run_of_this_processor_becomes_a_calibration(tmp_path):
    taken, path = execute(Options(quick=True, library="numpy", only=("copy", "gemm"), output=tmp_path / "cpu.json", limit_s=20.0))
    (tmp_path / "my_cpu.yaml").write_text(MY_CPU.format(cores=taken.device["compute_units"]), encoding="utf-8")
    out = tmp_path / "cpu_now.yaml"
    told = read_json(run("run", path, "--accelerator", tmp_path / "my_cpu.yaml", "-o", out, "--json"))
    assert told["rows"]["used"] >= 1
    moved = {one["name"] for one in told["parameters"] if one["shrinkage"] is not None}
    assert all(one["shrinkage"] > 0.0 for one in told["parameters"] if one["shrinkage"] is not None)
    assert {"memory_efficiency", "gemm_efficiency"} <= moved | set(told["unidentified"]), "a busy machine may leave them at the prior, but says so"
    assert told["files"][0]["device"] == taken.device["model"]
    estimate = estimate_serving("smollm-135m", str(tmp_path / "my_cpu.yaml"), precision="fp32", engine="llama_cpp", calibration=str(out), batch=1)
    assert estimate.provenance == "transferred", "attention was not measured"
    assert story(loading.calibration(str(out)))["covers"] == {"kind": [], "precision": []}


def test_a_blank_run_of_another_version_is_read(tmp_path):
    write_run(tmp_path / "run.json", blank_run(libraries={}))
    assert run("run", tmp_path / "run.json", "-o", tmp_path / "x.yaml").exit_code == 0
