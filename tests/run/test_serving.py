"""One simulation: nothing is lost, parts add up, power integrates to energy, objectives are judged."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.cost import step
from effsim.errors import SpecError
from effsim.run.serving import limited, simulate
from effsim.specs import loading
from effsim.specs.scenario import load_scenario
from tests.run.fakes import SCENARIO, FakeStep, fake_step_model


@pytest.fixture(autouse=True)
def _simple_costs(monkeypatch):
    monkeypatch.setattr(step, "serving_step_model", fake_step_model)


def scenario(**changes):
    return {**copy.deepcopy(SCENARIO), **changes}


def parts(summary):
    energy = summary["energy"]
    accelerator_j = sum(energy[f"accelerator_{part}_j"] for part in ("static", "core", "memory", "link", "idle"))
    server_j = energy["accelerator_j"] + energy["host_j"] + energy["fan_j"] + energy["psu_loss_j"]
    return accelerator_j, server_j, energy


@given(st.integers(1, 80), st.integers(1, 3), st.sampled_from([None, "sweden", "us_california"]))
def test_nothing_is_lost_and_parts_add_up(requests, replicas, site):
    given_scenario = scenario(site=site, what_if=[])
    given_scenario["workload"]["requests"] = requests
    given_scenario["fleet"][0]["replicas"] = replicas
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "serving_step_model", fake_step_model)
        result = simulate(given_scenario)
    summary = result.to_dict()
    counts, tokens = summary["requests"], summary["tokens"]
    assert counts["arrived"] == counts["completed"] + sum(counts["dropped_by_reason"].values()) == requests == len(result.requests)
    assert (tokens["trace_prompt"], tokens["trace_output"]) == (tokens["completed_prompt"], tokens["completed_output"]) == (200 * requests, 20 * requests)
    accelerator_j, server_j, energy = parts(summary)
    assert energy["accelerator_j"] == pytest.approx(accelerator_j, rel=1e-9)
    assert energy["server_j"] == pytest.approx(server_j, rel=1e-9)
    power = result.power
    assert (power.accelerator_w * power.duration_s).sum() == pytest.approx(accelerator_j, rel=1e-6)
    assert (power.server_w * power.duration_s).sum() == pytest.approx(server_j, rel=1e-6)
    if site is None:
        assert energy["site_j"] is None
        assert power.site_w.isna().all()
        assert summary["carbon"]["operational_kg"] is None
    else:
        assert energy["site_j"] == pytest.approx(energy["server_j"] + energy["facility_j"], rel=1e-9)
        assert (power.site_w * power.duration_s).sum() == pytest.approx(energy["site_j"], rel=1e-6)


def test_the_summary_is_valid_json():
    json.loads(simulate(scenario(site=None, slo={})).to_json(), parse_constant=pytest.fail)


def test_energy_by_hand():
    """One request of 1 output token on one replica: one iteration of 10.2 ms at 4 x 500 W; host busy, half a DGX."""
    one = scenario(fleet=[{"accelerator": "h100_sxm", "node": "dgx_h100", "parallelism": {"tensor": 4}}], what_if=[])
    one["workload"] = {"arrivals": {"process": "closed_loop", "concurrency": 1}, "prompt_tokens": 200, "output_tokens": 1, "requests": 1}
    summary = simulate(one).to_dict()
    node = loading.node("dgx_h100")
    assert summary["duration_s"] == pytest.approx(0.0102)
    assert summary["energy"]["accelerator_j"] == pytest.approx(2000 * 0.0102)
    assert summary["energy"]["host_j"] == pytest.approx(node.host_busy_power.value / 2 * 0.0102)
    assert summary["energy"]["fan_j"] == pytest.approx(node.fan_power.value * 2000 / 5600 * 0.0102)
    assert summary["latency"]["tpot"]["p50_s"] is None


def test_a_mixed_fleet_is_accounted_by_group():
    fleet = [
        {"accelerator": "h100_sxm", "node": "dgx_h100", "replicas": 1, "parallelism": {"tensor": 4}},
        {"accelerator": "l40s", "node": "pcie_2socket_8gpu", "replicas": 2},
    ]
    result = simulate(scenario(fleet=fleet, what_if=[]))
    assert [use.num_accelerators for use in result.uses] == [4, 2]
    _, server_j, energy = parts(result.to_dict())
    assert sum(use.accelerator_energy_j for use in result.uses) == pytest.approx(energy["accelerator_j"], rel=1e-12)
    assert (result.power.server_w * result.power.duration_s).sum() == pytest.approx(server_j, rel=1e-6)


def test_objectives_are_judged_and_dropped_requests_miss_them():
    tight = scenario(slo={"ttft_p90": "1 ms", "tpot_p50": "10 s"}, what_if=[])
    slo = simulate(tight).to_dict()["slo"]
    assert slo["attainment"] == 0.0
    assert slo["objectives"]["ttft_p90"]["met"] is False
    assert slo["objectives"]["tpot_p50"]["met"] is True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "serving_step_model", lambda *a, **k: FakeStep(kv_capacity_tokens=64))
        dropped = simulate(scenario(what_if=[])).to_dict()
    assert dropped["requests"]["dropped"] == 60
    assert dropped["slo"]["attainment"] == 0.0
    assert dropped["cost"]["owned_usd_per_million_output_tokens"] is None


def test_without_objectives_there_is_no_attainment():
    assert simulate(scenario(slo={})).to_dict()["slo"] == {"attainment": None, "objectives": {}}


def test_percentiles_are_those_of_the_requests():
    result = simulate(scenario())
    found = result.to_dict()["latency"]["ttft"]
    assert found["p90_s"] == pytest.approx(np.percentile(result.requests.ttft_s, 90))


def test_a_limit_keeps_the_first_requests_and_the_what_ifs():
    cut = limited(load_scenario(scenario()), 7)
    assert cut.workload.requests == 7
    assert len(cut.what_if) == 2
    assert limited(load_scenario(scenario()), 10_000).workload.requests == 60


def test_two_runs_are_equal():
    first, second = (simulate(scenario()) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert first.requests.equals(second.requests)


def test_training_scenarios_and_training_engines_are_refused():
    with pytest.raises(SpecError, match="is an engine for training"):
        simulate(scenario(engine={"name": "megatron"}))
    training = {"global_batch_size": 8, "sequence_length": 128, "steps": 2}
    with pytest.raises(SpecError, match="only serving scenarios are simulated"):
        simulate({"name": "t", "kind": "training", "model": "llama-3.1-8b", "fleet": [{"accelerator": "h100_sxm"}], "training": training})
