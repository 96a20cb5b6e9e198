"""``effsim capacity`` on the command line: a table, JSON that parses, one line and exit code 2 where there is no capacity."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from effsim.cli import app
from effsim.cost import step
from tests.run.fakes import SCENARIO, fake_step_model

RUN = CliRunner()


@pytest.fixture
def scenario(tmp_path, monkeypatch):
    monkeypatch.setattr(step, "serving_step_model", fake_step_model)
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**SCENARIO, "workload": {**SCENARIO["workload"], "requests": 300}}), encoding="utf-8")
    return str(path)


def test_a_rate(scenario):
    done = RUN.invoke(app, ["capacity", scenario, "--seeds", "2"])
    assert done.exit_code == 0, done.output
    assert "highest rate (requests/s)" in done.output
    assert "ttft_p90" in done.output
    found = json.loads(RUN.invoke(app, ["capacity", scenario, "--seeds", "2", "--json"]).output, parse_constant=pytest.fail)
    assert len(found["rates_per_s"]) == 2
    assert found["low_per_s"] < found["rate_per_s"] < found["high_per_s"]
    assert found["binding"]


def test_replicas(scenario):
    found = json.loads(RUN.invoke(app, ["capacity", scenario, "--rate", "200", "--json"]).output, parse_constant=pytest.fail)
    assert found["replicas"] == max(found["replicas_of_seeds"]) > 2
    assert found["accelerators"] == 4 * found["replicas"]
    table = RUN.invoke(app, ["capacity", scenario, "--rate", "200"]).output
    assert "fails with one less" in table


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rate", "-1"], "rate: expected requests per second above 0"),
        (["--rate", "5", "--entry", "2"], "entry: expected 0 to 0"),
        (["--tolerance", "2"], "tolerance: expected 0.0001 to 0.5"),
    ],
)
def test_bad_options_end_with_2(scenario, options, message):
    done = RUN.invoke(app, ["capacity", scenario, *options])
    assert done.exit_code == 2
    assert message in done.stderr


def test_no_capacity_ends_with_2_and_one_line(scenario, tmp_path):
    path = tmp_path / "hard.yaml"
    path.write_text(yaml.safe_dump({**SCENARIO, "slo": {"e2e_p90": "1 ms"}}), encoding="utf-8")
    done = RUN.invoke(app, ["capacity", str(path)])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "e2e_p90 cannot hold" in done.stderr
    assert "What would lift it: e2e_p90 of" in done.stderr


def test_a_training_scenario_has_none():
    done = RUN.invoke(app, ["capacity", "train-7b-64-a100"])
    assert done.exit_code == 2
    assert "only a serving scenario has a capacity" in done.stderr
