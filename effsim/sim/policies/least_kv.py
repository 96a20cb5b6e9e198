"""The replica whose KV cache is, with what its queue will take, the least full."""

from collections.abc import Sequence

from effsim.sim.replica import Replica
from effsim.sim.request import InFlight


def route(replicas: Sequence[Replica], request: InFlight, routed: int, seed: int) -> int:
    """Return the place with the least share of blocks in use or asked for by prompts that wait; of equals the first."""
    return min(range(len(replicas)), key=lambda place: _fullness(replicas[place]))


def _fullness(replica: Replica) -> float:
    asked = sum([replica.setup.blocks_for(one.remaining) for one in replica.waiting])
    return (replica.kv_blocks - replica.free_blocks + asked) / replica.kv_blocks
