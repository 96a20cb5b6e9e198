"""First come, first served; a preempted request stands at the head."""

from collections.abc import Sequence

from effsim.sim.request import InFlight


def pick(waiting: Sequence[InFlight], now_s: float) -> int:
    """Return the place of the request that has waited at the head, always 0."""
    return 0
