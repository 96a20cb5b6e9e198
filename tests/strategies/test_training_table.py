"""The table of choices, beside direct estimates."""

import json
import math

import pytest
from typer.testing import CliRunner

from effsim.cli import app
from effsim.cost.training import estimate_training
from effsim.errors import SpecError, UnknownNameError
from effsim.strategies import registry
from effsim.strategies.job import TrainingJob
from effsim.strategies.training_table import choices, settings

GIVEN = {"num_accelerators": 8, "global_batch_size": 64, "micro_batch_size": 2}
JOB = TrainingJob("llama-3.2-1b", "h100_sxm", **GIVEN, tokens=2e10)


@pytest.fixture(scope="module")
def table():
    return choices(JOB)


def row(table, choice, setting):
    (found,) = table[(table.choice == choice) & (table.setting == setting)].to_dict(orient="records")
    return found


def test_the_base_comes_first(table):
    first = table.iloc[0]
    direct = estimate_training("llama-3.2-1b", "h100_sxm", **GIVEN)
    assert (first.choice, first.energy_ratio, first.energy_ratio_low, first.energy_ratio_high, first.server_energy_ratio) == ("base", 1.0, 1.0, 1.0, 1.0)
    assert first.step_time_s == direct.step_time_s
    assert first.energy_j_per_step == direct.energy_j_per_step
    assert first.memory_bytes == direct.memory.total_bytes
    assert first.energy_j == pytest.approx(direct.energy_per_token_j * 2e10)


def test_one_row_for_every_value_but_the_neutral(table):
    for name in registry.names():
        module = registry.choice(name)
        expected = [knobs for knobs in settings(module) if knobs != module.neutral(JOB)]
        assert len(table[table.choice == name]) == len(expected) > 0


DIRECT = [
    ("optimizer", "name muon", {"optimizer": "muon"}),
    ("optimizer", "name adam_8bit", {"optimizer": "adam_8bit"}),
    ("recomputation", "mode full", {"recompute": "full"}),
    ("precision", "format fp8", {"precision": "fp8"}),
    ("power_limit", "share 0.6", {"power_limit_w": 0.6 * 700.0}),
    ("batch_size", "scale 2", {"global_batch_size": 128}),
    ("adapters", "rank 16", {"trainable": "lora", "lora_rank": 16}),
]


@pytest.mark.parametrize(("choice", "setting", "arguments"), DIRECT)
def test_a_saving_is_the_difference_of_two_estimates(table, choice, setting, arguments):
    before = estimate_training("llama-3.2-1b", "h100_sxm", **GIVEN)
    after = estimate_training("llama-3.2-1b", "h100_sxm", **{**GIVEN, **arguments})
    base, found = row(table, "base", "as given"), row(table, choice, setting)
    assert base["energy_j_per_step"] - found["energy_j_per_step"] == before.energy_j_per_step - after.energy_j_per_step
    assert base["step_time_s"] - found["step_time_s"] == before.step_time_s - after.step_time_s
    assert found["memory_bytes"] == after.memory.total_bytes
    ratio = after.energy_per_token_j / before.energy_per_token_j * found["tokens_factor"]
    assert found["energy_ratio"] == pytest.approx(ratio)
    servers = [e.server_power_w * e.step_time_s / e.energy_j_per_step * e.energy_per_token_j for e in (before, after)]
    assert found["server_energy_ratio"] == pytest.approx(servers[1] / servers[0] * found["tokens_factor"])


def test_intervals_contain_the_median(table):
    known = table[table.energy_ratio.notna()]
    assert len(known) > 25
    assert (known.energy_ratio_low <= known.energy_ratio).all()
    assert (known.energy_ratio <= known.energy_ratio_high).all()
    assert (known.tokens_factor_low <= known.tokens_factor).all()


def test_the_doubt_about_the_machine_mostly_cancels(table):
    direct = estimate_training("llama-3.2-1b", "h100_sxm", **GIVEN)
    low, high = direct.interval("energy_j_per_step")
    full = row(table, "recomputation", "mode full")
    assert full["energy_ratio_high"] / full["energy_ratio_low"] < 0.5 * (high / low - 1.0) + 1.0


def test_what_is_unknown_stays_absent(table):
    sgd = row(table, "optimizer", "name sgd")
    assert sgd["feasible"]
    assert math.isnan(sgd["tokens_factor"])
    assert math.isnan(sgd["energy_ratio"])
    assert sgd["energy_ratio_low"] > 0.0
    assert sgd["note"]


def test_what_does_not_fit_is_shown():
    job = TrainingJob("llama-3.1-8b", "h100_sxm", num_accelerators=8, global_batch_size=64, micro_batch_size=4, recompute="full", tokens=1e11)
    table = choices(job, ["recomputation", "optimizer", "batch_size"])
    none = row(table, "recomputation", "mode none")
    assert table.iloc[0].feasible
    assert not none["feasible"]
    assert "does not fit" in none["reason"]
    assert none["memory_bytes"] > 80e9
    assert math.isnan(none["energy_ratio"])


def test_a_base_that_does_not_fit_is_shown_with_those_that_do():
    job = TrainingJob("llama-3.1-8b", "h100_sxm", num_accelerators=8, global_batch_size=64, micro_batch_size=4, tokens=1e11)
    table = choices(job, ["recomputation"])
    assert table.feasible.tolist()[0] is False
    full = row(table, "recomputation", "mode full")
    assert full["feasible"]
    assert full["energy_j"] > 0.0
    assert math.isnan(full["energy_ratio"])


def test_a_batch_that_does_not_divide_is_shown():
    job = TrainingJob("llama-3.2-1b", "h100_sxm", num_accelerators=8, global_batch_size=16)
    quarter = row(choices(job, ["batch_size"]), "batch_size", "scale 0.25")
    assert not quarter["feasible"]
    assert "no multiple of micro_batch_size" in quarter["reason"]


def test_an_unknown_choice():
    with pytest.raises(UnknownNameError, match="unknown training choice 'optimiser'"):
        choices(JOB, ["optimiser"])


COMMAND = ["optimize", "choices", "--model", "llama-3.2-1b", "--accelerator", "h100_sxm", "--num-accelerators", "8", "--global-batch-size", "64"]


def test_the_command():
    arguments = [*COMMAND, "--only", "adapters", "--only", "optimizer"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "not reached" in shown.output
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output, parse_constant=pytest.fail)
    base, *others = document["choices"]
    assert base["energy_ratio"] == 1.0
    assert document["tokens"] == pytest.approx(20 * 1.2358e9, rel=1e-3)
    reached = {(r["choice"], r["setting"]): r["reached"] for r in others}
    assert reached["adapters", "rank 16"] == {"low": True, "median": False, "high": False}
    assert reached["optimizer", "name sgd"] == {"low": True, "median": None, "high": None}
    assert all(r["source"] and r["date"] and r["note"] for r in others)


def test_bad_input_is_one_line():
    done = CliRunner().invoke(app, [*COMMAND, "--precision", "bf61"])
    assert done.exit_code == 2
    assert "precision: unknown 'bf61'; did you mean 'bf16'" in done.output
    with pytest.raises(SpecError, match="no multiple of"):
        choices(TrainingJob("llama-3.2-1b", "h100_sxm", num_accelerators=8, global_batch_size=63))
