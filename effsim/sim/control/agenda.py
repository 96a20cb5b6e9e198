"""What is due when: actions at exact times, in a fixed order where times are equal."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

Action = Callable[[float], None]
ARRIVAL: Final = 0
CONTROL: Final = 1


class Agenda:
    """Actions in the order of their times; at equal times requests before control, then in the order in which they were added.

    Attributes:
        foreground: Entries that the run waits for. The others, such as the next failure, happen only while it goes on.

    >>> agenda, seen = Agenda(), []
    >>> agenda.add(1.0, lambda now_s: seen.append("control"))
    >>> agenda.add(1.0, lambda now_s: seen.append("request"), rank=ARRIVAL)
    >>> agenda.act(), agenda.act(), seen
    (1.0, 1.0, ['request', 'control'])
    """

    __slots__ = ("_added", "_heap", "foreground")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, bool, Action]] = []
        self._added = self.foreground = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_s(self) -> float:
        """Time of the next action; there must be one."""
        return self._heap[0][0]

    def add(self, time_s: float, action: Action, *, rank: int = CONTROL, is_background: bool = False) -> None:
        """Plan an action; it is called with its time."""
        self._added += 1
        self.foreground += not is_background
        heappush(self._heap, (time_s, rank, self._added, is_background, action))

    def act(self) -> float:
        """Do the next action; return its time."""
        time_s, _, _, is_background, action = heappop(self._heap)
        self.foreground -= not is_background
        action(time_s)
        return time_s
