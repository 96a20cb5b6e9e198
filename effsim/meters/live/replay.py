"""Plays a recording as if it were a meter: each look gives the last count that had been recorded by then."""

import os
import time
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from effsim.meters.base import Channel, Meter, Obstacle, Reading
from effsim.meters.logs import load
from effsim.meters.registry import REPLAY_VARIABLE


class Live(Meter):
    """Plays one recording once, from the moment it is made.

    Args:
        path: A recording or log; none: the one that ``EFFSIM_REPLAY`` names.
        clock: Seconds; the recording advances with it.

    Raises:
        SpecError: The recording cannot be read.
    """

    title = "replay"

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._start_s = clock, clock()
        self._readings: dict[str, list[Reading]] = {}
        self._times_s: dict[str, list[float]] = {}
        self._channels: tuple[Channel, ...] = ()
        self._obstacles: tuple[Obstacle, ...] = ()
        given = path or (Path(os.environ[REPLAY_VARIABLE]) if os.environ.get(REPLAY_VARIABLE) else None)
        if given is None:
            self._obstacles = (Obstacle("", "no recording to play", f"set {REPLAY_VARIABLE} to the path of one"),)
            return
        recording = load(given)
        self._channels = recording.channels
        self._begin_s, self._end_s = recording.begin_s, recording.end_s
        for channel in recording.channels:
            self._readings[channel.name] = [reading for reading in recording.readings if reading.channel == channel.name]
            self._times_s[channel.name] = [reading.t_s for reading in self._readings[channel.name]]

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Those of the recording."""
        return self._channels

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """That there is no recording."""
        return self._obstacles

    def read(self, names: frozenset[str] | None = None) -> tuple[Reading, ...]:
        """Return what had been recorded by now; after the end of the recording, readings without count."""
        readings = []
        for name, recorded in self._readings.items():
            if names is not None and name not in names:
                continue
            now_s = self._clock()
            at_s = self._begin_s + now_s - self._start_s
            position = bisect_right(self._times_s[name], at_s)
            if at_s > self._end_s:
                readings.append(Reading(name, now_s, None, "the recording has ended"))
            elif position == 0:
                readings.append(Reading(name, now_s, None, "not recorded yet"))
            else:
                last = recorded[position - 1]
                readings.append(Reading(name, now_s, last.count, last.reason))
        return tuple(readings)
