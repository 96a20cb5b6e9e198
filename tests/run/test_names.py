"""Names and splits of all variants are resolved before anything runs; messages carry file, line, field and the nearest name."""

import copy
import re

import pytest

from effsim.catalog import DATA_VARIABLE, data_root
from effsim.documents import dump_yaml
from effsim.errors import SpecError
from effsim.run import Settings, run
from effsim.run.names import check_names
from effsim.specs.scenario import load_scenario, variants
from tests.run.fakes import SCENARIO

TRAINING = {
    "name": "t",
    "kind": "training",
    "model": "llama-3.2-1b",
    "fleet": [{"accelerator": "h100_sxm", "node": "dgx_h100", "parallelism": {"data": 8}}],
    "training": {"global_batch_size": 64, "sequence_length": 2048, "tokens": "1B"},
}


@pytest.fixture(autouse=True)
def _nothing_runs(monkeypatch):
    def run_jobs(*_):
        raise AssertionError("simulated before the names were resolved")

    monkeypatch.setattr("effsim.run.scenario.run_jobs", run_jobs)


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        (SCENARIO, {"site": "swedn"}, "site: unknown site 'swedn'; did you mean 'sweden'"),
        (SCENARIO, {"model": "lama-3.1-8b"}, "model: unknown model 'lama-3.1-8b'; did you mean 'llama-3.1-8b'"),
        (SCENARIO, {"fleet.0.accelerator": "h100_smx"}, "fleet.0.accelerator: unknown accelerator 'h100_smx'; did you mean 'h100_sxm'"),
        (SCENARIO, {"fleet.0.node": "dgx_h10"}, "fleet.0.node: unknown node 'dgx_h10'; did you mean 'dgx_h100'"),
        (SCENARIO, {"engine.name": "vlm"}, "engine.name: unknown engine 'vlm'; did you mean 'vllm'"),
        (SCENARIO, {"engine.name": "megatron"}, "engine.name: megatron is an engine for training; a serving scenario needs vllm"),
        (SCENARIO, {"engine.scheduler": "fcfss"}, "engine.scheduler: unknown scheduler policy 'fcfss'; did you mean 'fcfs'"),
        (SCENARIO, {"router": "round_robbin"}, "router: unknown router 'round_robbin'; did you mean 'round_robin'"),
        (SCENARIO, {"calibration": "h100"}, "calibration: unknown calibration 'h100'"),
        (SCENARIO, {"fleet.0.power_limit": "2 kW"}, "fleet.0.power_limit: 2000 W given; h100_sxm takes .* W"),
        (SCENARIO, {"fleet.0.parallelism.tensor": 3}, "fleet.0.parallelism: .*cannot be split over 3 ranks"),
        (SCENARIO, {"fleet.0.parallelism.pipeline": 64}, "fleet.0.parallelism: .*64 stages for 32 layers"),
        (
            SCENARIO,
            {"fleet.0.power_schedule": [{"time": 1, "power_limit": "2 kW"}]},
            r"fleet.0.power_schedule.0.power_limit: 2000 W given; h100_sxm takes",
        ),
        (SCENARIO, {"operation.autoscaling": {"target": 4, "minimum": 3}}, r"operation.autoscaling.minimum: 3 given; the fleet has 2 replicas"),
        (SCENARIO, {"operation.autoscaling": {"target": 4, "initial": 5}}, r"operation.autoscaling.initial: 5 given; the fleet has 2 replicas"),
        (
            SCENARIO,
            {"operation.failures": {"at": [{"time": 1, "replica": 2}]}},
            r"operation.failures.at.0.replica: replica 2 given; the fleet has .* 0 to 1",
        ),
        (
            SCENARIO,
            {"engine.speculation": {"draft_tokens": 2, "acceptance": 0.5, "draft_model": "llama-3.2-1bb"}},
            "engine.speculation.draft_model: unknown model 'llama-3.2-1bb'; did you mean 'llama-3.2-1b'",
        ),
        (TRAINING, {"engine.name": "vllm"}, "engine.name: vllm is an engine for serving; a training scenario needs megatron"),
        (TRAINING, {"training.optimizer": "adan"}, "training.optimizer: unknown 'adan'; did you mean 'adam'"),
        (TRAINING, {"cluster": {"queue": "lifo"}}, "cluster.queue: unknown queue policy 'lifo'"),
    ],
)
def test_a_wrong_name_of_a_what_if_is_found_before_anything_runs(tmp_path, base, change, message):
    (key,) = change
    text = dump_yaml({**base, "what_if": [{"name": "wrong", "set": change}]})
    path = tmp_path / "s.yaml"
    path.write_text(text)
    line = max(number for number, content in enumerate(text.splitlines(), 1) if content.strip().startswith(f"{key}:"))
    with pytest.raises(SpecError, match=rf"s\.yaml, line {line}: what-if 'wrong': {message}"):
        run(path, settings=Settings(workers=1))


def test_a_wrong_name_of_the_base_has_its_line(tmp_path):
    text = dump_yaml({**SCENARIO, "what_if": [], "site": "swedn"})
    (tmp_path / "s.yaml").write_text(text)
    line = next(number for number, content in enumerate(text.splitlines(), 1) if content.startswith("site"))
    with pytest.raises(SpecError, match=rf"s\.yaml, line {line}: site: unknown site 'swedn'; did you mean 'sweden'"):
        run(tmp_path / "s.yaml")


def test_a_mistyped_trace_comes_with_what_lies_beside_it(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv(DATA_VARIABLE, str(data))
    (data / "office_hours.csv").write_text("")
    scenario = {**copy.deepcopy(SCENARIO), "what_if": [], "workload": {"trace": "ofice_hours.csv"}}
    with pytest.raises(SpecError, match=re.escape("workload.trace: no file 'ofice_hours.csv'") + ".*did you mean 'office_hours.csv'"):
        run(scenario)
    with pytest.raises(SpecError, match=r"did you mean 'azure_llm_2023_co"):
        run({**scenario, "workload": {"trace": "azure_llm_2023_con.csv"}})


@pytest.mark.parametrize("path", sorted(data_root("scenarios").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_is_shipped_is_sound(path):
    scenario = load_scenario(path)
    check_names(scenario, variants(scenario))
