"""``effsim optimize parallelism`` from the command line."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from effsim.cli import app

RUN = CliRunner()
JOB = ["optimize", "parallelism", "--model", "llama-2-7b", "--accelerator", "a100_sxm_80gb", "--num-accelerators", "8", "--global-batch-size", "64"]
LIMITS = ["--tp", "2,4", "--cp", "1", "--zero-stage", "1", "--recompute", "none,full", "--micro-batch-size", "1,2"]


def test_limits_comparison_and_files(tmp_path):
    path = tmp_path / "splits.csv"
    done = RUN.invoke(app, [*JOB, *LIMITS, "--top", "4", "--json", "--csv", str(path), "--compare", "tp=4, PP=2, mbs=1"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert {row["tensor_parallel"] for row in document["best"]} <= {2, 4}
    assert document["considered"] == document["feasible"] + sum(document["refused"].values())
    assert document["compared"][0]["given"]["pipeline_parallel"] == 2
    assert pd.read_csv(path).step_time_s.tolist() == pytest.approx([row["step_time_s"] for row in document["best"]])
    assert [one.name for one in tmp_path.iterdir()] == ["splits.csv"]


def test_tables():
    done = RUN.invoke(app, [*JOB, *LIMITS, "--objective", "j-per-token", "--compare", "tp=4,pp=2,zero=1"])
    assert done.exit_code == 0, done.output
    assert "combinations considered" in done.stdout
    assert "pipeline bubble" in done.stdout
    assert "calibration:" in done.stdout


def test_objectives_sort():
    rows = json.loads(RUN.invoke(app, [*JOB, *LIMITS, "--objective", "memory", "--json"]).stdout)["best"]
    sizes = [row["memory_bytes"] for row in rows]
    assert sizes == sorted(sizes)


WRONG = [
    (["--tp", "two"], "--tp: expected whole numbers such as 8 or 2,4,8, got 'two'"),
    (["--tp", ","], "--tp: no value given"),
    (["--sp", "maybe"], "--sp: expected true, false or true,false, got 'maybe'"),
    (["--zero-stage", "4"], "zero_stage: allowed: 0, 1, 2, 3; got 4"),
    (["--schedule", "1f2b"], "pipeline_schedule: did you mean '1f1b'"),
    (["--objective", "tim"], "--objective: did you mean 'time'"),
    (["--compare", "tp8"], "--compare: expected NAME=VALUE"),
    (["--compare", "tpp=8"], "--compare: expected NAME=VALUE with commas between, got 'tpp=8'"),
    (["--compare", ","], "--compare: no dimension given"),
    (["--power-limit", "3 kg"], "--power-limit: expected a power"),
    (["--memory-headroom", "1.5"], "memory_headroom: must be a number"),
    (["--pp", "3"], "they multiply to another number"),
    (["--csv", "/nonexistent/folder/x.csv", *LIMITS], "--csv: cannot write /nonexistent/folder/x.csv"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "")
def test_mistakes_end_with_one_line(given, message):
    done = RUN.invoke(app, [*JOB, *given])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
