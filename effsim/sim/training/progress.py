"""The work of a job between two events, in closed form: how far it is, what of it is saved, and when it will be done.

Work runs in cycles of ``interval`` work and the blocking part of a save. The rest of the save goes on during the next
cycle; only then the saved state counts.
"""

import math
from dataclasses import dataclass
from typing import Final

NEGLIGIBLE: Final = 1e-9
"""Share of the work, or of an interval, that is rounding."""


@dataclass(slots=True)
class Progress:
    """How far a job is; work in seconds at full speed on all nodes.

    Args:
        work_s: All of it.
        interval_s: Between the starts of two saves; at most ``work_s``, longer than ``lag_s``.
        blocking_s: Of a save, while training stands still.
        lag_s: From there until the save counts.
        done_s: In memory.
        saved_s: In storage, wholly written.
        since_s: Since the last save of this cycle, at most ``interval_s``.
        blocked_s: Of the save under way.
        pending_s: Work of a save that is still being written, None for none.
        durable_at_s: When that is written.
        saves: Written so far.
    """

    work_s: float
    interval_s: float
    blocking_s: float
    lag_s: float
    done_s: float = 0.0
    saved_s: float = 0.0
    since_s: float = 0.0
    blocked_s: float = 0.0
    pending_s: float | None = None
    durable_at_s: float = 0.0
    saves: int = 0

    @property
    def has_work(self) -> bool:
        """Whether anything is left to compute."""
        return self.work_s - self.done_s > NEGLIGIBLE * self.work_s

    @property
    def is_saved(self) -> bool:
        """Whether storage holds all that memory holds."""
        return self.saved_s >= self.done_s

    def time_left_s(self, rate: float) -> float:
        """Return the time until all work is done, saves on the way included [s].

        >>> Progress(work_s=100.0, interval_s=30.0, blocking_s=5.0, lag_s=0.0).time_left_s(1.0)
        115.0
        """
        left_s = self.work_s - self.done_s
        cycle_left_s = self.interval_s - self.since_s
        if left_s <= cycle_left_s + NEGLIGIBLE * self.interval_s and self.blocked_s == 0.0:
            return left_s / rate
        rest_s = left_s - cycle_left_s
        whole = max(math.ceil(rest_s / self.interval_s - NEGLIGIBLE) - 1, 0)
        cycle_s = self.interval_s / rate + self.blocking_s
        return cycle_left_s / rate + self.blocking_s - self.blocked_s + whole * cycle_s + (rest_s - whole * self.interval_s) / rate

    def advance(self, start_s: float, elapsed_s: float, rate: float) -> tuple[float, float]:
        """Run for ``elapsed_s``, at most until the work is done, and return (work [s], time of blocking saves [s]).

        >>> run = Progress(work_s=100.0, interval_s=30.0, blocking_s=5.0, lag_s=0.0)
        >>> run.advance(0.0, 80.0, 1.0), run.saved_s, run.saves
        ((70.0, 10.0), 60.0, 2)
        """
        before_s = self.done_s
        work_s = self.interval_s / rate
        cycle_s = work_s + self.blocking_s
        place_s = self.since_s / rate + self.blocked_s + elapsed_s
        cycles = math.floor(place_s / cycle_s)
        place_s = max(place_s - cycles * cycle_s, 0.0)
        base_s = before_s - self.since_s + cycles * self.interval_s
        self.since_s = min(place_s * rate, self.interval_s)
        self.blocked_s = max(place_s - work_s, 0.0)
        self.done_s = min(max(base_s + self.since_s, before_s), self.work_s)
        if cycles:
            self._note_saves(cycles, base_s, start_s + elapsed_s - place_s)
        self._settle(start_s + elapsed_s)
        gained_s = self.done_s - before_s
        return gained_s, max(elapsed_s - gained_s / rate, 0.0)

    def _note_saves(self, cycles: int, level_s: float, at_s: float) -> None:
        """Note that saves have ended, the last one of ``level_s`` at ``at_s``; those before it are written by then."""
        if self.pending_s is not None:
            self.saved_s = self.pending_s
        if cycles > 1:
            self.saved_s = level_s - self.interval_s
        self.pending_s, self.durable_at_s = min(level_s, self.work_s), at_s + self.lag_s
        self.saves += cycles

    def _settle(self, now_s: float) -> None:
        if self.pending_s is not None and self.durable_at_s <= now_s:
            self.saved_s, self.pending_s = self.pending_s, None

    def save_all(self) -> None:
        """Note that all that is done has been saved, beside the cycle; the cycle starts anew."""
        self.saved_s, self.pending_s = self.done_s, None
        self.since_s = self.blocked_s = 0.0
        self.saves += 1

    def roll_back(self, now_s: float) -> float:
        """Return to the last save that counts and return the work that is lost [s]."""
        self._settle(now_s)
        lost_s = max(self.done_s - self.saved_s, 0.0)
        self.done_s, self.pending_s = self.saved_s, None
        self.since_s = self.blocked_s = 0.0
        return lost_s
