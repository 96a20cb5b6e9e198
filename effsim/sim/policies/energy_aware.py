"""The replica that spends the least energy on one more sequence.

The marginal energy of a replica with ``b`` requests under way is ``E(b + 1) - E(b)`` [J per token], where ``E(n)`` is the energy of an
iteration that decodes ``n`` sequences, each as long as the newcomer's prompt; ``E(0)`` is what the replica draws while idle over the time
of ``E(1)``. As weights are read once for a whole batch, this fills one replica before it wakes the next; a replica is passed over when it
has as many requests as run at once, when somebody waits there, or when the prompt does not fit its free blocks. Where all are, the one
with the fewest requests is taken.
"""

from collections.abc import Sequence

from effsim.sim.replica import Replica
from effsim.sim.request import InFlight


def route(replicas: Sequence[Replica], request: InFlight, routed: int, seed: int) -> int:
    """Return the place with the least marginal energy, of equals that with the fewest requests, then the first."""
    counts = [replica.outstanding for replica in replicas]
    open_places = [place for place, replica in enumerate(replicas) if _has_room(replica, request)]
    if not open_places:
        return counts.index(min(counts))
    known: dict[tuple[int, int], float] = {}
    for place in open_places:
        key = (id(replicas[place].setup.step_model), counts[place])
        if key not in known:
            known[key] = _marginal_j(replicas[place], counts[place], request.prompt_tokens)
    return min(open_places, key=lambda place: (known[id(replicas[place].setup.step_model), counts[place]], counts[place]))


def _has_room(replica: Replica, request: InFlight) -> bool:
    setup = replica.setup
    return replica.outstanding < setup.max_num_seqs and not replica.waiting and setup.blocks_for(request.remaining) <= replica.free_blocks


def _marginal_j(replica: Replica, under_way: int, context_tokens: int) -> float:
    step = replica.setup.step_model
    more = step.step_at(under_way + 1, float((under_way + 1) * context_tokens), ())
    without_j = sum(step.step_at(under_way, float(under_way * context_tokens), ())[1:]) if under_way else step.idle_power_w * more[0]
    return sum(more[1:]) - without_j
