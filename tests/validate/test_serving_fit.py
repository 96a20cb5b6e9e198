"""Serving calibrations: what is shipped, and what the tiers of predictions are allowed to see."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from effsim.errors import CalibrationError
from effsim.specs import loading
from effsim.validate import serving_fit
from effsim.validate.mlenergy import read, runs

ROWS = "mlenergy_v3_given.csv"
MODELS = ("Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-32B")


@pytest.fixture(scope="module")
def few(tmp_path_factory, reference_file):
    """Three dense models with three batches each, of the given rows."""
    rows = pd.read_csv(reference_file(ROWS))
    kept = rows[(rows.host_bound == 0) & rows.model_id.isin(MODELS) & (rows.task == "lm-arena-chat")]
    kept = kept.groupby(["gpu", "model_id", "num_gpus"]).head(3)
    found = tmp_path_factory.mktemp("rows") / "few.csv"
    kept.to_csv(found, index=False, quoting=csv.QUOTE_MINIMAL)
    return found


@pytest.fixture(scope="module")
def table(few):
    return serving_fit.tiers(few)


def test_every_tier_predicts_every_load(table, few):
    loads = len(read(few))
    assert set(table.tier) == {"data sheet", "engine prior", "kernels", "other models", "other accelerator"}
    assert (table.groupby(["tier", "output"]).size() == loads).all()
    assert (table.low < table.predicted).all()
    assert (table.predicted < table.high).all()


def test_knowing_more_narrows_the_interval(table):
    width = serving_fit.summary(table, ("tier", "gpu")).pivot_table(index=["gpu", "output"], columns="tier", values="median_width")
    assert (width["kernels"] < width["data sheet"]).all()
    assert (width["other models"] < width["kernels"]).loc["h100_sxm"].all()


def test_summary_by_hand():
    rows = pd.DataFrame(
        {"tier": "a", "output": "itl_s", "measured": [1.0, 2.0], "predicted": [1.1, 1.0], "low": [0.9, 0.9], "high": [1.2, 1.2], "error": [0.1, -0.5]}
    )
    (line,) = serving_fit.summary(rows, ("tier",)).to_dict(orient="records")
    assert line["mape_pct"] == pytest.approx(30.0)
    assert line["inside_90_pct"] == 50.0
    assert line["median_width"] == pytest.approx(1.2 / 0.9)


@pytest.mark.parametrize(("gpu", "limits"), [("H100", (7.0, 7.0, 12.0)), ("B200", (14.0, 12.0, 14.0))])
def test_shipped_calibrations_describe_the_rows_that_they_were_fitted_to(gpu, limits, reference_file):
    """A record, not a validation: mean absolute errors of ITL, TPOT and power in sample, host noise of B200 included."""
    errors = []
    for one in runs(read(Path(reference_file(ROWS))), gpu):
        found = serving_fit.predicted_by(one.deployment.prior, one)
        errors.append(np.stack([found.log_error(output) for output in ("itl_s", "tpot_s", "power_w")]))
        assert one.deployment.prior.provenance == "calibrated"
    assert np.all(100.0 * np.abs(np.expm1(np.concatenate(errors, axis=1))).mean(axis=1) < limits)


@pytest.mark.parametrize("name", ["a100_sxm_80gb", "h100_sxm", "h200_sxm", "b200_sxm", "l40s", "rtx_pro_6000_server"])
def test_kernel_calibrations_are_shipped_with_their_account(name):
    found = loading.calibration(f"{name}_vllm_kernels")
    assert (found.accelerator, found.engine, found.kind) == (name, "vllm", "posterior")
    assert "mean absolute error" in (found.note or "")
    matrix = np.array(found.correlation)
    assert np.allclose(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > -1e-3  # rounded to three digits


def test_rows_of_no_known_accelerator_are_refused(few):
    with pytest.raises(CalibrationError, match="the benchmark has H100, B200"):
        serving_fit.document(few, "MI300X")


def test_choice_of_a_configuration_by_hand():
    """Without a limit B takes 1.0 J measured and A 2.0; the prediction picks A, and pays twice. Under 20 ms B has only its batch of 8
    (3.0 J), A is best by both.
    """
    lines = []
    for name, batch, itl_s, measured_j, predicted_j in (("m t 1 x A", 8, 0.01, 2.0, 2.0), ("m t 1 x B", 8, 0.01, 3.0, 3.0), ("m t 1 x B", 64, 0.05, 1.0, 2.5)):
        common = {"tier": "one", "configuration": name, "batch": float(batch)}
        lines.append({**common, "output": "itl_s", "measured": itl_s, "predicted": itl_s})
        lines.append({**common, "output": "energy_per_output_token_j", "measured": measured_j, "predicted": predicted_j})
    (line,) = serving_fit.configuration_choices(pd.DataFrame(lines), (0.02, float("inf"))).to_dict(orient="records")
    assert line == {"tier": "one", "choices": 2, "top_1_pct": 50.0, "mean_regret_pct": 50.0}
