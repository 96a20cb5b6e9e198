"""Replicas in turn."""

from collections.abc import Sequence

from effsim.sim.replica import Replica
from effsim.sim.request import InFlight

READS_REPLICAS = False


def route(replicas: Sequence[Replica], request: InFlight, routed: int, seed: int) -> int:
    """Return the remainder of the requests routed so far."""
    return routed % len(replicas)
