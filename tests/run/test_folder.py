"""The folder of a run: the same requests as CSV and Parquet, the benchmark's names as a reader of them finds them, many requests in a stream."""

import copy
import json
import sys

import numpy as np
import pandas as pd
import pytest

from effsim.calibrate.logs.formats import vllm_bench
from effsim.cost import step
from effsim.errors import MissingExtraError
from effsim.report import chrome_trace, plots, prometheus
from effsim.run import Settings, run, serving
from effsim.run.serving import Keep, simulate, simulate_at
from effsim.specs.scenario import load_scenario
from tests.run.fakes import SCENARIO, fake_step_model

pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, which is an extra")
EXPORTS = (chrome_trace.files, prometheus.files, plots.files)


@pytest.fixture(autouse=True)
def _simple_costs(monkeypatch):
    monkeypatch.setattr(step, "serving_step_model", fake_step_model)


def scenario(**changes):
    return {**copy.deepcopy(SCENARIO), "what_if": [], **changes}


def test_all_files_are_there_and_tables_agree(tmp_path):
    report = run(scenario(), settings=Settings(output=tmp_path, exports=EXPORTS, most_legs=100, intervals=False, workers=1))
    tables = {f"{name}.{kind}" for name in ("requests", "timeseries") for kind in ("csv", "parquet")}
    others = {"config.yaml", "summary.json", "metadata.json", "trace.json", "metrics.prom", "latency.svg", "load.svg", "power.svg"}
    assert {path.name for path in tmp_path.iterdir()} == tables | others
    for name in ("requests", "timeseries"):
        as_text = pd.read_csv(tmp_path / f"{name}.csv").drop(columns="dropped", errors="ignore")
        columns = pq.read_table(tmp_path / f"{name}.parquet").to_pydict()
        for column in as_text:
            assert np.allclose(as_text[column], np.array(columns[column], dtype=float), rtol=1e-12, equal_nan=True)
    assert "not_written" not in report.metadata


def test_only_the_base_keeps_its_tables(tmp_path):
    report = run(SCENARIO, settings=Settings(output=tmp_path, intervals=False, workers=1))
    assert len(report.variants) == 3
    assert len(pd.read_csv(tmp_path / "requests.csv")) == 60


def test_what_needs_a_package_is_left_out_and_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    report = run(scenario(), settings=Settings(output=tmp_path, exports=EXPORTS, intervals=False, workers=1))
    said = json.loads((tmp_path / "metadata.json").read_text(encoding="utf-8"))["not_written"]
    assert said == report.metadata["not_written"]
    assert set(said) == {"requests.parquet", "timeseries.parquet", "plots"}
    assert "effsim[parquet]" in said["requests.parquet"]
    assert (tmp_path / "requests.csv").is_file()
    assert not list(tmp_path.glob(".*"))


def test_many_requests_stream_to_row_groups_and_the_summary_is_of_histograms(tmp_path, monkeypatch):
    whole = simulate(scenario())
    monkeypatch.setattr(serving, "MAX_KEPT", 10)
    monkeypatch.setattr("effsim.sim.log.BLOCK_ROWS", 16)
    monkeypatch.setattr("effsim.run.request_log.GROUP_ROWS", 20)
    path = tmp_path / "requests.parquet"
    streamed = simulate_at(load_scenario(scenario()), 0, keep=Keep(requests_file=path))
    assert len(streamed.requests) == 0
    file = pq.ParquetFile(path)
    assert file.metadata.num_rows == 60
    assert file.metadata.num_row_groups == 2
    rows = file.read().to_pydict()
    order = np.argsort(rows["id"])
    for name in ("arrival_s", "prompt_tokens", "ttft_s", "e2e_latency_s", "energy_j", "replica"):
        assert np.array(rows[name])[order].tolist() == whole.requests[name].tolist()
    for name in ("ttft", "e2e", "queue"):
        mine, theirs = streamed.summary["latency"][name], whole.summary["latency"][name]
        assert mine["mean_s"] == pytest.approx(theirs["mean_s"], rel=1e-12)
    ttft_s = np.sort(whole.requests.ttft_s)
    assert ttft_s[53] * 0.994 <= streamed.summary["latency"]["ttft"]["p90_s"] <= ttft_s[54] * 1.006
    assert streamed.summary["energy"] == whole.summary["energy"]
    assert streamed.summary["throughput"] == whole.summary["throughput"]


def test_a_stream_leaves_nothing_when_the_run_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "MAX_KEPT", 10)
    monkeypatch.setattr("effsim.sim.log.BLOCK_ROWS", 16)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_at(load_scenario(scenario()), 0, stop, Keep(requests_file=tmp_path / "requests.parquet"))
    assert list(tmp_path.iterdir()) == []


def test_a_stream_without_pyarrow_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "MAX_KEPT", 10)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"effsim\[parquet\]"):
        simulate_at(load_scenario(scenario()), 0, keep=Keep(requests_file=tmp_path / "requests.parquet"))


def test_a_streamed_run_says_where_its_requests_are(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "MAX_KEPT", 10)
    report = run(scenario(), settings=Settings(output=tmp_path, exports=EXPORTS, most_legs=10, intervals=False, workers=1))
    assert "requests.csv" in report.metadata["not_written"]
    assert pq.ParquetFile(tmp_path / "requests.parquet").metadata.num_rows == 60
    assert json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["otherData"]["requests_shown"] == 0


def test_names_of_the_benchmark_are_read_back_by_the_reader_of_its_files():
    result = simulate(scenario(slo={"ttft_p90": "1 s", "ttft_p99": "20 ms", "tpot_p90": "100 ms"}))
    said = json.loads(json.dumps(result.summary["vllm_bench"]))
    assert vllm_bench.sniff(said)
    (read,) = vllm_bench.read(said, "here")
    requests = result.requests
    assert (read.requests, read.prompt_tokens, read.output_tokens) == (60, 200, 20)
    assert read.ttft.mean_s == pytest.approx(requests.ttft_s.mean(), rel=1e-12)
    assert read.e2e.p99_s == pytest.approx(np.percentile(requests.e2e_latency_s, 99), rel=1e-12)
    between_s = (requests.e2e_latency_s - requests.ttft_s).sum() / (60 * 19)
    assert read.itl.mean_s == pytest.approx(between_s, rel=3e-3)
    kept = (requests.ttft_s <= 0.02) & (requests.tpot_s <= 0.1)
    assert 0 < kept.sum() < 60
    assert said["request_goodput"] == pytest.approx(kept.sum() / result.summary["duration_s"])
    assert simulate(scenario(slo={})).summary["vllm_bench"]["request_goodput"] is None
