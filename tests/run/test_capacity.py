"""The capacity of a fleet: against a queue's closed form, against a grid of runs, and what it says where there is none."""

import copy
import json
import math

import numpy as np
import pytest
from scipy.optimize import brentq

from effsim.cost import step
from effsim.errors import InfeasibleError, SpecError
from effsim.run.capacity import Search, fewest_replicas, highest_rate
from effsim.run.serving import simulate
from effsim.specs.scenario import load_scenario, with_changes
from effsim.workload.arrivals import requests_of
from tests.run.fakes import SCENARIO, FakeStep, fake_step_model

SERVICE_S = 0.0102
"""Of a prompt of 200 tokens alone."""


@pytest.fixture(autouse=True)
def _simple_costs(monkeypatch):
    monkeypatch.setattr(step, "serving_step_model", fake_step_model)


def one_at_a_time(**changes):
    """A single server with a service time that is always the same."""
    fleet = [{"accelerator": "h100_sxm", "node": "dgx_h100", "parallelism": {"tensor": 4}}]
    load = {"arrivals": {"process": "poisson", "rate": 20}, "prompt_tokens": 200, "output_tokens": 1, "requests": 8_000}
    given = {**copy.deepcopy(SCENARIO), "what_if": [], "fleet": fleet, "workload": load, "engine": {"max_num_seqs": 1}, "slo": {"ttft_p90": "51 ms"}}
    return {**given, **changes}


def waits_within(wait_s, rate_per_s):
    """Return P(wait <= t) of M/D/1 (Erlang 1909): (1 - rho) sum_k (rate (k D - t))^k / k! exp(-rate (k D - t)), k up to t / D."""
    terms = [rate_per_s * (k * SERVICE_S - wait_s) for k in range(math.floor(wait_s / SERVICE_S) + 1)]
    return (1.0 - rate_per_s * SERVICE_S) * sum(x**k / math.factorial(k) * math.exp(-x) for k, x in enumerate(terms))


def test_a_queue_with_one_server_has_the_rate_of_erlang():
    exact = brentq(lambda rate_per_s: waits_within(0.051 - SERVICE_S, rate_per_s) - 0.9, 1.0, 0.999 / SERVICE_S)
    found = highest_rate(one_at_a_time(), Search(seeds=3, tolerance_ratio=0.005))
    assert found.rate_per_s == pytest.approx(exact, rel=0.02)
    assert found.low_per_s < found.rate_per_s < found.high_per_s
    assert len(set(found.rates_per_s)) == 3
    assert found.binding == ("ttft_p90",)
    assert found.objectives[0].value <= 0.051 < found.above[0].value


@pytest.mark.parametrize("slo", [{"ttft_p90": "15 ms"}, {}], ids=["objective", "none"])
def test_arrivals_like_a_clock_fill_the_server(slo):
    """Without an objective the replicas have to keep up; a wait may rise by 2 % of the time, so the rate is right within that."""
    load = {**one_at_a_time()["workload"], "arrivals": {"process": "deterministic", "rate": 5}, "requests": 3000}
    found = highest_rate(one_at_a_time(workload=load, slo=slo), Search(seeds=1, tolerance_ratio=0.002))
    assert found.rate_per_s == pytest.approx(1.0 / SERVICE_S, rel=0.004 if slo else 0.025)
    assert found.low_per_s is None
    assert ("queue_growth" in found.binding) is not bool(slo)


def test_the_rate_is_that_of_a_grid_of_whole_runs():
    given = {**copy.deepcopy(SCENARIO), "what_if": [], "slo": {"ttft_p90": "200 ms", "tpot_p90": "50 ms"}}
    given["workload"] |= {"requests": 500}
    scenario = load_scenario(given)
    found = highest_rate(given, Search(seeds=1, tolerance_ratio=0.01, warm_up_share=0.0))
    trace = requests_of(scenario)
    realised = len(trace) / trace.arrival_s[-1] / 20.0  # of the rate that the scenario states
    holding = []
    for rate_per_s in np.geomspace(20.0, 300.0, 40):
        summary = simulate(with_changes(scenario, {"workload.arrivals.rate": float(rate_per_s)})).summary
        holding.append((rate_per_s * realised, all(one["met"] for one in summary["slo"]["objectives"].values())))
    last = max(rate for rate, held in holding if held)
    assert [held for _, held in holding] == sorted((held for _, held in holding), reverse=True)
    assert last / 1.02 <= found.rate_per_s <= last * 1.08  # the grid's step is 7.2 %


