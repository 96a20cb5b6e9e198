"""Settings of a serving run that belong to no replica."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from effsim.errors import SpecError
from effsim.sim.control.unit import Unit
from effsim.sim.log import Sink
from effsim.sim.recorder import MAX_BINS
from effsim.specs.operation import Operation

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """Settings of a run that belong to no replica.

    Args:
        router: A file name in ``sim/policies`` with ``route``.
        concurrency: Closed loop: so many requests (sessions, where the trace has them) are under way, the next one arrives when one
            ends; the trace's arrival times are not used. None: open loop.
        bin_s: Width of the bins of the time series [s].
        max_bins: The width doubles when a run needs more.
        pue: Site power over server power.
        keep_requests: Keep one row per request; else distributions and sums alone, so that memory does not grow with requests.
        limits: Latency (a column of the requests) -> limit [s]; requests that keep all of them are counted.
        sink: Called with blocks of columns of completed requests.
        most_legs: Keep what the replicas did when, up to so many legs of them; 0: nothing of it.
        operation: Admission, autoscaling, failures, maintenance, power budget.
        units: One per replica, in their order; empty: each serves whole requests and is on from the start.
        seed: Of the random streams of failures and of routers.
    """

    router: str = "round_robin"
    concurrency: int | None = None
    bin_s: float = 1.0
    max_bins: int = MAX_BINS
    pue: float = 1.0
    keep_requests: bool = True
    limits: Mapping[str, float] = field(default_factory=dict)
    sink: Sink | None = None
    most_legs: int = 0
    operation: Operation = field(default_factory=Operation)
    units: tuple[Unit, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.concurrency is not None and self.concurrency < 1:
            raise SpecError(f"concurrency: expected at least 1, got {self.concurrency}")
        if not (math.isfinite(self.bin_s) and self.bin_s > 0.0 and self.max_bins >= 1):
            raise SpecError(f"bin_s and max_bins: expected a positive time and at least 1, got {self.bin_s} and {self.max_bins}")
        if not (math.isfinite(self.pue) and self.pue >= 1.0):
            raise SpecError(f"pue: expected at least 1, got {self.pue}")

    @property
    def is_controlled(self) -> bool:
        """Whether anything happens to the cluster but requests."""
        return self.operation != Operation(start=self.operation.start, transfer=self.operation.transfer) or any(
            unit.role != "both" or unit.schedule for unit in self.units
        )
