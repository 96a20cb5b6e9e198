"""One measured load of a serving system, whichever tool measured it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from effsim.results import flatten


@dataclass(frozen=True, slots=True)
class Spread:
    """A latency over the requests (or tokens) of a run [s]; what the tool does not state is None."""

    mean_s: float | None = None
    median_s: float | None = None
    p90_s: float | None = None
    p99_s: float | None = None

    @property
    def is_blank(self) -> bool:
        """Whether nothing is stated."""
        return not any((self.mean_s, self.median_s, self.p90_s, self.p99_s))


@dataclass(frozen=True, slots=True)
class Measurement:
    """A load and what was measured of it; what a source does not state is None.

    Args:
        source: File, and place in it where it holds several.
        tool: Title of its format.
        model: As the source names it.
        accelerator: As the source names it.
        num_accelerators: Of the whole system.
        tensor_parallel: Ranks that split each layer.
        expert_parallel: Groups over which experts are spread.
        data_parallel: Replicas of the attention.
        request_rate_per_s: Offered; None: as fast as the concurrency allows.
        concurrency: Requests under way, as asked for.
        batch: Requests decoding together, as measured.
        prompt_tokens: Mean per request.
        output_tokens: Mean per request.
        requests: That completed.
        duration_s: Of the run.
        ttft: Time to first token.
        tpot: Time per output token after the first, of a request.
        itl: Time between two tokens.
        e2e: Latency of a request.
        output_tokens_per_s: Of the whole system.
        requests_per_s: Completed.
        power_w: Mean, all accelerators.
        energy_j: Of the run, all accelerators.
        energy_per_output_token_j: As stated, or energy over output tokens.
    """

    source: str
    tool: str
    model: str | None = None
    accelerator: str | None = None
    num_accelerators: int | None = None
    tensor_parallel: int | None = None
    expert_parallel: int | None = None
    data_parallel: int | None = None
    request_rate_per_s: float | None = None
    concurrency: float | None = None
    batch: float | None = None
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    requests: int | None = None
    duration_s: float | None = None
    ttft: Spread = Spread()
    tpot: Spread = Spread()
    itl: Spread = Spread()
    e2e: Spread = Spread()
    output_tokens_per_s: float | None = None
    requests_per_s: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    energy_per_output_token_j: float | None = None

    @property
    def running(self) -> float | None:
        """Requests under way: as measured, else ``throughput x latency`` (Little's law), else the concurrency asked for.

        >>> Measurement("a", "b", requests_per_s=2.0, e2e=Spread(mean_s=4.0), concurrency=16.0).running
        8.0
        """
        if self.batch is not None:
            return self.batch
        if self.requests_per_s is not None and self.e2e.mean_s is not None:
            return self.requests_per_s * self.e2e.mean_s
        return self.concurrency


def table(measurements: Iterable[Measurement]) -> pd.DataFrame:
    """Return one row per measurement, latencies as ``ttft.mean_s`` and so on."""
    rows: list[dict[str, Any]] = [flatten(asdict(one)) for one in measurements]
    return pd.DataFrame(rows)
