"""Windows of measurement: begin, end, nested or side by side, in one thread or several.

Counters are read at both ends of a window. Power is read in between by a thread, as are counters, seldom, so that none can
wrap unseen. Nothing runs while no window is open.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

from effsim.errors import MeterUnavailableError, SpecError, UnknownNameError, shown
from effsim.meters.base import Channel, Meter, Obstacle
from effsim.meters.joules import MAX_GAP_S, Energy, Tally, Track, between
from effsim.meters.measurement import Measurement
from effsim.meters.registry import open_meters

SAMPLE_PERIOD_S: Final = 0.05
COUNTER_PERIOD_S: Final = 10.0
"""How often counters are read inside a window: a RAPL counter of 65 kJ lasts 33 s at 2 kW."""

Sync = Callable[[], object]


@dataclass(frozen=True, slots=True)
class _Open:
    begin_s: float
    begin_epoch_s: float
    tallies: dict[str, Tally]


class Window:
    """What ``with ... as`` gives: its figures can be read once the block has ended."""

    __slots__ = ("_measurement", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._measurement: Measurement | None = None

    @property
    def measurement(self) -> Measurement:
        """All that was measured.

        Raises:
            SpecError: The block has not ended.
        """
        if self._measurement is None:
            raise SpecError(f"the window {shown(self.name)} is still open; read its figures after the with block")
        return self._measurement

    @property
    def time_s(self) -> float:
        """Length of the window."""
        return self.measurement.time_s

    @property
    def energy_j(self) -> float | None:
        """See :attr:`effsim.meters.measurement.Measurement.energy_j`."""
        return self.measurement.energy_j

    @property
    def interval_j(self) -> tuple[float, float] | None:
        """90 % interval of the energy."""
        return self.measurement.interval_j

    @property
    def power_w(self) -> float | None:
        """Mean power."""
        return self.measurement.power_w

    @property
    def by_device(self) -> dict[str, Energy]:
        """The energy of each device."""
        return self.measurement.by_device

    @property
    def reason(self) -> str:
        """Why the energy is blank."""
        return self.measurement.reason

    @property
    def flags(self) -> tuple[str, ...]:
        """What limits its use."""
        return self.measurement.flags


class Monitor:
    """Keeps meters open and measures windows with them; close it, or use it as a context manager.

    Args:
        meters: Open meters; none: those of this machine. It closes them.
        sample_period_s: Between two readings of power inside a window; ``None``: no thread, call :meth:`sample`.
        max_gap_s: Time without a reading of power that counts as a gap.
        clock: Monotonic seconds, the same that the meters use.
    """

    def __init__(
        self,
        meters: Iterable[Meter] | None = None,
        *,
        sample_period_s: float | None = SAMPLE_PERIOD_S,
        max_gap_s: float = MAX_GAP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if sample_period_s is not None and not sample_period_s > 0.0:
            raise SpecError(f"sample_period_s: expected a positive number of seconds or None, got {sample_period_s}")
        self._meters = tuple(open_meters() if meters is None else meters)
        self._clock, self._period_s = clock, sample_period_s
        self._lock = threading.RLock()
        self._channels = {channel.name: channel for meter in self._meters for channel in meter.channels}
        self._tracks = {name: Track(channel, max_gap_s) for name, channel in self._channels.items()}
        self._windows: dict[str, _Open] = {}
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._closed = False

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Everything that is read."""
        return tuple(self._channels.values())

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """Everything that is not, and why."""
        return tuple(obstacle for meter in self._meters for obstacle in meter.obstacles)

    def begin_window(self, name: str, sync: Sync | None = None) -> None:
        """Start a window.

        Args:
            name: Unique among the open ones.
            sync: Called first, to wait for work that a device has queued: ``torch.cuda.synchronize``.

        Raises:
            SpecError: A window of that name is open, or the monitor is closed.
        """
        if sync is not None:
            sync()
        with self._lock:
            if self._closed:
                raise SpecError("the monitor is closed; make a new one")
            if name in self._windows:
                raise SpecError(f"a window {shown(name)} is already open; end it first, or give this one another name")
            tallies = self._look()
            self._windows[name] = _Open(self._clock(), time.time(), tallies)
            self._start_thread()

    def end_window(self, name: str, sync: Sync | None = None) -> Measurement:
        """End a window and return what it measured.

        Args:
            name: Of an open window.
            sync: See :meth:`begin_window`.

        Raises:
            UnknownNameError: No window of that name is open.
        """
        if sync is not None:
            sync()
        end_s = self._clock()  # before a look of the thread is waited for
        with self._lock:
            if name not in self._windows:
                raise UnknownNameError(f"no window {shown(name)} is open; open: {', '.join(map(shown, self._windows)) or 'none'}")
            tallies = self._look()
            window = self._windows.pop(name)
            if self._failure is not None:
                raise self._failure
        energies = [_ends(between(self._channels[key], window.tallies[key], tallies[key]), end_s - window.begin_s) for key in tallies if key in window.tallies]
        energies.sort(key=lambda energy: self._channels[energy.channel].preference)
        return Measurement(name, window.begin_s, end_s, window.begin_epoch_s, tuple(energies), self.obstacles)

    @contextmanager
    def window(self, name: str, sync: Sync | None = None) -> Iterator[Window]:
        """Measure a block; what it raises passes, and the window is ended all the same."""
        window = Window(name)
        self.begin_window(name, sync)
        try:
            yield window
        except BaseException:
            window._measurement = self.end_window(name)
            raise
        window._measurement = self.end_window(name, sync)

    def sample(self) -> None:
        """Read every channel once, into all open windows."""
        with self._lock:
            self._look()

    def close(self) -> None:
        """Stop reading and close the meters; open windows are lost."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._windows.clear()
            thread, self._thread = self._thread, None
        self._wake.set()
        if thread is not None:
            thread.join()
        for meter in self._meters:
            meter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _look(self, names: frozenset[str] | None = None) -> dict[str, Tally]:
        readings = [reading for meter in self._meters for reading in meter.read(names)]
        return {reading.channel: self._tracks[reading.channel].push(reading) for reading in readings}

    def _start_thread(self) -> None:
        gauges = frozenset(name for name, channel in self._channels.items() if channel.quantity == "power")
        if self._period_s is None or self._thread is not None or not self._channels:
            return
        self._wake.clear()
        self._thread = threading.Thread(target=self._poll, args=(gauges, self._period_s), name="effsim-meters", daemon=True)
        self._thread.start()

    def _poll(self, gauges: frozenset[str], period_s: float) -> None:
        """Read power often and counters seldom until no window is open; what fails here is raised where the window ends."""
        due_s = time.monotonic() + COUNTER_PERIOD_S
        while not self._wake.wait(period_s if gauges else COUNTER_PERIOD_S):
            with self._lock:
                if not self._windows:
                    self._thread = None
                    return
                try:
                    every = time.monotonic() >= due_s or not gauges
                    self._look(None if every else gauges)
                    due_s = time.monotonic() + COUNTER_PERIOD_S if every else due_s
                except Exception as error:
                    self._failure, self._thread = error, None
                    return


def _ends(energy: Energy, time_s: float) -> Energy:
    """Return an energy whose interval also holds what was used while the meters were read, before and after the window."""
    if energy.power_w is None or energy.low_j is None or energy.high_j is None:
        return energy
    extra_j = abs(energy.time_s - time_s) * energy.power_w
    return replace(energy, low_j=max(0.0, energy.low_j - extra_j), high_j=energy.high_j + extra_j)


@contextmanager
def measure(
    name: str,
    *,
    meters: Iterable[Meter] | None = None,
    sync: Sync | None = None,
    required: bool = False,
    sample_period_s: float = SAMPLE_PERIOD_S,
) -> Iterator[Window]:
    """Measure a block of code: ``with effsim.measure("train") as m: ...``, then ``m.energy_j``.

    Meters are opened before the block and closed after it; in a loop, keep a :class:`Monitor` instead. Where nothing can be
    read, ``m.energy_j`` is ``None`` and ``m.reason`` says why and what would help.

    Args:
        name: Of the window, for reports.
        meters: Open meters; none: those of this machine. They are closed.
        sync: Called at both ends to wait for queued work: ``torch.cuda.synchronize``.
        required: Refuse to run the block where nothing can be read.
        sample_period_s: Between two readings of power.

    Raises:
        MeterUnavailableError: ``required`` and no meter.
    """
    with Monitor(meters, sample_period_s=sample_period_s) as monitor:
        if required and not monitor.channels:
            raise MeterUnavailableError(f"no meter can be read: {'; '.join(map(str, monitor.obstacles)) or 'none was given'}")
        with monitor.window(name, sync) as window:
            yield window
