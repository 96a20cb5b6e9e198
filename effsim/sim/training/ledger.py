"""Where node-seconds and joules go, by cause, with the power over time in bounded bins."""

import math
from collections.abc import Mapping
from typing import Final

from effsim.sim.recorder import TimeBins

CAUSES: Final = (
    "useful", "recomputed", "checkpoint", "detection", "restart", "waiting", "straggling", "throttled", "paused",
    "maintenance", "repair", "idle",
)  # fmt: skip
"""Useful work; work done again after a failure; saves; a failure not yet noticed; restart and restore; a job's nodes that
wait for others; time added by a slow node; time added by the power budget; stopped by a signal; planned work on the node;
out of order; sound and without a job (spares too)."""

UNHELD: Final = ("maintenance", "repair", "idle")
"""Causes of nodes that no job holds."""

BIN_S: Final = 3600.0
MAX_BINS: Final = 10_000


class Signal:
    """An hourly series that repeats, and its exact integral over time.

    >>> Signal((1.0, 3.0), 10.0).integral(5.0, 25.0)
    40.0
    """

    __slots__ = ("_sums", "period_s", "values")

    def __init__(self, values: tuple[float, ...], period_s: float) -> None:
        self.values = values
        self.period_s = period_s
        self._sums = [0.0]
        for value in values:
            self._sums.append(self._sums[-1] + value * period_s)

    def _until(self, time_s: float) -> float:
        rounds, place = divmod(time_s / self.period_s, len(self.values))
        index = min(int(place), len(self.values) - 1)
        return rounds * self._sums[-1] + self._sums[index] + (place - index) * self.values[index] * self.period_s

    def integral(self, start_s: float, end_s: float) -> float:
        """Return the integral of the series over time."""
        return self._until(end_s) - self._until(start_s)


class Book:
    """Node-seconds and joules by cause."""

    __slots__ = ("energy_j", "node_s")

    def __init__(self) -> None:
        self.node_s = dict.fromkeys(CAUSES, 0.0)
        self.energy_j = dict.fromkeys(CAUSES, 0.0)


class Ledger:
    """The books of the cluster and of each job, and the cluster's power over time."""

    __slots__ = ("bins", "cluster", "signal", "weighted")

    def __init__(self, signal: Signal | None) -> None:
        self.cluster = Book()
        self.bins = TimeBins(BIN_S, 1, MAX_BINS)
        self.signal = signal
        self.weighted = 0.0

    def add(self, start_s: float, end_s: float, entries: Mapping[str, tuple[float, float]], job: Book | None = None) -> None:
        """Enter (node-seconds, watts per node) by cause over an interval; the energy is spread evenly over it."""
        energy_j = 0.0
        for cause, (node_s, power_w) in entries.items():
            joules = node_s * power_w
            energy_j += joules
            for book in (self.cluster, job):
                if book is not None:
                    book.node_s[cause] += node_s
                    book.energy_j[cause] += joules
        if end_s > start_s and energy_j > 0.0:
            self.bins.add(start_s, end_s, (energy_j,))
            if self.signal is not None:
                self.weighted += energy_j * self.signal.integral(start_s, end_s) / (end_s - start_s)

    def correct_lost(self, job: Book, share: float) -> None:
        """Move a share of a job's useful entries to recomputed: work that a run ends without having done again."""
        for kind in ("node_s", "energy_j"):
            moved = getattr(job, kind)["useful"] * share
            for book in (self.cluster, job):
                entries = getattr(book, kind)
                entries["useful"] -= moved
                entries["recomputed"] += moved


class Pool:
    """A number of equal nodes without a job, entered in the ledger whenever it changes."""

    __slots__ = ("cause", "count", "ledger", "power_w", "since_s")

    def __init__(self, ledger: Ledger, cause: str, power_w: float, count: int = 0) -> None:
        self.ledger = ledger
        self.cause = cause
        self.power_w = power_w
        self.count = count
        self.since_s = 0.0

    def change(self, now_s: float, by: int) -> None:
        """Settle the time until now, then change the count."""
        if now_s > self.since_s:
            if self.count:
                self.ledger.add(self.since_s, now_s, {self.cause: (self.count * (now_s - self.since_s), self.power_w)})
            self.since_s = now_s
        self.count += by


def total(book: Mapping[str, float]) -> float:
    """Return the sum over causes."""
    return math.fsum(book.values())
