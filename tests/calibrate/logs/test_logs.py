"""Logs of five tools, written as the tools write them, and what is refused."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.calibrate.logs import read_log, read_logs, table
from effsim.calibrate.logs import reader as reader_module
from effsim.errors import SpecError

VLLM = {
    "date": "20261101-120000", "backend": "vllm", "model_id": "Qwen/Qwen3-8B", "num_prompts": 200, "request_rate": "inf", "max_concurrency": 16,
    "duration": 40.0, "completed": 200, "total_input_tokens": 100_000, "total_output_tokens": 50_000, "request_throughput": 5.0,
    "output_throughput": 1250.0, "total_token_throughput": 3750.0, "mean_ttft_ms": 80.0, "median_ttft_ms": 75.0, "std_ttft_ms": 9.0, "p99_ttft_ms": 150.0,
    "mean_tpot_ms": 12.0, "median_tpot_ms": 11.5, "p99_tpot_ms": 14.0, "mean_itl_ms": 12.0, "median_itl_ms": 11.0, "p99_itl_ms": 60.0,
}  # fmt: skip
AIPERF = {
    "schema_version": "1.3",
    "request_throughput": {"unit": "requests/sec", "avg": 2.0},
    "request_latency": {"unit": "ms", "avg": 4000.0, "p50": 3900.0, "p90": 4400.0, "p99": 4500.0},
    "request_count": {"unit": "requests", "avg": 100.0},
    "time_to_first_token": {"unit": "ms", "avg": 200.0, "p50": 175.0, "p90": 250.0, "p99": 260.0},
    "inter_token_latency": {"unit": "ms", "avg": 30.0, "p50": 29.0},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 256.0},
    "output_sequence_length": {"unit": "tokens", "avg": 128.0},
    "input_sequence_length": {"unit": "tokens", "avg": 512.0},
    "benchmark_duration": {"unit": "sec", "avg": 50.0},
    "input_config": {"endpoint": {"model_names": ["qwen3-8b"]}, "loadgen": {"concurrency": 8, "request_rate": None}},
    "telemetry_data": {"endpoints": {"dcgm": {"gpus": {"0": {"metrics": {"energy_consumption": {"unit": "MJ", "avg": 0.02}}}}}}},
}
AIPERF_CSV = """Metric,avg,min,max,p99,p95,p90,p75,p50,std
Time to First Token (ms),200.00,100,300,260,255,250,230,175,20
Inter Token Latency (ms),30.00,28,33,32,31,31,30,29,1
Request Latency (ms),"4,000.00",3500,4600,4500,4450,4400,4200,3900,200
Input Sequence Length (tokens),512,512,512,512,512,512,512,512,0
Output Sequence Length (tokens),128,128,128,128,128,128,128,128,0

