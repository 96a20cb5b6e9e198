"""A calibration from logs: known coefficients come back, blanks take no part, and the file is used."""

import json
from dataclasses import replace

import numpy as np
import pytest

from effsim.calibrate.logs import Measurement, Spread
from effsim.calibrate.logs_fit import fit_logs
from effsim.cost.deployment import Settings, deploy
from effsim.cost.serving import Load, estimate_serving, predict
from effsim.errors import CalibrationError
from effsim.specs import loading
from effsim.workload.operations import Parallelism

BATCHES = (1.0, 4.0, 16.0, 64.0)


@pytest.fixture(scope="module")
def deployment():
    return deploy("qwen3-8b", "l40s", Parallelism(), Settings(engine="vllm", calibration="none"))


def measured(deployment, coefficients, *, power=True):
    load = Load(*(np.array([value] * len(BATCHES)) for value in (1.0, 512.0, 256.0, 2048.0)))._replace(batch=np.array(BATCHES))
    found = predict(deployment, coefficients, load)
    return [
        Measurement(
            f"run {i}",
            "made up",
            batch=batch,
            prompt_tokens=512.0,
            output_tokens=256.0,
            itl=Spread(median_s=float(found["itl_s"][i])),
            output_tokens_per_s=float(batch / found["tpot_s"][i]),
            power_w=float(found["power_w"][i]) if power else None,
        )
        for i, batch in enumerate(BATCHES)
    ]


def test_logs_of_a_known_machine_are_met(deployment):
    median = deployment.prior.median
    truth = replace(median, memory_efficiency=0.8 * median.memory_efficiency, static_power=1.3 * median.static_power)
    found = fit_logs(measured(deployment, truth), deployment, "mine", "2026-11-23", 2048.0)
    assert found.table.error_before_pct.abs().max() > 8.0
    assert found.table.error_after_pct.abs().max() < 2.0
    assert len(found.table) == 3 * len(BATCHES)
    calibration = loading.calibration(found.document)
    spread = {name: one.log_sd for name, one in calibration.coefficients.items()}
    assert spread["memory_efficiency"] < 0.8 * deployment.prior.log_sd["memory_efficiency"]
    assert "scan_efficiency" in calibration.note, "the model has no scan: nothing is learnt about it"


def test_what_is_blank_takes_no_part(deployment):
    found = fit_logs(measured(deployment, deployment.prior.median, power=False), deployment, "mine", "2026-11-23", 2048.0)
    assert set(found.table.quantity) == {"itl_s", "tpot_s"}
    assert found.document["coefficients"]["memory_power"]["value"] == pytest.approx(deployment.prior.median.memory_power, rel=1e-3)


def test_loads_that_state_too_little_are_named(deployment):
    rows = measured(deployment, deployment.prior.median)
    found = fit_logs([rows[1], replace(rows[2], prompt_tokens=None), replace(rows[3], batch=None)], deployment, "mine", "2026-11-23")
    assert [source for source, _ in found.left_out] == ["run 2", "run 3"]
    with pytest.raises(CalibrationError, match="run 0: neither latency nor throughput nor power"):
        fit_logs([replace(rows[0], itl=Spread(), output_tokens_per_s=None, power_w=None)], deployment, "mine", "2026-11-23")


def test_the_command_writes_a_file_that_estimates_take(tmp_path, capsys):
    from effsim.cli import app

    log = {"completed": 100, "output_throughput": 300.0, "mean_ttft_ms": 90.0, "median_itl_ms": 26.0, "max_concurrency": 8, "duration": 60.0}
    (tmp_path / "log.json").write_text(json.dumps({**log, "total_input_tokens": 51_200, "total_output_tokens": 25_600}))
    out = tmp_path / "my_l40s.yaml"
    arguments = ["calibrate", "logs", str(tmp_path / "log.json"), "--accelerator", "l40s", "--model", "qwen3-8b", "-o", str(out), "--json"]
    app(arguments, standalone_mode=False)
    said = json.loads(capsys.readouterr().out)
    assert {row["quantity"] for row in said["loads"]} == {"itl_s", "tpot_s"}
    before, after = (estimate_serving("qwen3-8b", "l40s", batch=8, calibration=calibration) for calibration in ("auto", str(out)))
    assert abs(after.itl_s / 0.026 - 1.0) < abs(before.itl_s / 0.026 - 1.0)
    assert after.provenance == "calibrated"
