"""The less loaded of two replicas drawn at random (Mitzenmacher, IEEE TPDS 12(10), 2001, doi:10.1109/71.963420)."""

from collections.abc import Sequence
from typing import Final

from effsim.sim.replica import Replica
from effsim.sim.request import InFlight

_MASK: Final = (1 << 64) - 1


def route(replicas: Sequence[Replica], request: InFlight, routed: int, seed: int) -> int:
    """Return the one of two different places with fewer waiting and running requests; of equals the first drawn."""
    count = len(replicas)
    if count == 1:
        return 0
    drawn = _mixed(_mixed(seed) ^ routed)
    first = (drawn >> 32) % count
    second = (first + 1 + (drawn & 0xFFFFFFFF) % (count - 1)) % count
    return first if replicas[first].outstanding <= replicas[second].outstanding else second


def _mixed(number: int) -> int:
    """Return 64 well-mixed bits of a number: splitmix64 (Steele, Lea, Flood, OOPSLA 2014, doi:10.1145/2660193.2660195).

    >>> hex(_mixed(0))
    '0xe220a8397b1dcdaf'
    """
    z = (number + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
