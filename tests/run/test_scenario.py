"""The base beside its what-ifs: same requests, intervals that hold the value, differences, reasons, processes, folders."""

import copy
import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.cost import step
from effsim.documents import read_yaml
from effsim.errors import EffSimError, InfeasibleError, SpecError
from effsim.run import Settings, run
from effsim.run.metrics import METRICS, Words, combine, labels, quantities
from effsim.run.scenario import words_of
from effsim.specs.scenario import load_scenario
from tests.run.fakes import SCENARIO, fake_step_model

ONE = Settings(workers=1)


@pytest.fixture
def _simple_costs(monkeypatch):
    monkeypatch.setattr(step, "serving_step_model", fake_step_model)


def scenario(**changes):
    return {**copy.deepcopy(SCENARIO), **changes}


@pytest.mark.usefixtures("_simple_costs")
def test_the_base_and_each_what_if_in_the_same_rows():
    report = run(scenario(), settings=ONE)
    assert [variant.name for variant in report.variants] == ["base", "one replica", "elsewhere"]
    assert all(list(variant.metrics) == list(report.labels) for variant in report.variants)
    for variant in report.variants:
        for metric in variant.metrics.values():
            assert metric.low <= metric.value <= metric.high


@pytest.mark.usefixtures("_simple_costs")
def test_what_ifs_push_in_the_right_direction():
    report = run(scenario(), settings=ONE)
    fewer, elsewhere = report.variants[1:]
    assert report.difference(fewer, "server_kw") < -0.3
    assert report.difference(fewer, "tpot_p50_s") > 0.0
    assert report.difference(elsewhere, "server_kw") == 0.0
    assert report.difference(elsewhere, "operational_kg_per_day") < 0.0


@pytest.mark.usefixtures("_simple_costs")
def test_interval_of_latency_is_that_of_the_slow_and_the_fast_run():
    """A lone request scales with the step time: its interval is exp(1.645 · 0.2) to both sides."""
    alone = scenario(what_if=[])
    alone["workload"]["requests"] = 1
    ttft = run(alone, settings=ONE).base.metrics["ttft_p50_s"]
    assert ttft.high / ttft.value == pytest.approx(1.3895, rel=1e-3)
    assert ttft.value / ttft.low == pytest.approx(1.3895, rel=1e-3)


@pytest.mark.usefixtures("_simple_costs")
def test_interval_of_energy_holds_time_and_power_as_independent_causes():
    """A lone request in a closed loop: never idle, so that energy goes with time (sd 0.2) and power (sd 0.1): sd 0.2236."""
    busy = scenario(what_if=[])
    busy["workload"] = {"arrivals": {"process": "closed_loop", "concurrency": 1}, "prompt_tokens": 200, "output_tokens": 20, "requests": 1}
    busy["fleet"][0]["replicas"] = 1
    energy = run(busy, settings=ONE).base.metrics["accelerator_j_per_output_token"]
    assert energy.high / energy.value == pytest.approx(1.4446, rel=1e-3)


@pytest.mark.usefixtures("_simple_costs")
def test_without_intervals_one_run_per_variant():
    report = run(scenario(), settings=Settings(workers=1, intervals=False))
    assert all(metric.low is None for variant in report.variants for metric in variant.metrics.values())


def test_an_infeasible_variant_shows_its_reason(monkeypatch):
    def refuse(model, accelerator, parallelism, **settings):
        if settings["precision"] == "fp32":
            raise InfeasibleError("weights need 40 GiB more", "accelerator memory", ("8 accelerators",))
        return fake_step_model(model, accelerator, parallelism)

    monkeypatch.setattr(step, "serving_step_model", refuse)
    report = run(scenario(what_if=[{"name": "too big", "set": {"precision": "fp32"}}]), settings=ONE)
    assert report.variants[1].infeasible == "weights need 40 GiB more What would lift it: 8 accelerators."
    assert report.variants[1].metrics == {}
    assert report.base.infeasible is None


@pytest.mark.usefixtures("_simple_costs")
def test_a_mistake_in_a_what_if_names_it():
    wrong = scenario(what_if=[{"name": "moon", "set": {"site": "the_moon"}}])
    with pytest.raises(EffSimError, match=r"what-if 'moon'.*unknown site 'the_moon'"):
        run(wrong, settings=ONE)


def test_a_mixed_scenario_is_refused():
    mixed = scenario(kind="mixed", training={"global_batch_size": 8, "sequence_length": 128, "steps": 2}, what_if=[])
    with pytest.raises(SpecError, match="write two scenarios"):
        run(mixed, settings=ONE)


