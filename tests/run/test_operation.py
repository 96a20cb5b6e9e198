"""From a scenario to the control of its cluster, and from a run of it to the account."""

import numpy as np
import pytest

from effsim.errors import SpecError
from effsim.run.machines import groups_of
from effsim.run.outcome import evaluate
from effsim.run.serving import simulate
from effsim.specs.scenario import load_scenario
from effsim.workload.arrivals import requests_of

BASE = {
    "name": "operated",
    "kind": "serving",
    "model": "llama-3.1-8b",
    "fleet": [{"accelerator": "h100_sxm", "replicas": 2}],
    "workload": {"arrivals": {"process": "poisson", "rate": 4}, "prompt_tokens": 500, "output_tokens": 50, "requests": 60},
    "router": "least_outstanding",
    "site": "us_california",
}


def groups(**changes):
    scenario = load_scenario({**BASE, **changes})
    return groups_of(scenario, requests_of(scenario))


def test_weights_load_at_the_bandwidth_stated():
    (group,) = groups(operation={"start": {"provisioning": "30 s", "load_bandwidth": "2 GB/s"}})
    assert group.unit.provisioning_s == 30.0
    assert group.unit.load_s == pytest.approx(8.03e9 * 2 / 2e9, rel=0.01)  # 8.03e9 parameters in 16 bits


def test_rungs_run_from_the_least_to_the_own_limit():
    (group,) = groups(operation={"power": {"budget": "1 kW", "rungs": 6}})
    assert [rung.level for rung in group.unit.rungs] == pytest.approx([200.0, 300.0, 400.0, 500.0, 600.0, 700.0])
    assert group.unit.rungs[-1].step_model is group.setup.step_model
    times_s = [rung.step_model.step_at(64, 64 * 600.0, [(4096, 0)])[0] for rung in group.unit.rungs]
    assert times_s == sorted(times_s, reverse=True)
    assert times_s[0] > times_s[-1]


def test_clocks_as_rungs_slow_what_is_bound_by_the_core():
    (group,) = groups(operation={"power": {"budget": "1 kW", "rungs": 3, "control": "clock", "lowest": 0.5}})
    assert [rung.level for rung in group.unit.rungs] == pytest.approx([0.5, 0.75, 1.0])
    slow, _, full = (rung.step_model.step_at(0, 0.0, [(4096, 0)]) for rung in group.unit.rungs)
    assert full[0] < slow[0] < 2.0 * full[0]
    assert sum(slow[1:]) / slow[0] < sum(full[1:]) / full[0]


def test_caches_go_over_the_network_between_nodes():
    fleet = [{"accelerator": "h100_sxm", "role": role, "parallelism": {"tensor": 2}} for role in ("prefill", "decode")]
    sender, receiver = groups(fleet=fleet)
    assert sender.unit.link.bytes_per_s == 2 * 50e9
    assert sender.unit.kv_bytes_per_token == 32 * 2 * 8 * 128 * 2  # layers · (K, V) · heads · width · bytes
    assert receiver.unit.link is None


def test_replicas_that_are_off_cost_no_power_and_no_rent():
    off = {"autoscaling": {"target": 1000, "minimum": 1, "initial": 1}}
    one, both = simulate({**BASE, "operation": off}), simulate(BASE)
    assert one.uses[0].off_s == pytest.approx(0.5 * one.uses[0].duration_s)
    (alone,) = [simulate({**BASE, "fleet": [{"accelerator": "h100_sxm"}]})]
    for key in ("accelerator_j", "host_j", "server_j"):
        assert one.summary["energy"][key] == pytest.approx(alone.summary["energy"][key], rel=1e-9), key
        assert one.summary["energy"][key] < both.summary["energy"][key]
    assert one.summary["cost"]["rented_usd"] == pytest.approx(alone.summary["cost"]["rented_usd"], rel=1e-9)
    assert one.summary["cost"]["hardware_usd"] == pytest.approx(2.0 * alone.summary["cost"]["hardware_usd"], rel=1e-9)
    assert (one.power["server_w"] * one.power["duration_s"]).sum() == pytest.approx(one.summary["energy"]["server_j"], rel=1e-6)
    assert np.allclose(one.power["replicas_on"], 1.0)


def test_the_summary_says_what_was_done():
    operation = {"failures": {"at": [{"time": "5 s", "replica": 0}], "repair": "2 s"}, "start": {"load": "1 s"}}
    found = simulate({**BASE, "operation": operation}).summary
    assert found["operation"]["failures"] == found["operation"]["starts"] == 1
    assert found["requests"]["arrived"] == found["requests"]["completed"] == 60
    assert found["energy"]["accelerator_loading_j"] > 0.0
    assert sum(found["energy_by_state"].values()) == pytest.approx(found["energy"]["accelerator_j"], rel=1e-9)
    assert simulate(BASE).summary["operation"] is None


def test_what_cannot_be_is_said():
    with pytest.raises(SpecError, match="static power alone"):
        simulate({**BASE, "operation": {"power": {"budget": "100 W"}}})
    with pytest.raises(SpecError, match="the lowest power_limit_w, 200, is not below the highest, 200"):
        groups(fleet=[{"accelerator": "h100_sxm", "power_limit": "200 W"}], operation={"power": {"budget": "1 kW"}})
    training = {"name": "t", "kind": "training", "model": "llama-3.1-8b", "fleet": [{"accelerator": "h100_sxm"}]}
    training["training"] = {"global_batch_size": 8, "sequence_length": 2048, "steps": 10}
    with pytest.raises(SpecError, match="operation belongs to a serving scenario"):
        load_scenario({**training, "operation": {"power": {"budget": 1}}})
    with pytest.raises(SpecError, match="role and power_schedule belong to a serving scenario"):
        load_scenario({**training, "fleet": [{"accelerator": "h100_sxm", "role": "decode"}]})
    with pytest.raises(SpecError, match="minimum"):
        load_scenario({**BASE, "operation": {"autoscaling": {"target": 1, "minimum": 3, "maximum": 2}}})


def test_no_prefix_is_found_without_a_cache():
    (with_cache,), (without,) = groups(engine={"prefix_hit_ratio": 0.5}), groups(engine={"prefix_hit_ratio": 0.5, "prefix_caching": False})
    assert with_cache.setup.prefix_hit_ratio == 0.5
    assert without.setup.prefix_hit_ratio == 0.0


def test_no_more_are_on_at_the_start_than_the_maximum():
    with pytest.raises(SpecError, match=r"initial \(2\) must not be above maximum \(1\)"):
        load_scenario({**BASE, "operation": {"autoscaling": {"target": 4, "initial": 2, "maximum": 1}}})


@pytest.mark.parametrize(("model", "says"), [("llama-3.1-8b", False), ("gemma-3-12b", True)])
def test_a_prefix_cache_that_cannot_be_is_said(model, says):
    notes = evaluate(load_scenario({**BASE, "model": model, "engine": {"prefix_caching": True}})).notes
    assert any(note.startswith("prefix_caching: nothing is found again") for note in notes) is says


def test_a_budget_that_the_limits_keep_exactly_is_not_passed_by_rounding():
    """Both replicas are held to 200 W, half of the budget each, by what they compute."""
    load = {"arrivals": {"process": "poisson", "rate": 120}, "prompt_tokens": 3000, "output_tokens": 50, "requests": 300}
    found = simulate({**BASE, "workload": load, "operation": {"power": {"budget": "400 W", "interval": "1 s"}}})
    assert found.power["accelerator_w"].max() == pytest.approx(400.0, rel=1e-9)
    assert found.summary["operation"]["over_budget_s"] == 0.0
