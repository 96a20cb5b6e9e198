"""The figures of a serving run under the names that ``vllm bench serve --save-result`` writes.

Source: github.com/vllm-project/vllm, vllm/benchmarks/serve.py (v0.9 to v0.15): latencies in ms, rates per second; ``median_*`` is the 50th percentile.
"""

from collections.abc import Mapping
from typing import Any, Final

from effsim.sim.result import Counts

MILLISECOND: Final = 1e3
NAMES: Final = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e": "e2el"}
"""Ours -> vLLM's."""


def vllm_names(counts: Counts, span_s: float, latency: Mapping[str, Mapping[str, float | None]], *, has_limits: bool) -> dict[str, Any]:
    """Return what the benchmark's JSON holds and a simulation knows.

    Args:
        counts: Of requests and tokens.
        span_s: From time 0 to the end of the last request, the benchmark's ``duration`` [s].
        latency: Of each name, ``mean_s`` and percentiles.
        has_limits: Some latency has a limit, so that ``request_goodput`` exists: requests per second that keep all of them.

    >>> counts = Counts(4, 4, {}, 0, 9, 40, 8, 0, 3)
    >>> found = vllm_names(counts, 2.0, {name: {"mean_s": 0.5, "p50_s": None} for name in NAMES}, has_limits=True)
    >>> found["request_throughput"], found["request_goodput"], found["total_token_throughput"], found["mean_e2el_ms"], found["median_ttft_ms"]
    (2.0, 1.5, 24.0, 500.0, None)
    """
    found: dict[str, Any] = {
        "duration": span_s,
        "completed": counts.completed,
        "failed": counts.arrived - counts.completed,
        "total_input_tokens": counts.prompt_tokens,
        "total_output_tokens": counts.output_tokens,
        "request_throughput": counts.completed / span_s,
        "request_goodput": counts.within_limits / span_s if has_limits else None,
        "output_throughput": counts.output_tokens / span_s,
        "total_token_throughput": (counts.prompt_tokens + counts.output_tokens) / span_s,
    }
    for ours, theirs in NAMES.items():
        for key, value_s in latency[ours].items():
            name = {"mean_s": "mean", "p50_s": "median"}.get(key, key.removesuffix("_s"))
            found[f"{name}_{theirs}_ms"] = None if value_s is None else value_s * MILLISECOND
    return found
