"""GuideLLM: ``benchmarks.json``; one entry per load, metrics by outcome of the requests.

Source: GuideLLM 0.2 to 0.8, output of ``guidellm benchmark``; only successful requests count.
"""

from collections.abc import Mapping
from typing import Any, Final

from effsim.calibrate.logs.fields import MILLISECOND, count, nested, positive, spread, text
from effsim.calibrate.logs.record import Measurement, Spread

TITLE: Final = "GuideLLM (JSON)"
_TOTALS: Final = (("metrics", "request_totals", "successful"), ("request_totals", "successful"), ("run_stats", "requests_made", "successful"))
_STRATEGIES: Final = (("config", "strategy"), ("args", "strategy"), ("scheduler", "strategy"))


def sniff(document: Any) -> bool:
    """Return whether there is a list of benchmarks with metrics."""
    listed = nested(document, "benchmarks")
    return isinstance(listed, list) and bool(listed) and all(isinstance(nested(one, "metrics"), Mapping) for one in listed)


def read(document: Any, where: str) -> list[Measurement]:
    """Return the loads in which a request succeeded."""
    found = [_one(one, document, f"{where}, benchmarks[{index}]") for index, one in enumerate(document["benchmarks"])]
    return [one for one in found if one is not None]


def _one(one: Mapping[str, Any], document: Any, where: str) -> Measurement | None:
    metrics = one["metrics"]

    def values(name: str) -> Mapping[str, Any]:
        entry = nested(metrics, name, "successful")
        if not isinstance(entry, Mapping):
            return {}
        percentiles = entry.get("percentiles")
        return {**(percentiles if isinstance(percentiles, Mapping) else {}), **entry}

    def mean(name: str) -> float | None:
        return positive(values(name).get("mean"), f"{where}, {name}")

    def latency(name: str, unit_s: float) -> Spread:
        own = values(name)
        return spread({"p50": own.get("median"), **own}, ("mean", "p50", "p90", "p99"), unit_s, f"{where}, {name}")

    rate = mean("requests_per_second")
    if rate is None:
        return None
    totals = (
        nested(metrics, "request_totals", "successful")
        or nested(one, "request_totals", "successful")
        or nested(one, "run_stats", "requests_made", "successful")
    )
    strategy = next((place for path in _STRATEGIES if isinstance(place := nested(one, *path), Mapping)), {})
    kind = str(strategy.get("type_") or strategy.get("kind") or "")
    return Measurement(
        source=where,
        tool=TITLE,
        model=text(nested(one, "config", "model")) or text(nested(document, "args", "model")) or text(nested(one, "worker", "backend_model")),
        request_rate_per_s=positive(strategy.get("rate"), f"{where}, rate"),
        concurrency=positive(strategy.get("streams"), f"{where}, streams") or (1.0 if kind == "synchronous" else None),
        batch=mean("request_concurrency"),
        prompt_tokens=mean("prompt_token_count"),
        output_tokens=mean("output_token_count"),
        requests=count(totals, f"{where}, request_totals") or count(values("request_latency").get("count"), f"{where}, count"),
        duration_s=positive(one.get("duration"), f"{where}, duration"),
        ttft=latency("time_to_first_token_ms", MILLISECOND),
        # GuideLLM's time per output token counts the first token in; its inter-token latency is what others call TPOT.
        tpot=latency("inter_token_latency_ms", MILLISECOND),
        e2e=latency("request_latency", 1.0),
        output_tokens_per_s=mean("output_tokens_per_second"),
        requests_per_s=rate,
    )
