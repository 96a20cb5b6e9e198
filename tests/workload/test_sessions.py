"""Conversations of several turns, and what else a generated workload may have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.errors import SpecError
from effsim.specs.scenario import load_scenario
from effsim.specs.workload import Workload
from effsim.workload.arrivals import generated, requests_of
from effsim.workload.traces import Trace

LOAD = {
    "arrivals": {"process": "poisson", "rate": "2 req/s"},
    "prompt_tokens": {"kind": "uniform", "low": 1, "high": 50},
    "output_tokens": {"kind": "uniform", "low": 1, "high": 30},
    "sessions": {"turns": {"kind": "geometric", "mean": 3}, "think": {"kind": "exponential", "mean": "20 s"}},
    "requests": 400,
}


def drawn(seed=1, **changes):
    return generated(Workload.model_validate({**LOAD, **changes}), seed)


@given(seed=st.integers(0, 10**6), requests=st.integers(1, 300), limited=st.booleans())
def test_each_prompt_is_all_that_was_said_before_and_what_the_turn_adds(seed, requests, limited):
    sessions = {**LOAD["sessions"], **({"max_context": 150} if limited else {})}
    trace = drawn(seed, requests=requests, sessions=sessions)
    assert len(trace) == requests or limited
    former = trace.former_turns()
    later = former >= 0
    said = trace.prompt_tokens[former[later]] + trace.output_tokens[former[later]]
    assert (trace.prefix_tokens[later] == said).all()
    assert (trace.prefix_tokens[~later] == 0).all()
    added = trace.prompt_tokens - trace.prefix_tokens
    assert ((added >= 1) & (added <= 50)).all()
    assert (np.isnan(trace.think_s) == ~later).all()
    assert (trace.arrival_s[later] == trace.arrival_s[former[later]]).all()
    if limited:
        assert (trace.prompt_tokens + trace.output_tokens)[later].max(initial=0) <= 150


def test_turns_and_think_times_follow_their_distributions():
    trace = drawn(requests=60_000)
    assert np.bincount(trace.session)[:-1].mean() == pytest.approx(3.0, rel=0.02)
    assert np.nanmean(trace.think_s) == pytest.approx(20.0, rel=0.02)
    firsts = np.diff(trace.arrival_s[np.isnan(trace.think_s)])
    assert firsts.mean() == pytest.approx(0.5, rel=0.02)


def test_a_duration_ends_first_turns():
    trace = drawn(requests=None, duration="100 s")
    assert trace.arrival_s.max() < 100.0
    assert np.isnan(trace.think_s).sum() == pytest.approx(200, abs=60)
    assert len(trace) > 400


def test_sessions_of_a_closed_loop_begin_in_turn():
    trace = drawn(arrivals={"process": "closed_loop", "concurrency": 4})
    assert (len(trace), trace.duration_s) == (400, 0.0)


def test_lengths_from_a_trace_are_its_pairs(tmp_path):
    (tmp_path / "pairs.jsonl").write_text("".join(f'{{"timestamp": 0, "input_length": {n}, "output_length": {n + 1}}}\n' for n in (5, 9)), encoding="utf-8")
    workload = {"arrivals": {"process": "poisson", "rate": 1}, "lengths_from": "pairs.jsonl", "requests": 2000}
    text = f"name: s\nkind: serving\nmodel: m\nfleet: [{{accelerator: a}}]\nworkload: {workload}\n"
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    trace = requests_of(load_scenario(tmp_path / "s.yaml"))
    assert (trace.output_tokens == trace.prompt_tokens + 1).all()
    assert (trace.prompt_tokens == 5).mean() == pytest.approx(0.5, abs=0.05)
    absent = {"name": "s", "kind": "serving", "model": "m", "fleet": [{"accelerator": "a"}], "workload": {**workload, "lengths_from": "none.csv"}}
    with pytest.raises(SpecError, match=r"workload\.lengths_from: 'none\.csv' is neither beside"):
        requests_of(load_scenario(absent))


def test_priorities_are_drawn_by_weight():
    trace = drawn(priorities={"values": [0, 10], "weights": [1, 3]}, requests=20_000)
    assert (trace.priority == 10).mean() == pytest.approx(0.75, abs=0.02)


def test_sessions_of_too_many_requests_are_refused():
    with pytest.raises(SpecError, match="at most 20,000,000"):
        drawn(requests=None, duration="1 year", arrivals={"process": "poisson", "rate": "1 req/s"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lengths_from": "t.csv"}, "lengths_from excludes prompt_tokens and output_tokens"),
        ({"volume_scale": 2.0}, "volume_scale apply to a trace only"),
        ({"trace": "t.csv"}, "a trace excludes .*sessions"),
        ({"sessions": {"turns": 3, "think": {"kind": "lognormal", "median": "9 s", "p90": "2 s"}}}, "p90 .* must not be below median"),
        ({"priorities": {"values": [1], "weights": [0]}}, "weights must be 1 numbers"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Workload.model_validate({**LOAD, **changes})


def test_a_turn_without_a_former_one_is_refused():
    with pytest.raises(SpecError, match="request 1 has think_s, but no earlier turn"):
        Trace("t", "test", np.zeros(2), np.ones(2), np.ones(2), session=np.array([0, 1]), think_s=np.array([np.nan, 1.0]))
