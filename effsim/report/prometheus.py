"""A serving run as Prometheus text under the names of vLLM's metrics, so that boards made for vLLM show it.

Names, help and buckets: github.com/vllm-project/vllm, vllm/v1/metrics/loggers.py (v0.9 to v0.12). Format: text exposition 0.0.4,
prometheus.io/docs/instrumenting/exposition_formats. Gauges are means over the last bin of the time series, as a scrape at the end of the run would
have them; counters and histograms are of the whole run and of all replicas together.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pandas as pd

from effsim.sim.recorder import Histogram
from effsim.sim.result import SimulationResult

FILE: Final = "metrics.prom"
TTFT_S: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
TOKEN_S: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
REQUEST_S: Final = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip


class Family(NamedTuple):
    """A metric: its name, help text and type, and its samples: suffix of the name, labels, value."""

    name: str
    help: str
    kind: str
    samples: Sequence[tuple[str, Mapping[str, str], float]]


def files(result: SimulationResult, summary: Mapping[str, Any], power: pd.DataFrame) -> dict[str, str]:
    """Return the text by the name of its file."""
    return {FILE: exposition(families(result, str(summary["model"]), power))}


def families(result: SimulationResult, model: str, power: pd.DataFrame) -> Iterator[Family]:
    """Yield the metrics of a run.

    Args:
        result: The run.
        model: For the label ``model_name``.
        power: Its time series.
    """
    label, last, counts = {"model_name": model}, power.iloc[-1], result.counts

    def one(name: str, words: str, kind: str, value: float) -> Family:
        return Family(name, words, kind, [("", label, value)])

    yield one("vllm:num_requests_running", "Number of requests in model execution batches.", "gauge", float(last["running"]))
    yield one("vllm:num_requests_waiting", "Number of requests waiting to be processed.", "gauge", float(last["waiting"]))
    yield one("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", "gauge", float(last["kv_usage"]))
    yield one("vllm:num_preemptions_total", "Cumulative number of preemption from the engine.", "counter", counts.preemptions)
    asked, found = (sum(getattr(stats, name) for stats in result.replicas) for name in ("asked_tokens", "found_tokens"))
    yield one("vllm:prefix_cache_queries_total", "Prefix cache queries, in terms of number of queried tokens.", "counter", asked)
    yield one("vllm:prefix_cache_hits_total", "Prefix cache hits, in terms of number of cached tokens.", "counter", found)
    yield one("vllm:prompt_tokens_total", "Number of prefill tokens of completed requests.", "counter", counts.prompt_tokens)
    yield one("vllm:generation_tokens_total", "Number of generation tokens of completed requests.", "counter", counts.output_tokens)
    finished = [("", {**label, "finished_reason": "length"}, float(counts.completed))]
    yield Family("vllm:request_success_total", "Count of successfully processed requests.", "counter", finished)
    named = (
        ("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", "ttft_s", TTFT_S),
        ("vllm:request_time_per_output_token_seconds", "Histogram of time per output token of a request in seconds.", "tpot_s", TOKEN_S),
        ("vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", "e2e_latency_s", REQUEST_S),
        ("vllm:request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", "queue_s", REQUEST_S),
    )
    for name, words, column, edges_s in named:
        known = result.latency[column]
        yield _histogram((name, words), known.histogram, edges_s, known.mean_s, label)
    itl, mean_s = result.inter_token, result.inter_token.mean_s()
    yield _histogram(("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds."), itl, TOKEN_S, mean_s, label)
    if counts.dropped:
        dropped = [("", {**label, "reason": reason}, float(count)) for reason, count in sorted(counts.dropped.items())]
        yield Family("effsim:requests_dropped_total", "Count of requests that were not served.", "counter", dropped)
    joules = [("", {**label, "part": part.removesuffix("_j")}, float(getattr(result.energy, part))) for part in type(result.energy).__slots__]
    yield Family("effsim:accelerator_energy_joules_total", "Energy of all accelerators by what it is spent on.", "counter", joules)
    watts = [("", {**label, "scope": scope}, float(last[f"{scope}_w"])) for scope in ("accelerator", "server", "site") if math.isfinite(last[f"{scope}_w"])]
    yield Family("effsim:power_watts", "Power of accelerators, servers and site.", "gauge", watts)


def _histogram(title: tuple[str, str], known: Histogram, edges_s: Sequence[float], mean_s: float | None, label: Mapping[str, str]) -> Family:
    count = sum(known.counts)
    buckets = [("_bucket", {**label, "le": repr(edge)}, float(below)) for edge, below in zip(edges_s, known.counts_up_to(edges_s), strict=True)]
    total_s = mean_s * count if mean_s is not None and count else 0.0
    ends = [("_bucket", {**label, "le": "+Inf"}, float(count)), ("_sum", label, total_s), ("_count", label, float(count))]
    return Family(*title, "histogram", [*buckets, *ends])


def exposition(metrics: Iterator[Family]) -> str:
    r"""Return metrics in the text format.

    >>> print(exposition(iter([Family("a:b", "x\ny", "gauge", [("", {"m": 'q"'}, 2.0)])])), end="")
    # HELP a:b x\ny
    # TYPE a:b gauge
    a:b{m="q\""} 2
    """
    lines: list[str] = []
    for family in metrics:
        words = family.help.replace("\\", r"\\").replace("\n", r"\n")
        lines += [f"# HELP {family.name} {words}", f"# TYPE {family.name} {family.kind}"]
        for suffix, labels, value in family.samples:
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            lines.append(f"{family.name}{suffix}{{{inside}}} {number(value)}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def number(value: float) -> str:
    """Return a number as the format has it: shortest form that reads back the same.

    >>> number(3.0), number(0.25), number(math.inf), number(math.nan)
    ('3', '0.25', '+Inf', 'NaN')
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0.0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))
