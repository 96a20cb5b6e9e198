"""What becomes of requests: columns of all of them, or only their distributions, in bounded memory."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effsim.sim.recorder import Histogram
from effsim.sim.request import InFlight

FloatArray = NDArray[np.float64]
BLOCK_ROWS: Final = 8192
ROW_NUMBERS: Final = 10
LATENCIES: Final = ("queue_s", "ttft_s", "tpot_s", "e2e_latency_s")
COLUMNS: Final = ("id", "arrival_s", "prompt_tokens", "output_tokens", *LATENCIES, "preemptions", "energy_j", "replica")

Sink = Callable[[Mapping[str, FloatArray]], None]


class Distribution(NamedTuple):
    """Mean [s], None where there is nothing, and counts of a latency over completed requests."""

    mean_s: float | None
    histogram: Histogram


class RequestLog:
    """Completed requests, gathered in blocks of columns.

    Args:
        keep: Keep the columns of every request; else only counts, sums and histograms.
        limits: Column of :data:`LATENCIES` -> limit [s]; how many requests keep all of them is counted.
        sink: Called with each block of columns, in the order of completion.

    Attributes:
        completed: Requests so far.
        within: Those of them that kept all ``limits``.
        histograms: Of each latency.
        sums: Of each column over all completed requests, latencies without those that do not exist.
    """

    __slots__ = ("_blocks", "_limits", "_rows", "_sink", "completed", "histograms", "keep", "sums", "within")

    def __init__(self, *, keep: bool = True, limits: Mapping[str, float] | None = None, sink: Sink | None = None) -> None:
        self.keep, self._limits, self._sink = keep, dict(limits or {}), sink
        self._rows: list[float] = []  # one row after the other
        self._blocks: list[FloatArray] = []
        self.completed = self.within = 0
        self.histograms = {name: Histogram() for name in LATENCIES}
        self.sums = dict.fromkeys(COLUMNS, 0.0)

    def add(self, request: InFlight) -> None:
        """Take the numbers of a completed request."""
        self.completed += 1
        self._rows += (
            request.id, request.arrival_s, request.prompt_tokens, request.output_tokens, request.first_scheduled_s, request.first_token_s,
            request.last_token_s, request.preemptions, request.energy_j, request.replica,
        )  # fmt: skip
        if not self.completed % BLOCK_ROWS:
            self.flush()

    def flush(self) -> None:
        """Turn the rows so far into a block."""
        if not self._rows:
            return
        rows = np.array(self._rows, dtype=np.float64).reshape(-1, ROW_NUMBERS)
        ids, arrival_s, prompts, outputs, scheduled_s, first_s, last_s, preemptions, energy_j, replica = rows.T
        self._rows.clear()
        tpot_s = np.where(outputs > 1.0, (last_s - first_s) / np.maximum(outputs - 1.0, 1.0), np.nan)
        queue_s = np.maximum(scheduled_s - arrival_s, 0.0)
        block = np.stack([ids, arrival_s, prompts, outputs, queue_s, first_s - arrival_s, tpot_s, last_s - arrival_s, preemptions, energy_j, replica])
        columns = dict(zip(COLUMNS, block, strict=True))
        kept = np.ones(ids.size, dtype=bool)
        for name, limit_s in self._limits.items():
            kept &= ~(columns[name] > limit_s)
        self.within += int(kept.sum())
        for name, values in columns.items():
            self.sums[name] += float(np.nansum(values))
        for name, histogram in self.histograms.items():
            histogram.add_all(columns[name])
        if self._sink is not None:
            self._sink(columns)
        if self.keep:
            self._blocks.append(block)

    def distribution(self, latency: str) -> Distribution:
        """Return what is known of a latency once all rows are flushed."""
        histogram = self.histograms[latency]
        count = sum(histogram.counts)
        return Distribution(self.sums[latency] / count if count else None, histogram)

    def columns(self) -> dict[str, FloatArray]:
        """Return the columns of all completed requests in the order of their arrival; empty where they were not kept."""
        self.flush()
        table = np.concatenate(self._blocks, axis=1) if self._blocks else np.empty((len(COLUMNS), 0))
        return dict(zip(COLUMNS, table[:, np.argsort(table[0], kind="stable")], strict=True))
