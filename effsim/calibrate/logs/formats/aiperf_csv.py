"""AIPerf (and GenAI-Perf before it): ``profile_export_aiperf.csv``; a section of distributions, one of single values."""

from typing import Any, Final

from effsim.calibrate.logs.fields import Sheet, count, positive, ratio, spread
from effsim.calibrate.logs.formats.aiperf_json import SECONDS
from effsim.calibrate.logs.record import Measurement, Spread

TITLE: Final = "AIPerf (CSV)"


def sniff(document: Any) -> bool:
    """Return whether the first line is that of the distributions and TTFT is among the metrics."""
    if not isinstance(document, Sheet) or document.header[:2] != ("Metric", "avg"):
        return False
    return any(row[0].startswith("Request Latency") for row in document.rows if row)


def read(document: Any, where: str) -> list[Measurement]:
    """Return the run, or nothing where no request completed."""
    distributions, single = _sections(document)

    def value(name: str) -> str | None:
        return next((cell for metric, cell in single.items() if metric.startswith(name)), None)

    def mean(name: str) -> float | None:
        row = next((row for metric, row in distributions.items() if metric.startswith(name)), {})
        return positive(row.get("avg"), f"{where}, {name}")

    def latency(name: str) -> Spread:
        for metric, row in distributions.items():
            unit = metric.rpartition("(")[2].rstrip(")")
            if metric.startswith(name) and unit in SECONDS:
                return spread(row, ("avg", "p50", "p90", "p99"), SECONDS[unit], f"{where}, {metric}")
        return Spread()

    requests = count(value("Request Count"), f"{where}, Request Count")
    if requests is None:
        return []
    rate = positive(value("Request Throughput"), f"{where}, Request Throughput")
    return [
        Measurement(
            source=where,
            tool=TITLE,
            prompt_tokens=mean("Input Sequence Length"),
            output_tokens=mean("Output Sequence Length"),
            requests=requests,
            duration_s=positive(value("Benchmark Duration"), f"{where}, Benchmark Duration") or ratio(requests, rate),
            ttft=latency("Time to First Token"),
            tpot=latency("Inter Token Latency"),
            itl=latency("Inter Chunk Latency"),
            e2e=latency("Request Latency"),
            output_tokens_per_s=positive(value("Output Token Throughput"), f"{where}, Output Token Throughput"),
            requests_per_s=rate,
        )
    ]


def _sections(document: Sheet) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Return metrics with a distribution, and those with one value."""
    distributions: dict[str, dict[str, str]] = {}
    single: dict[str, str] = {}
    header: tuple[str, ...] = ()
    for row in document.rows:
        if not any(row):
            continue
        if row[0] == "Metric":
            header = row
        elif header[1:2] == ("Value",):
            single[row[0]] = row[1] if len(row) > 1 else ""
        else:
            distributions[row[0]] = dict(zip(header, row, strict=False))
    return distributions, single
