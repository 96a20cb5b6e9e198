"""Replicas in turn."""

from collections.abc import Sequence

from effsim.sim.replica import Replica

READS_REPLICAS = False


def route(replicas: Sequence[Replica], routed: int) -> int:
    """Return the remainder of the requests routed so far."""
    return routed % len(replicas)
