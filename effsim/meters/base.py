"""What a meter is: channels that name what is counted, and readings of raw counts.

A meter never multiplies or adds. Joules are made of its counts in :mod:`effsim.meters.joules`, so that wrap-around, gaps
and idle power are dealt with once.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

Scope = Literal["accelerator", "processor", "memory", "soc", "platform", "server"]
"""What a channel covers: a GPU card; a CPU package; its DRAM; a chip that holds all three; a board with them; the machine at the plug."""

Quantity = Literal["energy", "power"]

PARTS: tuple[Scope, ...] = ("accelerator", "processor", "memory", "soc")
"""Scopes that do not contain each other on one machine, and so may be added; ``platform`` and ``server`` contain them."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One counter of energy or one reading of power, and what its driver and data sheet say of it.

    Args:
        name: Unique on the machine, such as ``nvml/gpu0/energy``.
        device: What several channels may read side by side: ``gpu0``, ``package-0``, ``wall``.
        scope: See :data:`Scope`.
        quantity: ``energy``: a counter that only grows, but for wrap-around; ``power``: a momentary or averaged reading.
        unit_size: Joules or watts per count.
        model: The name that the driver reports, or blank.
        wraps_at: Counts after which an energy counter starts again at 0; ``None`` where it does not within years.
        period_s: Time between two updates by its documentation; ``None`` where nothing is documented.
        averaging_s: Time that a power reading is the mean of; 0 where it is momentary.
        accuracy_ratio: Largest relative error by its documentation; ``None`` where nothing is documented.
        accuracy_w: Largest absolute error of power, likewise.
        max_power_w: What the device cannot pass for long: bounds how often a counter can have wrapped.
        preference: Of two channels of one device the one with the lower number is reported, the other compared with it.
        note: What a reader must know, e.g. that a GPU is shared by MIG instances.
    """

    name: str
    device: str
    scope: Scope
    quantity: Quantity
    unit_size: float
    model: str = ""
    wraps_at: int | None = None
    period_s: float | None = None
    averaging_s: float = 0.0
    accuracy_ratio: float | None = None
    accuracy_w: float | None = None
    max_power_w: float | None = None
    preference: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse a counter that wraps with nothing known of how fast.

        Raises:
            ValueError: ``wraps_at`` without ``max_power_w``.
        """
        if self.wraps_at is not None and self.max_power_w is None:
            raise ValueError(f"{self.name}: a counter that wraps needs max_power_w, to tell how often it can have wrapped")


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a channel.

    Args:
        channel: Its name.
        t_s: Monotonic time of the look.
        count: As the driver gave it; ``None`` where it gave none.
        reason: Why there is no count.
    """

    channel: str
    t_s: float
    count: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that could be read but is not.

    Args:
        device: ``package-0``, or blank where it concerns the whole meter.
        reason: What is in the way.
        remedy: The exact thing to do; blank where nothing helps.
        state: ``absent``: the machine or its software lacks it; ``denied``: no permission; ``failed``: it should work and does not.
    """

    device: str
    reason: str
    remedy: str = ""
    state: Literal["absent", "denied", "failed"] = "absent"

    def __str__(self) -> str:
        """Return one sentence with the remedy."""
        return f"{f'{self.device}: ' if self.device else ''}{self.reason}{f' ({self.remedy})' if self.remedy else ''}"


class Meter(ABC):
    """A source of counts, opened when it is made; whoever opened it closes it.

    A meter that finds nothing has no channels and says why in :attr:`obstacles`; making one never raises for that.
    """

    title: ClassVar[str]
    """As tables name it."""

    @property
    @abstractmethod
    def channels(self) -> tuple[Channel, ...]:
        """What can be read."""

    @property
    @abstractmethod
    def obstacles(self) -> tuple[Obstacle, ...]:
        """What cannot, and why."""

    @abstractmethod
    def read(self, names: frozenset[str] | None = None) -> tuple[Reading, ...]:
        """Return one reading of each channel, or of the named ones; a channel that fails gives a reading without count."""

    def close(self) -> None:  # noqa: B027 -- most meters hold nothing open
        """Let go of the driver; nothing is read afterwards."""


@dataclass(frozen=True, slots=True)
class Source:
    """A channel with the call that reads it, which raises what the library raises."""

    channel: Channel
    read: Callable[[], float]


class SourceMeter(Meter):
    """A meter whose channels are calls into a library; a subclass fills ``_sources`` and ``_obstacles``."""

    def __init__(self) -> None:
        self._sources: list[Source] = []
        self._obstacles: list[Obstacle] = []

    @property
    def channels(self) -> tuple[Channel, ...]:
        """What the library answered for."""
        return tuple(source.channel for source in self._sources)

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """What it refused, and why."""
        return tuple(self._obstacles)

    @abstractmethod
    def _failure(self, error: Exception) -> str | None:
        """Return why a reading failed, or None for an error that is no fault of the library's."""

    def read(self, names: frozenset[str] | None = None) -> tuple[Reading, ...]:
        """Return one reading of each channel; of one that the library refuses now, the reason."""
        readings = []
        for source in self._sources:
            if names is not None and source.channel.name not in names:
                continue
            start_s, count, reason = time.monotonic(), None, ""
            try:
                count = source.read()
            except Exception as error:
                told = self._failure(error)
                if told is None:
                    raise
                reason = told
            readings.append(Reading(source.channel.name, 0.5 * (start_s + time.monotonic()), count, reason))
        return tuple(readings)
