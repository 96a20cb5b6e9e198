"""The replica with the fewest requests under way."""

from collections.abc import Sequence

from effsim.sim.replica import Replica
from effsim.sim.request import InFlight


def route(replicas: Sequence[Replica], request: InFlight, routed: int, seed: int) -> int:
    """Return the place of the replica with the fewest waiting and running requests; of equals the first."""
    counts = [replica.outstanding for replica in replicas]
    return counts.index(min(counts))
