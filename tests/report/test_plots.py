"""Pictures of a run: whole SVG, the same bytes for the same run; joining bins keeps joules."""

import copy
import json
import sys
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from effsim.cost import step
from effsim.errors import MissingExtraError
from effsim.report import chrome_trace
from effsim.report.plots import files, joined
from effsim.run.serving import simulate_at
from effsim.sim.control.report import OperationReport
from effsim.specs.scenario import load_scenario
from tests.run.fakes import SCENARIO, FakeStep


def test_three_pictures_that_parse_and_repeat(serving_run):
    first, second = (files(serving_run.simulation, serving_run.summary, serving_run.power) for _ in range(2))
    assert first == second
    assert list(first) == ["latency.svg", "load.svg", "power.svg"]
    words = {name: " ".join(ET.fromstring(text).itertext()) for name, text in first.items()}  # noqa: S314 -- our own text
    assert all(word in words["latency.svg"] for word in ("TTFT", "TPOT", "ITL", "end to end", "triangle: limit"))
    assert "waiting" in words["load.svg"]
    assert "cooling and distribution of the site" in words["power.svg"]


def test_without_a_site_or_a_served_request_there_are_pictures(monkeypatch):
    monkeypatch.setattr(step, "serving_step_model", lambda *a, **k: FakeStep(kv_capacity_tokens=64))
    run = simulate_at(load_scenario(copy.deepcopy({**SCENARIO, "what_if": [], "site": None})), 0)
    pictures = files(run.simulation, run.summary, run.power)
    assert "cooling" not in pictures["power.svg"]
    assert "TTFT" not in pictures["latency.svg"]


def test_joining_keeps_joules_and_time():
    random = np.random.default_rng(1)
    duration_s = np.append(np.ones(99), 0.25)
    frame = pd.DataFrame({"time_s": np.arange(100.0), "duration_s": duration_s, "server_w": random.random(100)})
    few = joined(frame, 7)
    assert len(few) <= 7
    assert few.duration_s.sum() == pytest.approx(99.25)
    assert (few.server_w * few.duration_s).sum() == pytest.approx((frame.server_w * duration_s).sum(), rel=1e-12)
    assert np.allclose(few.time_s[1:], np.cumsum(few.duration_s)[:-1])


def test_without_matplotlib_the_message_says_what_to_install(serving_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"effsim\[report\]"):
        files(serving_run.simulation, serving_run.summary, serving_run.power)


def test_replicas_that_come_and_go_are_shown(serving_run):
    nothing = dict.fromkeys(OperationReport.__slots__, 0)
    report = OperationReport(**{**nothing, "levels": (), "replicas": ((0.0, 2, 0), (1.0, 2, 1), (2.0, 3, 0))})
    load = files(replace(serving_run.simulation, operation=report), serving_run.summary, serving_run.power)["load.svg"]
    assert "starting" in load
    assert "starting" not in files(serving_run.simulation, serving_run.summary, serving_run.power)["load.svg"]
    events = json.loads(chrome_trace.files(replace(serving_run.simulation, operation=report), serving_run.summary, serving_run.power)["trace.json"])
    shown = [event["args"] for event in events["traceEvents"] if event["name"] == "replicas"]
    assert shown == [{"on": 2, "starting": 0}, {"on": 2, "starting": 1}, {"on": 3, "starting": 0}]
