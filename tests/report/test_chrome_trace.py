"""The Chrome trace: spans nest and add up to the requests' latencies, legs to the replicas' busy time and energy, counters to the joules."""

import copy
import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest

from effsim.cost import step
from effsim.report import chrome_trace
from effsim.run.serving import Keep, simulate_at
from effsim.specs.scenario import load_scenario
from tests.run.fakes import SCENARIO, FakeStep, fake_step_model


def trace_of(run):
    return json.loads(chrome_trace.files(run.simulation, run.summary, run.power)["trace.json"], parse_constant=pytest.fail)


def test_legs_fill_the_busy_time_and_hold_its_energy(serving_run):
    legs = [event for event in trace_of(serving_run)["traceEvents"] if event["ph"] == "X"]
    for index, stats in enumerate(serving_run.simulation.replicas):
        own = [leg for leg in legs if leg["pid"] == chrome_trace.FIRST_REPLICA + index]
        assert math.fsum(leg["dur"] for leg in own) == pytest.approx(stats.busy_s * 1e6, rel=1e-6)
        assert math.fsum(leg["args"]["energy_j"] for leg in own) == pytest.approx(stats.energy.busy_j, rel=1e-9)
        assert sum(leg["args"]["iterations"] for leg in own) == stats.iterations
        nanoseconds = sorted((round(leg["ts"] * 1e3), round(leg["dur"] * 1e3)) for leg in own)
        assert all(later[0] >= former[0] + former[1] for former, later in pairwise(nanoseconds))


def test_phases_of_a_request_follow_each_other_within_it(serving_run):
    spans = {}
    for event in trace_of(serving_run)["traceEvents"]:
        if event["ph"] in "be":
            spans.setdefault(event["id"], []).append(event)
    requests = serving_run.simulation.requests
    assert len(spans) == len(requests.arrival_s) == 60
    for number, events in spans.items():
        assert [event["ph"] for event in events].count("b") == [event["ph"] for event in events].count("e")
        assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)
        assert events[0]["name"] == events[-1]["name"] == f"request {number}"
        assert events[-1]["ts"] - events[0]["ts"] == pytest.approx(requests.e2e_latency_s[number] * 1e6, abs=2e-3)
        prefill_ends = [event["ts"] for event in events if event["name"] == "prefill" and event["ph"] == "e"]
        assert prefill_ends[0] - events[0]["ts"] == pytest.approx(requests.ttft_s[number] * 1e6, abs=2e-3)
        assert events[0]["pid"] == chrome_trace.FIRST_REPLICA + requests.replica[number]


def test_what_is_cut_is_said(serving_run, monkeypatch):
    assert trace_of(serving_run)["otherData"]["legs_shown"] == serving_run.simulation.legs.total
    monkeypatch.setattr(chrome_trace, "MOST_REQUESTS", 7)
    monkeypatch.setattr(step, "serving_step_model", fake_step_model)
    short = simulate_at(load_scenario(copy.deepcopy({**SCENARIO, "what_if": []})), 0, keep=Keep(most_legs=5))
    said = trace_of(short)
    assert (said["otherData"]["legs_shown"], said["otherData"]["requests_shown"]) == (5, 7)
    assert said["otherData"]["legs_total"] == serving_run.simulation.legs.total
    assert sum(event["ph"] == "X" for event in said["traceEvents"]) == 5


def test_joined_counters_keep_the_energy(serving_run, monkeypatch):
    monkeypatch.setattr(chrome_trace, "MOST_POINTS", 2)
    points = [event for event in trace_of(serving_run)["traceEvents"] if event["ph"] == "C" and event["name"] == "power (W)"]
    assert len(points) == 3
    joules = sum(a["args"]["server_w"] * (b["ts"] - a["ts"]) * 1e-6 for a, b in pairwise(points))
    assert joules == pytest.approx(serving_run.summary["energy"]["server_j"], rel=1e-5)


def test_a_dropped_request_is_a_mark_with_its_reason(monkeypatch):
    monkeypatch.setattr(step, "serving_step_model", lambda *a, **k: FakeStep(kv_capacity_tokens=64))
    run = simulate_at(load_scenario(copy.deepcopy({**SCENARIO, "what_if": []})), 0, keep=Keep(most_legs=5))
    marks = [event for event in trace_of(run)["traceEvents"] if event["ph"] == "i"]
    assert len(marks) == 60
    assert "KV blocks" in marks[0]["args"]["reason"]


def test_without_legs_there_are_none(serving_run):
    run = replace(serving_run, simulation=replace(serving_run.simulation, legs=None))
    assert trace_of(run)["otherData"]["legs_total"] is None
