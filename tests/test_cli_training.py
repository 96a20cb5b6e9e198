"""``effsim estimate training``: the parts in its tables and in its JSON."""

import json

import pytest
from typer.testing import CliRunner

from effsim.cli import app

RUN = CliRunner()
COMMAND = ["estimate", "training", "--model", "llama-3.1-8b", "--system", "h100_sxm", "-n", "16", "--global-batch-size", "64"]
SPLIT = [*COMMAND, "--tp", "2", "--pp", "2", "--recompute", "full"]


def document(*options):
    result = RUN.invoke(app, [*SPLIT, *options, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_parts_sum_in_json():
    given = document()
    phases = {one["phase"]: one for one in given["phases"]}
    assert sum(one["time_s"] for one in phases.values()) == pytest.approx(given["step_time_s"], rel=1e-9)
    assert phases["forward"]["low_s"] < phases["forward"]["time_s"] < phases["forward"]["high_s"]
    assert phases["expert"]["low_s"] is phases["expert"]["power_w"] is None
    energy = {one["part"]: one for one in given["energy_parts"]}
    assert list(energy) == ["accelerator", "host", "network", "storage"]
    assert energy["accelerator"]["energy_j"] == given["energy_j_per_step"]
    assert sum(one["share"] for one in energy.values()) == pytest.approx(1.0)
    assert energy["host"]["provenance"] == "assumed"
    memory = given["memory_parts"]
    assert sum(part["bytes"] for part in memory["parts"]) == pytest.approx(memory["total_bytes"])
    assert given["memory"]["weights_bytes"] in {part["bytes"] for part in memory["parts"]}
    assert memory["total_bytes"] < memory["device_bytes"] == 80 * 2**30


def test_tables_name_every_part():
    table = RUN.invoke(app, SPLIT).output
    for words in (
        "forward", "backward", "recompute", "exposed, tensor parallel", "exposed, pipeline sends", "exposed, data parallel", "pipeline bubble", "optimizer",
        "accelerators, kW", "J/token", "hosts, fans and power supplies", "network between servers", "storage servers", "memory of the fullest device",
    ):  # fmt: skip
        assert words in table, words
    assert "waiting for data" not in table


def test_slow_storage_shows():
    slow = ["--storage", "nfs", "--data-bytes-per-token", "1e5"]
    assert "waiting for data" in RUN.invoke(app, [*SPLIT, *slow]).output
    assert document(*slow)["step_time_s"] > document()["step_time_s"]


def test_an_unknown_storage_is_one_line():
    result = RUN.invoke(app, [*COMMAND, "--storage", "tectonik"])
    assert result.exit_code == 2
    assert "did you mean 'tectonic'" in result.output
