"""Where requests come from: at their times, in turn when others end, and turn by turn within a session."""

import math
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from effsim.errors import SpecError
from effsim.sim.request import InFlight
from effsim.workload.traces import Trace

NONE: Final = -1


class Source:
    """The requests that wait for nothing but their time (or, with ``concurrency``, their turn), and those that follow on others.

    Args:
        requests: A turn with ``think_s`` comes so long after the end of the turn before; all else at its ``arrival_s``.
        arrivals: All of them as requests, in order.
        request: From a row to its request.
        concurrency: Requests, or sessions, under way at once; None: each comes at its time.

    Attributes:
        next_s: When the next comes; infinite where none does, or where it must wait for its turn.
        follows: Whether the end of a request may bring another.
    """

    __slots__ = ("_arrivals", "_concurrency", "_following", "_head", "_request", "_think_s", "_under_way", "follows", "next_s")

    def __init__(self, requests: Trace, arrivals: Iterator[InFlight], request: Callable[[int], InFlight], concurrency: int | None) -> None:
        think_s = requests.think_s
        later: NDArray[np.bool_] = np.zeros(0, dtype=bool) if think_s is None else ~np.isnan(think_s)
        self._following = requests.next_turns() if later.any() else None
        self._think_s = think_s
        self._arrivals = (one for one in arrivals if not later[one.id]) if later.any() else arrivals
        self._request, self._concurrency, self._under_way = request, concurrency, 0
        self.follows = concurrency is not None or self._following is not None
        self._head: InFlight | None = None
        self.next_s = math.inf
        self._look(0.0)

    def _look(self, now_s: float) -> None:
        if self._head is None:
            self._head = next(self._arrivals, None)
        if self._head is None:
            self.next_s = math.inf
        elif self._concurrency is None:
            self.next_s = self._head.arrival_s
        else:
            self.next_s = now_s if self._under_way < self._concurrency else math.inf

    def take(self, now_s: float) -> InFlight:
        """Return the next request, which arrives now."""
        request, self._head = self._head, None
        if request is None:
            raise SpecError("no request is left to arrive")
        request.arrival_s = now_s
        self._under_way += 1
        self._look(now_s)
        return request

    def ended(self, request: InFlight, now_s: float) -> InFlight | None:
        """Return the next turn of a request's session, which comes at its ``arrival_s``; where there is none, the place of the session is free."""
        if self._following is not None and self._think_s is not None:
            row = int(self._following[request.id])
            if row != NONE and not math.isnan(self._think_s[row]):
                turn = self._request(row)
                turn.arrival_s = now_s + float(self._think_s[row])
                return turn
        if self._concurrency is not None:
            self._under_way -= 1
            self._look(now_s)
        return None
