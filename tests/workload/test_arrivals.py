import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.catalog import DATA_VARIABLE
from effsim.errors import SpecError
from effsim.specs.scenario import load_scenario
from effsim.specs.workload import Arrivals, Workload
from effsim.workload.arrivals import arrival_times_s, generated, requests_of, stream
from effsim.workload.lengths import DRAWN_AT_ONCE


def load(**changes):
    fields = {"arrivals": {"process": "poisson", "rate": "10 req/s"}, "prompt_tokens": 100, "output_tokens": 20, "requests": 1000}
    return Workload.model_validate({**fields, **changes})


def scenario(**workload):
    return load_scenario({"name": "s", "kind": "serving", "model": "m", "fleet": [{"accelerator": "a"}], "workload": workload, "seed": 3})


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_gaps_have_the_mean_and_variation_of_their_shape(burstiness):
    arrivals = Arrivals(process="gamma", rate=5.0, burstiness=burstiness)
    gaps_s = np.diff(arrival_times_s(arrivals, stream(1, "arrivals"), 200_000, None))
    assert gaps_s.mean() == pytest.approx(0.2, rel=0.02)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(1.0 / math.sqrt(burstiness), rel=0.02)


def test_poisson_is_gamma_of_shape_one():
    poisson, gamma = Arrivals(process="poisson", rate=5.0), Arrivals(process="gamma", rate=5.0, burstiness=1.0)
    assert (arrival_times_s(poisson, stream(1, "x"), 50, None) == arrival_times_s(gamma, stream(1, "x"), 50, None)).all()


def test_deterministic_arrivals_are_evenly_spaced():
    arrivals = Arrivals(process="deterministic", rate=4.0)
    assert arrival_times_s(arrivals, stream(1, "x"), None, 1.0).tolist() == [0.0, 0.25, 0.5, 0.75]


@given(process=st.sampled_from(["poisson", "gamma"]), rate=st.floats(0.1, 50), duration_s=st.floats(1, 60), requests=st.none() | st.integers(1, 50))
def test_whichever_comes_first_ends_the_arrivals(process, rate, duration_s, requests):
    arrivals = Arrivals(process=process, rate=rate, burstiness=0.3 if process == "gamma" else None)
    times_s = arrival_times_s(arrivals, stream(5, "x"), requests, duration_s)
    assert (times_s < duration_s).all()
    assert (np.diff(times_s) >= 0.0).all()
    assert requests is None or times_s.size <= requests


def test_a_long_duration_is_filled():
    times_s = arrival_times_s(Arrivals(process="poisson", rate=10.0), stream(2, "x"), None, 1000.0)
    assert times_s.size == pytest.approx(10_000, abs=400)  # four standard deviations
    assert times_s[-1] > 998.0


def test_streams_are_independent_of_each_other():
    one = generated(load(), 4)
    other = generated(load(prompt_tokens={"kind": "uniform", "low": 1, "high": 9}), 4)
    assert (one.arrival_s == other.arrival_s).all()
    assert (one.arrival_s != generated(load(), 5).arrival_s).any()


def test_closed_loop_gives_the_number_of_requests():
    trace = generated(load(arrivals={"process": "closed_loop", "concurrency": 4}, requests=12), 1)
    assert trace.arrival_s.tolist() == [0.0] * 12


def test_too_many_or_no_requests_are_refused():
    with pytest.raises(SpecError, match="at most 20,000,000"):
        generated(load(arrivals={"process": "poisson", "rate": "1000 req/s"}, requests=None, duration="1 year"), 1)
    with pytest.raises(SpecError, match="no request arrives"):
        generated(load(arrivals={"process": "poisson", "rate": 1e-9}, duration="1 s"), 1)


def test_a_trace_is_found_cut_and_scaled(tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n10,2,1\n20,3,1\n")
    trace = requests_of(scenario(trace="t.csv", rate_scale=2.0, window={"start": "5 s", "end": "1 min"}))
    assert (trace.arrival_s.tolist(), trace.prompt_tokens.tolist()) == ([2.5, 7.5], [2, 3])
    with pytest.raises(SpecError, match=r"'u\.csv' is neither beside the scenario"):
        requests_of(scenario(trace="u.csv"))


def test_an_absent_azure_trace_is_replaced_and_said_so(monkeypatch, tmp_path):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    trace = requests_of(scenario(trace="azure_llm_2023_conv.csv", limit=100))
    assert len(trace) == 100
    assert trace.origin.startswith("synthetic")


def test_requests_of_generated_workload_use_the_seed():
    workload = {"arrivals": {"process": "poisson", "rate": "2 req/s"}, "prompt_tokens": 5, "output_tokens": 5, "requests": 10}
    assert (requests_of(scenario(**workload)).arrival_s == generated(Workload.model_validate(workload), 3).arrival_s).all()


@pytest.mark.parametrize(
    "arrivals", [{"process": "poisson", "rate": 100.0}, {"process": "diurnal", "rate": 100.0, "swing": 0.5}], ids=lambda one: one["process"]
)
def test_many_requests_take_three_columns_and_little_more(arrivals):
    lognormal = {"kind": "lognormal", "median": 900, "p90": 2500}
    tracemalloc.start()
    trace = generated(load(arrivals={**arrivals, "rate": 100.0}, prompt_tokens=lognormal, output_tokens=lognormal, requests=2 * DRAWN_AT_ONCE), 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(trace) == 2 * DRAWN_AT_ONCE
    assert peak < 24 * len(trace) + 32 * DRAWN_AT_ONCE
