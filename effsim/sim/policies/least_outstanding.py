"""The replica with the fewest requests under way."""

from collections.abc import Sequence

from effsim.sim.replica import Replica


def route(replicas: Sequence[Replica], routed: int) -> int:
    """Return the place of the replica with the fewest waiting and running requests; of equals the first."""
    return min(range(len(replicas)), key=lambda place: replicas[place].outstanding)
