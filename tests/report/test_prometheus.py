"""The Prometheus text keeps the grammar of the format, and its histograms agree with the requests."""

import re
from dataclasses import replace

import numpy as np
import pytest

from effsim.report.prometheus import TTFT_S, Family, exposition, files

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)?\}})? ([+-]?(?:\d+\.?\d*(?:e[+-]?\d+)?|Inf)|NaN)", re.ASCII)


def parsed(text):
    """Return samples by family, having checked every line against the format's grammar and the order of its lines."""
    assert text.endswith("\n")
    found, kind, current = {}, {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split(" ")[2]
            assert current not in found, f"{current} stands in two groups"
            found[current] = []
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind[current] = line.split(" ")
            assert name == current
            assert kind[current] in {"counter", "gauge", "histogram"}
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name, labels, value = match.groups()
        suffixes = ("_bucket", "_sum", "_count") if kind[current] == "histogram" else ("",)
        assert name in {current + suffix for suffix in suffixes}
        found[current].append((name.removeprefix(current), dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")), float(value)))
    return found, kind


@pytest.fixture
def metrics(serving_run):
    return parsed(files(serving_run.simulation, serving_run.summary, serving_run.power)["metrics.prom"])


def test_histograms_rise_to_their_count(metrics):
    found, kind = metrics
    histograms = [name for name, what in kind.items() if what == "histogram"]
    assert "vllm:time_to_first_token_seconds" in histograms
    assert "vllm:inter_token_latency_seconds" in histograms
    for name in histograms:
        buckets = [(float(labels["le"]), value) for suffix, labels, value in found[name] if suffix == "_bucket"]
        assert buckets == sorted(buckets)
        assert [value for _, value in buckets] == sorted(value for _, value in buckets)
        assert buckets[-1][0] == float("inf")
        (count,) = [value for suffix, _, value in found[name] if suffix == "_count"]
        assert buckets[-1][1] == count


def test_buckets_hold_the_requests(metrics, serving_run):
    found, _ = metrics
    ttft_s = serving_run.simulation.requests.ttft_s
    buckets = [value for suffix, _, value in found["vllm:time_to_first_token_seconds"] if suffix == "_bucket"]
    for edge_s, count in zip(TTFT_S, buckets, strict=False):  # an edge within 0.6 % of a latency may count on either side
        assert np.sum(ttft_s <= edge_s * 0.994) <= count <= np.sum(ttft_s <= edge_s * 1.006)
    (total_s,) = [value for suffix, _, value in found["vllm:time_to_first_token_seconds"] if suffix == "_sum"]
    assert total_s == pytest.approx(ttft_s.sum(), rel=1e-9)


def test_the_time_between_tokens_sums_to_that_of_the_requests(metrics, serving_run):
    found, _ = metrics
    requests = serving_run.simulation.requests
    (total_s,) = [value for suffix, _, value in found["vllm:inter_token_latency_seconds"] if suffix == "_sum"]
    assert total_s == pytest.approx((requests.e2e_latency_s - requests.ttft_s).sum(), rel=3e-3)
    (count,) = [value for suffix, _, value in found["vllm:inter_token_latency_seconds"] if suffix == "_count"]
    assert count == (requests.output_tokens - 1).sum()


def test_counters_are_those_of_the_run(metrics, serving_run):
    found, _ = metrics
    counts = serving_run.simulation.counts
    assert found["vllm:generation_tokens_total"][0][2] == counts.output_tokens == 1200
    assert found["vllm:request_success_total"][0] == ("", {"model_name": "llama-3.1-8b", "finished_reason": "length"}, 60.0)
    joules = sum(value for _, _, value in found["effsim:accelerator_energy_joules_total"])
    assert joules == pytest.approx(serving_run.simulation.energy.total_j, rel=1e-12)


def test_what_was_found_in_the_prefix_cache_is_counted(serving_run):
    result = serving_run.simulation
    told = tuple(replace(stats, asked_tokens=100, found_tokens=40) for stats in result.replicas)
    found, _ = parsed(files(replace(result, replicas=told), serving_run.summary, serving_run.power)["metrics.prom"])
    assert found["vllm:prefix_cache_queries_total"][0][2] == 200
    assert found["vllm:prefix_cache_hits_total"][0][2] == 80


def test_odd_text_is_escaped():
    text = exposition(iter([Family("a", "back\\slash\nline", "gauge", [("", {"m": 'say "a\\b"\n'}, 1e-7)])]))
    found, _ = parsed(text)
    assert found == {"a": [("", {"m": 'say \\"a\\\\b\\"\\n'}, 1e-7)]}
