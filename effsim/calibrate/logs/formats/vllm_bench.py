"""``vllm bench serve --save-result``: one JSON object per run; ``benchmark_serving.py`` before it wrote the same keys.

Source: docs.vllm.ai, vllm.benchmarks.serve (v0.9 to v0.15). SGLang's ``bench_serving`` writes the same latencies.
"""

from typing import Any, Final

from effsim.calibrate.logs.fields import MILLISECOND, count, positive, ratio, spread, text
from effsim.calibrate.logs.record import Measurement, Spread

TITLE: Final = "vLLM bench serve (JSON)"


def sniff(document: Any) -> bool:
    """Return whether a document has the keys that every version writes; ML.ENERGY's results, which have them too, have more."""
    return isinstance(document, dict) and {"completed", "output_throughput", "mean_ttft_ms"} <= set(document) and "steady_state_energy" not in document


def read(document: Any, where: str) -> list[Measurement]:
    """Return the run, or nothing where no request completed."""
    completed = count(document["completed"], f"{where}, completed")
    if completed is None:
        return []

    def latency(name: str) -> Spread:
        return spread(document, (f"mean_{name}_ms", f"median_{name}_ms", f"p90_{name}_ms", f"p99_{name}_ms"), MILLISECOND, where)

    def at(name: str) -> float | None:
        return positive(document.get(name), f"{where}, {name}")

    return [
        Measurement(
            source=where,
            tool=TITLE,
            model=text(document.get("model_id")),
            tensor_parallel=count(document.get("tensor_parallel_size"), f"{where}, tensor_parallel_size"),
            request_rate_per_s=at("request_rate"),
            concurrency=at("max_concurrency"),
            prompt_tokens=ratio(at("total_input_tokens") or at("total_input"), completed),
            output_tokens=ratio(at("total_output_tokens") or at("total_output"), completed),
            requests=completed,
            duration_s=at("duration"),
            ttft=latency("ttft"),
            tpot=latency("tpot"),
            itl=latency("itl"),
            e2e=latency("e2el"),
            output_tokens_per_s=at("output_throughput"),
            requests_per_s=at("request_throughput"),
        )
    ]