def test_the_fewest_replicas_are_those_that_can_carry_the_load():
    load = {**one_at_a_time()["workload"], "arrivals": {"process": "deterministic", "rate": 5}, "requests": 2000}
    for rate_per_s in (50.0, 250.0, 970.0):
        found = fewest_replicas(one_at_a_time(workload=load, slo={"ttft_p90": "15 ms"}), rate_per_s, Search(seeds=2))
        assert found.replicas == math.ceil(rate_per_s * SERVICE_S)
        assert found.accelerators == 4 * found.replicas
        assert (found.binding == ()) is (found.replicas == 1)
        assert all(one.met for one in found.objectives)


def test_what_cannot_hold_is_named_with_what_would_lift_it():
    with pytest.raises(InfeasibleError, match=r"small: ttft_p90 cannot hold: at .* requests/s, .* ttft_p90 is 0\.0102, above its limit of 0\.001") as caught:
        highest_rate(one_at_a_time(slo={"ttft_p90": "1 ms"}))
    assert caught.value.constraint == "ttft_p90"
    assert caught.value.remedies[0] == "ttft_p90 of 0.0102 s or more"
    with pytest.raises(InfeasibleError, match="replicas, tpot_p90 is"):
        fewest_replicas({**copy.deepcopy(SCENARIO), "what_if": [], "slo": {"tpot_p90": "1 ms"}}, 5.0)


def test_dropped_requests_break_a_percentile(monkeypatch):
    monkeypatch.setattr(step, "serving_step_model", lambda *a, **k: FakeStep(kv_capacity_tokens=640))
    lengths = {"kind": "empirical", "values": [200, 900], "weights": [0.8, 0.2]}
    load = {**one_at_a_time()["workload"], "prompt_tokens": lengths, "requests": 400}
    with pytest.raises(InfeasibleError, match="dropped"):
        highest_rate(one_at_a_time(workload=load, slo={"ttft_p90": "10 s"}), Search(seeds=1))
    assert highest_rate(one_at_a_time(workload=load, slo={"ttft_p50": "10 s"}), Search(seeds=1)).rate_per_s > 1.0


def test_a_recorded_trace_is_one_draw(tmp_path, monkeypatch):
    rows = "".join(f"{0.1 * number},200,1\n" for number in range(500))
    (tmp_path / "load.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = highest_rate(one_at_a_time(workload={"trace": "load.csv"}, slo={"ttft_p90": "15 ms"}))
    assert len(found.rates_per_s) == 1
    assert found.low_per_s is None
    assert any("one draw" in note for note in found.notes)
    assert json.loads(found.to_json(), parse_constant=pytest.fail)["objectives"][0]["name"] == "ttft_p90"


@pytest.mark.parametrize(
    ("changes", "search", "message"),
    [
        ({"workload": {"arrivals": {"process": "closed_loop", "concurrency": 2}, "prompt_tokens": 9, "output_tokens": 9, "requests": 9}}, {}, "have no rate"),
        ({}, {"seeds": 0}, "seeds: expected at least 1"),
        ({}, {"tolerance_ratio": 0.0}, r"tolerance: expected 0\.0001 to 0\.5"),
        ({}, {"warm_up_share": 1.0}, "warm-up: expected a share"),
        ({}, {"entry": 3}, "entry: expected 0 to 0"),
    ],
)
def test_what_is_asked_wrongly_is_refused(changes, search, message):
    with pytest.raises(SpecError, match=message):
        fewest_replicas(one_at_a_time(**changes), 5.0, Search(**search))


def test_too_few_requests_have_no_limit():
    load = {**one_at_a_time()["workload"], "requests": 1}
    with pytest.raises(SpecError, match="1 requests are too few to find a limit"):
        highest_rate(one_at_a_time(workload=load, slo={"ttft_p90": "10 s"}))


def test_a_short_load_is_noted():
    load = {**one_at_a_time()["workload"], "output_tokens": 200, "requests": 100}
    assert "a longer load" in highest_rate(one_at_a_time(workload=load, slo={"tpot_p90": "1 s"}, engine={"max_num_seqs": 50})).notes[-1]
