"""The request with the fewest tokens left to read first; lowers the mean wait, lets long prompts starve."""

from collections.abc import Sequence

from effsim.sim.request import InFlight


def pick(waiting: Sequence[InFlight], now_s: float) -> int:
    """Return the place of the request with the least ``remaining`` tokens; of equals the first."""
    return min(range(len(waiting)), key=lambda place: waiting[place].remaining)