Metric,Value
Output Token Throughput (tokens/sec),256.00
Request Count (requests),100
Request Throughput (requests/sec),2.00
"""


def statistics(mean, median):
    return {"successful": {"mean": mean, "median": median, "percentiles": {"p50": median, "p90": median * 1.5, "p99": median * 2.0}}}


GUIDELLM = {
    "args": {"model": "qwen3-8b"},
    "benchmarks": [
        {
            "config": {"strategy": {"type_": "constant", "rate": rate}},
            "duration": 30.0,
            "metrics": {
                "request_totals": {"successful": done},
                "requests_per_second": statistics(done / 30.0, 1.0),
                "request_concurrency": statistics(6.5, 6.0),
                "prompt_token_count": statistics(256.0, 256.0),
                "output_token_count": statistics(128.0, 128.0),
                "time_to_first_token_ms": statistics(60.0, 50.0),
                "inter_token_latency_ms": statistics(11.0, 10.0),
                "request_latency": statistics(1.5, 1.4),
                "output_tokens_per_second": statistics(250.0, 250.0),
            },
        }
        for rate, done in ((2.0, 60), (50.0, 0))
    ],
}
ML_ENERGY_RUN = {
    "model_id": "m", "completed": 4, "duration": 100.0, "total_input_tokens": 400, "total_output_tokens": 800, "output_throughput": 8.0,
    "request_throughput": 0.04, "mean_ttft_ms": 10.0, "steady_state_energy": 30_000.0, "steady_state_duration": 60.0, "steady_state_energy_per_token": 50.0,
    "results": [{"success": True, "ttft": 0.1, "itl": [0.01, 0.03]}, {"success": False, "ttft": 9.0, "itl": [9.0]}],
}  # fmt: skip
LEADERBOARD = {
    "model_id": "org/m",
    "task": "chat",
    "configurations": [
        {
            "gpu_model": "H100", "num_gpus": 2, "max_num_seqs": 16, "max_num_batched_tokens": None, "parallelization": {"tensor_parallel": 2},
            "energy_per_token_joules": 0.5, "energy_per_request_joules": 400.0, "median_itl_ms": 12.0, "p95_itl_ms": 20.0,
            "output_throughput_tokens_per_sec": 1600.0, "avg_batch_size": 15.5,
        }
    ],
}  # fmt: skip


@pytest.fixture
def log(tmp_path):
    def written(content, name="log.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return written


def test_vllm_bench(log):
    (one,) = read_log(log(VLLM))
    assert (one.tool, one.model, one.request_rate_per_s, one.concurrency) == ("vLLM bench serve (JSON)", "Qwen/Qwen3-8B", None, 16.0)
    assert (one.prompt_tokens, one.output_tokens, one.output_tokens_per_s) == (500.0, 250.0, 1250.0)
    assert (one.ttft.median_s, one.ttft.p99_s, one.ttft.p90_s) == (0.075, 0.15, None)
    assert one.itl.median_s == pytest.approx(0.011)
    assert one.power_w is None, "not measured is blank"
    assert one.e2e.is_blank


def test_aiperf(log):
    (one,) = read_log(log(AIPERF))
    assert (one.model, one.concurrency, one.num_accelerators) == ("qwen3-8b", 8.0, 1)
    assert (one.ttft.mean_s, one.tpot.median_s, one.e2e.p99_s) == (0.2, 0.029, 4.5)
    assert one.energy_j == pytest.approx(20_000.0)
    assert one.power_w == pytest.approx(400.0)
    assert one.energy_per_output_token_j == pytest.approx(20_000.0 / 12_800.0)
    assert one.running == pytest.approx(8.0), "2 requests per second of 4 s each"


def test_the_csv_of_aiperf_says_what_its_json_says(log):
    (one,), (other,) = read_log(log(AIPERF_CSV, "profile_export_aiperf.csv")), read_log(log(AIPERF))
    for name in ("prompt_tokens", "output_tokens", "requests", "duration_s", "output_tokens_per_s", "requests_per_s", "ttft", "e2e"):
        assert getattr(one, name) == getattr(other, name), name


def test_a_unit_that_is_no_time_is_refused(log):
    with pytest.raises(SpecError, match="time_to_first_token: the unit 'tokens' is no time"):
        read_log(log({**AIPERF, "time_to_first_token": {"unit": "tokens", "avg": 1.0}}))


def test_guidellm_gives_a_load_per_benchmark_in_which_requests_succeeded(log):
    (one,) = read_log(log(GUIDELLM))
    assert (one.model, one.request_rate_per_s, one.requests, one.running) == ("qwen3-8b", 2.0, 60, 6.5)
    assert (one.ttft.median_s, one.ttft.p90_s, one.tpot.mean_s, one.e2e.mean_s) == (0.05, 0.075, 0.011, 1.5)


def test_ml_energy_run(log):
    (one,) = read_log(log(ML_ENERGY_RUN))
    assert one.tool == "ML.ENERGY (JSON)", "a run has vLLM's keys too"
    assert (one.power_w, one.energy_per_output_token_j, one.output_tokens) == (500.0, 50.0, 200.0)
    assert one.itl.mean_s == pytest.approx(0.02), "failed requests do not count"


def test_the_leaderboard(log):
    (one,) = read_log(log(LEADERBOARD))
    assert (one.model, one.accelerator, one.num_accelerators, one.tensor_parallel) == ("org/m", "H100", 2, 2)
    assert (one.power_w, one.output_tokens, one.batch) == (800.0, 800.0, 15.5)


def test_plain_csv(log):
    text = "model,tensor_parallel,concurrency,ttft_median_s,itl_p99_ms,output_tokens_per_s,power_w\nqwen3-8b,2,8,0.1,25,900,1200\n,,,,,,\n"
    (one,) = read_log(log(text, "mine.csv"))
    assert (one.model, one.tensor_parallel, one.concurrency, one.power_w) == ("qwen3-8b", 2, 8.0, 1200.0)
    assert (one.ttft.median_s, one.itl.p99_s) == (0.1, 0.025)


def test_several_files_make_one_table(log):
    rows = table(read_logs([log(VLLM, "a.json"), log(GUIDELLM, "b.json"), log(LEADERBOARD, "c.json")]))
    assert rows["ttft.median_s"].tolist()[:2] == [0.075, 0.05]
    assert rows.source.str.contains("benchmarks").tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("{}", "not a log of a known format; known: "),
        ("[1, 2]", "not a log of a known format"),
        ("a,b\n1,2\n", "not a log of a known format"),
        ('{"completed": 3, "output_thr', "line 1: not JSON"),
        ('{"a": ' * 5000, "JSON|nested"),
        (json.dumps({**VLLM, "completed": 0}), "no run in it has completed requests"),
        (json.dumps({**VLLM, "mean_ttft_ms": "fast"}), "mean_ttft_ms: expected a number, got 'fast'"),
        (json.dumps({**VLLM, "duration": -1}), "duration: expected a number of at least 0"),
        (json.dumps({**VLLM, "request_throughput": [1]}), "request_throughput: expected a number"),
        (json.dumps({**ML_ENERGY_RUN, "results": 3}), "malformed"),
        ("tensor_parallel,power_w,ttft_medan_s\n1,2,3\n", "'ttft_medan_s' is not known; did you mean 'ttft_median_s'"),
        ("tensor_parallel,power_w\n1,much\n", "row 1, power_w: expected a number, got 'much'"),
    ],
)
def test_what_is_no_log_is_refused_in_one_message(log, content, said):
    with pytest.raises(SpecError, match=said) as caught:
        read_log(log(content))
    assert "\n" not in str(caught.value)


def test_a_file_beyond_the_limit_is_not_read(log, monkeypatch):
    monkeypatch.setattr(reader_module, "MAX_LOG_BYTES", 100)
    with pytest.raises(SpecError, match="at most 100"):
        read_log(log(VLLM))


LEAF = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5)
JSON = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3))


@pytest.mark.parametrize("base", [VLLM, AIPERF, GUIDELLM["benchmarks"][0]["metrics"], ML_ENERGY_RUN, LEADERBOARD["configurations"][0]])
@given(data=st.data())
def test_a_spoilt_field_gives_a_number_or_a_message(base, data, tmp_path_factory):
    spoilt = {**base, data.draw(st.sampled_from(sorted(base))): data.draw(JSON)}
    wrapped = {"energy_per_token_joules": {"configurations": [spoilt]}, "requests_per_second": {"benchmarks": [{"metrics": spoilt}]}}
    document = next((whole for key, whole in wrapped.items() if key in base), spoilt)
    path = tmp_path_factory.mktemp("spoilt") / "log.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    try:
        found = read_log(path)
    except SpecError:
        return
    assert all(value is None or value > 0.0 for one in found for value in asdict(one).values() if isinstance(value, float))
