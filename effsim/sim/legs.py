"""What replicas did when: the legs of a run, as many as are asked for."""

from array import array
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from effsim.sim.decoding import DECODING, MIXED, STEPWISE, Decoding

KINDS: Final = {DECODING: "decode", MIXED: "prefill and decode", STEPWISE: "one by one"}


@dataclass(frozen=True, slots=True, eq=False)
class Legs:
    """One entry per leg, a run of iterations of one replica between two changes of its batch, in the order in which they were accounted for.

    ``running``: sequences of the batch at its end; ``energy_j``: of the accelerators. ``total`` legs there were; those after the first are left out.
    """

    replica: NDArray[np.int64]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    iterations: NDArray[np.int64]
    running: NDArray[np.int64]
    energy_j: NDArray[np.float64]
    kind: tuple[str, ...]
    total: int


class LegLog:
    """Keeps the first legs of a run.

    Args:
        most: So many are kept; the others are counted.
    """

    __slots__ = ("_counts", "_kinds", "_numbers", "most", "total")

    def __init__(self, most: int) -> None:
        self.most, self.total = most, 0
        self._numbers, self._counts, self._kinds = array("d"), array("q"), bytearray()

    def add(self, replica: Decoding, end_s: float, count: int, energy_j: float) -> None:
        """Take the leg of a replica that ends."""
        self.total += 1
        if self.total <= self.most:
            self._numbers.extend((replica.start_s, end_s, energy_j))
            self._counts.extend((replica.index, count, len(replica.members)))
            self._kinds.append(replica.leg)

    def legs(self) -> Legs:
        """Return what was kept."""
        start_s, end_s, energy_j = np.array(self._numbers).reshape(-1, 3).T
        replica, count, running = np.array(self._counts).reshape(-1, 3).T
        return Legs(replica, start_s, end_s, count, running, energy_j, tuple(KINDS[kind] for kind in self._kinds), self.total)
