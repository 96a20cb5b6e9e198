"""AIPerf: ``profile_export_aiperf.json``; metrics at the top level, each with its unit.

Source: docs.nvidia.com/aiperf, JSON export schema (v0.8 to v0.13).
"""

from collections.abc import Mapping
from typing import Any, Final

from effsim.calibrate.logs.fields import count, nested, positive, ratio, spread, text
from effsim.calibrate.logs.record import Measurement, Spread
from effsim.errors import SpecError

TITLE: Final = "AIPerf (JSON)"
SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}
"""By the unit that an entry names; without one it is milliseconds, as AIPerf displays latencies."""


def sniff(document: Any) -> bool:
    """Return whether throughput and latency are entries with ``avg``."""
    return isinstance(document, dict) and all(nested(document, name, "avg") is not None for name in ("request_throughput", "request_latency"))


def read(document: Any, where: str) -> list[Measurement]:
    """Return the run, or nothing where no request completed."""

    def mean(name: str) -> float | None:
        return positive(nested(document, name, "avg"), f"{where}, {name}")

    requests = count(nested(document, "request_count", "avg"), f"{where}, request_count")
    if requests is None:
        return []
    load = nested(document, "input_config", "loadgen") or {}
    energy_j = _energy_j(document, where)
    duration_s, tokens = mean("benchmark_duration"), mean("total_output_tokens")
    output_tokens = mean("output_sequence_length") or ratio(tokens, requests)
    return [
        Measurement(
            source=where,
            tool=TITLE,
            model=_model(document),
            num_accelerators=len(_gpus(document)) or None,
            request_rate_per_s=positive(load.get("request_rate"), f"{where}, request_rate"),
            concurrency=positive(load.get("concurrency"), f"{where}, concurrency"),
            prompt_tokens=mean("input_sequence_length"),
            output_tokens=output_tokens,
            requests=requests,
            duration_s=duration_s,
            ttft=latency(document, "time_to_first_token", where),
            tpot=latency(document, "inter_token_latency", where),  # AIPerf: (latency - TTFT) / (tokens - 1) of a request
            itl=latency(document, "inter_chunk_latency", where),
            e2e=latency(document, "request_latency", where),
            output_tokens_per_s=mean("output_token_throughput"),
            requests_per_s=mean("request_throughput"),
            power_w=ratio(energy_j, duration_s),
            energy_j=energy_j,
            energy_per_output_token_j=ratio(energy_j, output_tokens * requests if output_tokens else None),
        )
    ]


def latency(document: Mapping[str, Any], name: str, where: str) -> Spread:
    """Return a latency in the unit that its entry names.

    Raises:
        SpecError: A unit that is no time.
    """
    entry = document.get(name)
    if not isinstance(entry, Mapping):
        return Spread()
    unit = str(entry.get("unit") or "ms").lower()
    if unit not in SECONDS:
        raise SpecError(f"{where}, {name}: the unit {unit!r} is no time; expected one of {', '.join(SECONDS)}")
    return spread(entry, ("avg", "p50", "p90", "p99"), SECONDS[unit], f"{where}, {name}")


def _model(document: Any) -> str | None:
    names = nested(document, "input_config", "endpoint", "model_names")
    items = nested(document, "input_config", "models", "items")
    if isinstance(items, list) and items:
        return text(nested(items[0], "name"))
    return text(names[0]) if isinstance(names, list) and names else None


def _gpus(document: Any) -> list[Mapping[str, Any]]:
    endpoints = nested(document, "telemetry_data", "endpoints")
    if not isinstance(endpoints, Mapping):
        return []
    gpus = (nested(one, "gpus") for one in endpoints.values())
    return [gpu for each in gpus if isinstance(each, Mapping) for gpu in each.values() if isinstance(gpu, Mapping)]


def _energy_j(document: Any, where: str) -> float | None:
    """Return the energy of all devices of the telemetry, from its counter in MJ or J; None where one is absent."""
    found = []
    for gpu in _gpus(document):
        entry = nested(gpu, "metrics", "energy_consumption")
        factor = {"MJ": 1e6, "kJ": 1e3, "J": 1.0, "mJ": 1e-3}.get(str(nested(entry, "unit")))
        value = positive(nested(entry, "avg"), f"{where}, energy_consumption")
        if factor is None or value is None:
            return None
        found.append(value * factor)
    return sum(found) or None
