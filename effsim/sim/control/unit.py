"""What the control of a cluster knows of a replica beside its engine: its pool, how it starts, its steps of power, its link."""

import math
from dataclasses import dataclass
from typing import Literal

from effsim.errors import SpecError
from effsim.sim.setup import StepModel

Role = Literal["both", "prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Link:
    """What carries KV caches away from a prefill replica.

    >>> Link(1e9, 1e-3, 1e-10).time_s(2e9)
    2.001
    """

    bytes_per_s: float
    latency_s: float = 0.0
    energy_j_per_byte: float = 0.0

    def __post_init__(self) -> None:
        if not (self.bytes_per_s > 0.0 and 0.0 <= self.latency_s < math.inf and 0.0 <= self.energy_j_per_byte < math.inf):
            raise SpecError(f"transfer: expected a bandwidth above 0, and latency and energy not negative, got {self}")

    def time_s(self, size_bytes: float) -> float:
        """Return the time of one transfer alone: ``latency + size / bandwidth`` [s]."""
        return self.latency_s + size_bytes / self.bytes_per_s


@dataclass(frozen=True, slots=True)
class Rung:
    """A step of power: a power limit per accelerator [W] or a share of the full clock, and the costs under it."""

    level: float
    step_model: StepModel


@dataclass(frozen=True, slots=True)
class Unit:
    """One replica, as its cluster sees it.

    Args:
        role: The pool that it belongs to; ``both`` where prompts and tokens are computed in one place.
        provisioning_s: From the order to the start of loading; its accelerators are idle.
        load_s: Loading the weights.
        load_w: Of its accelerators meanwhile; None: as idle.
        rungs: Steps of power, the lowest first; empty: none.
        schedule: (time [s], rung) from which its costs change, in order of time.
        kv_bytes_per_token: Of its cache, all accelerators together.
        link: To a decode replica; None: caches arrive at once.
    """

    role: Role = "both"
    provisioning_s: float = 0.0
    load_s: float = 0.0
    load_w: float | None = None
    rungs: tuple[Rung, ...] = ()
    schedule: tuple[tuple[float, Rung], ...] = ()
    kv_bytes_per_token: float = 0.0
    link: Link | None = None