@pytest.mark.usefixtures("_simple_costs")
def test_the_folder_holds_what_was_asked_and_what_came_out(tmp_path):
    folder = tmp_path / "deep" / "run"
    report = run(scenario(), settings=Settings(output=folder, workers=1, intervals=False))
    files = {path.name for path in folder.iterdir() if path.suffix != ".parquet"}  # which needs an extra
    assert files == {"config.yaml", "metadata.json", "requests.csv", "summary.json", "timeseries.csv"}
    assert load_scenario(read_yaml(folder / "config.yaml")) == load_scenario(scenario())
    assert json.loads((folder / "summary.json").read_text()) == json.loads(report.to_json())
    assert len(pd.read_csv(folder / "requests.csv")) == 60
    series = pd.read_csv(folder / "timeseries.csv")
    assert (series.server_w * series.duration_s).sum() == pytest.approx(report.summary["energy"]["server_j"], rel=1e-6)
    assert "numpy" in json.loads((folder / "metadata.json").read_text())["libraries"]


@pytest.mark.usefixtures("_simple_costs")
def test_a_folder_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="cannot be written"):
        run(scenario(), settings=Settings(output=tmp_path / "file", workers=1, intervals=False))


@pytest.mark.usefixtures("_simple_costs")
def test_progress_grows_to_the_whole():
    seen = []
    run(scenario(), progress=lambda what, share: seen.append((what, share)), settings=ONE)
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert {what for what, _ in seen} == {"base", "one replica", "elsewhere"}


def test_processes_change_nothing():
    few = scenario(what_if=[{"name": "one replica", "set": {"fleet.0.replicas": 1}}])
    few["workload"]["requests"] = 10
    alone, together = (run(few, settings=Settings(workers=workers)) for workers in (1, 2))
    assert alone.to_json() == together.to_json()


def test_a_mistake_in_a_process_is_raised_here():
    with pytest.raises(EffSimError, match="unknown accelerator"):
        run(scenario(fleet=[{"accelerator": "h100_smx", "node": "dgx_h100"}]), settings=Settings(workers=2))


def test_battery_life_by_hand():
    """19.8 kJ at the power of the machine and 1 W of screen."""
    phone = scenario(fleet=[{"accelerator": "snapdragon_8_gen3"}], model="llama-3.2-1b", precision="int4", engine={"name": "llama.cpp"}, what_if=[])
    phone["device"] = {"battery": "5.5 Wh", "other_power": "1 W"}
    phone["workload"]["requests"] = 3
    metrics = run(phone, settings=Settings(workers=1, intervals=False)).base.metrics
    assert metrics["battery_life_h"].value == pytest.approx(5.5 / (1.0 + metrics["server_kw"].value * 1e3))
    tokens_per_s = metrics["output_tokens_per_s"].value
    assert metrics["output_tokens_per_charge"].value == pytest.approx(tokens_per_s * metrics["battery_life_h"].value * 3600)


@given(st.floats(0.1, 10.0), st.lists(st.tuples(st.floats(0.01, 100.0), st.floats(0.01, 100.0)), max_size=4))
def test_combined_intervals_hold_the_value_and_widen_with_each_cause(value, ends):
    low, high = combine(value, ends)
    assert low <= value <= high
    for cause in ends:
        assert low <= min(value, *cause) * (1 + 1e-12)
        assert high >= max(value, *cause) * (1 - 1e-12)


def test_shares_of_zero_take_the_outermost_values():
    assert combine(0.0, [[0.0, 0.2]]) == (0.0, 0.2)
    assert combine(0.9, [[1.0, 0.0], [None, 0.9]]) == pytest.approx((0.0, 1.0))


def test_an_end_of_zero_takes_nothing_from_the_other_end():
    """Water: 0 to twice as much by its factor, half to twice as much by power."""
    assert combine(10.0, [[0.0, 20.0], [5.0, 20.0]]) == pytest.approx((0.0, 10.0 * 2.0 ** (2.0**0.5)))


def test_no_share_is_above_the_whole():
    ends = {cause: ({"slo_attainment": 0.5}, {"slo_attainment": 1.0}) for cause in ("time", "chance")}
    share = quantities({"slo_attainment": 0.9}, ends, "datasheet", Words())["slo_attainment"]
    assert share.high == 1.0


def test_every_row_has_words_and_a_unit():
    assert all(metric.label and metric.unit for metric in METRICS.values())


def test_words_fit_what_is_used():
    phone = Words(device=True).label("server_kw", METRICS)
    assert (phone, Words().label("server_kw", METRICS)) == ("power, device", "power, servers")
    assert words_of(load_scenario("phone-assistant")) == Words(device=True)
    assert words_of(load_scenario("chat-70b-h100")) == Words()
    assert words_of(load_scenario("founding-article")) == Words(device=True, samples=True)


def test_a_part_without_its_whole_stands_alone():
    assert labels(["owned_usd", "electricity_usd"], Words())["electricity_usd"] == "- of which electricity"
    assert labels(["electricity_usd"], Words())["electricity_usd"] == "cost, electricity"


def test_what_sees_no_text_counts_samples():
    report = run("founding-article", settings=Settings(workers=1, intervals=False))
    assert report.base.metrics["site_j_per_token"].unit == "J/sample"
    assert "token" not in " ".join([*report.labels.values(), *(metric.unit for metric in report.base.metrics.values()), report.metadata["workload"]])
