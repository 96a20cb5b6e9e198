"""The replica that holds the most of the prompt already, unless that would leave the others idle."""

from collections.abc import Sequence
from typing import Final

from effsim.sim.replica import Replica
from effsim.sim.request import InFlight

IMBALANCE: Final = 32
"""Requests that the busiest replica may have more than the idlest before balance comes first."""
LEAST_SHARE: Final = 0.5
"""Of the prompt that must be in a cache for that to count. Both after the cache-aware policy of SGLang's router."""


def route(replicas: Sequence[Replica], request: InFlight, routed: int, seed: int) -> int:
    """Return the place with the longest hit if it covers enough of the prompt, else that with the fewest requests; of equals the first."""
    counts = [replica.outstanding for replica in replicas]
    least = min(counts)
    if max(counts) - least <= IMBALANCE:
        hits = [replica.prefix_hit(request) for replica in replicas]
        most = max(hits)
        if most >= LEAST_SHARE * request.prompt_tokens:
            return min(range(len(replicas)), key=lambda place: (-hits[place], counts[place]))
    return counts.index(least)
