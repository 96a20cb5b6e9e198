"""The lowest number of priority first, of equals the first to arrive; the highest loses its blocks first.

Source: vLLM 0.11, ``--scheduling-policy priority``.
"""

from collections.abc import Sequence

from effsim.sim.request import InFlight


def _rank(request: InFlight) -> tuple[int, float, int]:
    return request.priority, request.arrival_s, request.id


def pick(waiting: Sequence[InFlight], now_s: float) -> int:
    """Return the place of the most urgent request."""
    return min(range(len(waiting)), key=lambda place: _rank(waiting[place]))


def victim(running: Sequence[InFlight]) -> int:
    """Return the place of the least urgent request."""
    return max(range(len(running)), key=lambda place: _rank(running[place]))
