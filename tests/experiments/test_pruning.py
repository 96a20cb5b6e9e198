"""The experiment as a whole: what is measured stands beside what is predicted, and pruning saves what it must."""

import dataclasses
import json
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from effsim.cli import app
from effsim.cost.device import prior_for
from effsim.experiments.classifier import Recipe, split
from effsim.experiments.prediction import predict, this_processor
from effsim.experiments.pruning import Settings, closing, run, table
from effsim.specs.loading import accelerator
from tests.bench.fakes import TINY, Meter, instruments

LAYERS = (784, 128, 10)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 300)
    return split((rng.random((10, 784))[y] + 0.3 * rng.standard_normal((300, 784))).astype(np.float32), y.astype(np.int64), 0, "clouds")


@pytest.fixture(scope="module")
def settings():
    recipe = Recipe(epochs=2)
    return Settings(recipe=recipe, retraining_epochs=1, sparsities=(0.5, 0.9), neurons=(0.75,), batches=(1, 64), rounds=1, measuring=TINY)


@pytest.fixture(scope="module")
def found(data, settings):
    return run(instruments(), data, settings)


def test_every_network_is_measured_at_every_batch(found):
    assert len(found.steps) == 2 * (1 + 2 * 2 + 1 + 1)
    assert {step.batch for step in found.steps} == {1, 64}
    assert all(step.time_s > 0.0 and 0.0 <= step.accuracy <= 1.0 for step in found.steps)
    assert found.steps[0].relative_time == 1.0


def test_energy_is_blank_without_a_meter(found):
    assert not found.metered
    assert all(step.energy_j is None and step.power_w is None for step in found.steps)
    assert "no meter" in closing(found)


def test_energy_is_there_with_one(data, settings):
    short = dataclasses.replace(settings, sparsities=(), neurons=(), batches=(1,), measuring=dataclasses.replace(TINY, window_s=0.05))
    metered = run(instruments(meter=Meter(30.0, time.perf_counter)), data, short)
    assert metered.metered
    assert all(step.power_w == pytest.approx(30.0, rel=0.2) for step in metered.steps)


def test_zeros_keep_size_and_prediction_of_dense_kernels(found):
    dense, half = found.steps[0], found.steps[1]
    assert half.zeros == pytest.approx(0.5, abs=0.01)
    assert half.size_bytes == dense.size_bytes == 4 * 101_770
    assert half.predicted == dense.predicted
    assert half.predicted_relative_time == 1.0


def test_removed_neurons_shrink_size_and_prediction(found):
    (small,) = (step for step in found.steps if "neurons" in step.name and step.batch == 64)
    assert small.size_bytes == 4 * (784 * 32 + 32 + 320 + 10)
    assert small.predicted_relative_time < 0.6
    assert small.predicted.time_low_s < small.predicted.time_s < small.predicted.time_high_s
    assert small.predicted.energy_low_j < small.predicted.energy_j < small.predicted.energy_high_j


def test_what_the_model_has_no_kernel_for_is_blank_and_says_why(found):
    without = [step for step in found.steps if step.predicted is None]
    assert {step.name for step in without} == {"50% of weights zero, sparse rows", "90% of weights zero, sparse rows", "int8 weights"}
    assert all("no kernel" in step.notes[0] or "no sparse-row kernel" in step.notes[0] for step in without)


def test_the_table_has_a_cell_for_each_column(found):
    columns, rows = table(found)
    assert all(len(row) == len(columns) for row in rows)
    assert json.loads(found.to_json())["steps"][0]["name"] == "dense, fp32"


def test_the_prediction_grows_with_the_batch_and_shrinks_with_the_network():
    processor = accelerator("xeon_8480_plus")
    times = [predict(processor, LAYERS, batch).time_s for batch in (1, 64, 4096, 65_536)]
    assert times == sorted(times)
    assert times[3] == pytest.approx(16 * times[2], rel=0.35)  # the fixed cost fades
    assert predict(processor, (784, 32, 10), 65_536).time_s < 0.4 * times[3]
    assert predict(processor, LAYERS, 4096, sparsity="unstructured").time_s == times[2]


def test_this_processor_has_the_rates_that_it_reaches(monkeypatch):
    """A product of 1024 and a read of 64 MiB, in 0.1 s each, are the peaks times the efficiencies that the class is expected to have."""
    opened, base = instruments(), accelerator("xeon_8480_plus")
    monkeypatch.setattr(type(opened.device), "seconds", lambda self, run, samples: [0.1] * samples)
    found, expected = this_processor(opened, TINY), prior_for(base, "none").median
    assert found.peak["fp32"].value * expected.gemm_efficiency == pytest.approx(2.0 * 1024**3 / 0.1)
    assert found.memory_bandwidth.value * expected.memory_efficiency == pytest.approx(64 * 2**20 / 0.1)
    assert found.tdp.value / found.compute_units == pytest.approx(base.tdp.value / base.compute_units)


def test_the_command_prints_json():
    pytest.importorskip("sklearn")
    few = ["--sparsity", "0.9", "--neurons", "0.5", "--batch", "16", "--epochs", "1", "--retraining-epochs", "1", "--rounds", "1", "--json"]
    done = CliRunner().invoke(app, ["experiment", "pruning", *few])
    assert done.exit_code == 0, done.stderr
    steps = json.loads(done.stdout)["steps"]
    assert [step["batch"] for step in steps] == [16] * 5


def test_bad_input_is_one_line_and_code_2():
    pytest.importorskip("sklearn")
    done = CliRunner().invoke(app, ["experiment", "pruning", "--sparsity", "1.5"])
    assert done.exit_code == 2
    assert "fraction: must lie in [0, 1), got 1.5" in done.stderr
