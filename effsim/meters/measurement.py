"""What a window measured: energy by device, the sum of what may be added, and how well the meters agree."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Final

from effsim.meters.base import PARTS, Obstacle, Scope
from effsim.meters.joules import Energy

DISAGREEMENT_RATIO: Final = 0.1
"""Relative difference of two ways to the same energy, of which one has no interval, above which they are said to disagree."""

CONTAINS: Final[dict[Scope, tuple[Scope, ...]]] = {"platform": ("processor", "memory", "soc"), "server": PARTS}
"""What is inside the energy of a scope."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two ways to the energy of one device.

    Args:
        device: Which.
        first: The channel that is preferred.
        second: The one beside it.
        difference_ratio: Of the second to the first, relative.
        disagree: Whether their 90 % intervals have nothing in common; without intervals, whether they differ by more than a tenth.
    """

    device: str
    first: str
    second: str
    difference_ratio: float
    disagree: bool

    def __str__(self) -> str:
        """Return one sentence."""
        return f"{self.device}: {self.second} is {self.difference_ratio:+.1%} of {self.first}{': they disagree' if self.disagree else ''}"


def compared(energies: Iterable[Energy]) -> tuple[Comparison, ...]:
    """Return comparisons of the channels of each device, in their order of preference, and of a whole with its parts where it is less than they.

    >>> counter = Energy("nvml/gpu0/energy", "gpu0", "accelerator", "counter", 187.0, 180.0, 194.0, 5.0)
    >>> polled = Energy("nvml/gpu0/power", "gpu0", "accelerator", "power", 327.0, 310.0, 344.0, 5.0)
    >>> print(compared([counter, polled])[0])
    gpu0: nvml/gpu0/power is +74.9% of nvml/gpu0/energy: they disagree
    """
    listed = list(energies)
    found = []
    for own in by_device(listed).values():
        known = [energy for energy in own if energy.value_j]
        found += [_compared(first, second) for first, second in pairwise(known[:1] + known[1:2])]
        found += [_compared(known[0], other) for other in known[2:]]
    chosen = [first(own) for own in by_device(listed).values()]
    for whole in chosen:
        parts = [energy for energy in chosen if energy.scope in CONTAINS.get(whole.scope, ())]
        low_j = sum(energy.low_j or 0.0 for energy in parts)
        if whole.value_j and whole.high_j is not None and low_j > whole.high_j:
            total_j = sum(energy.value_j or 0.0 for energy in parts)
            found.append(Comparison(whole.device, "+".join(energy.device for energy in parts), whole.channel, whole.value_j / total_j - 1.0, disagree=True))
    return tuple(found)


def _compared(first_one: Energy, second: Energy) -> Comparison:
    assert first_one.value_j is not None  # noqa: S101 -- chosen for having one
    assert second.value_j is not None  # noqa: S101
    ratio = second.value_j / first_one.value_j - 1.0
    ends = (first_one.low_j, first_one.high_j, second.low_j, second.high_j)
    if None in ends:
        return Comparison(first_one.device, first_one.channel, second.channel, ratio, abs(ratio) > DISAGREEMENT_RATIO)
    apart = ends[0] > ends[3] or ends[2] > ends[1]  # type: ignore[operator]
    return Comparison(first_one.device, first_one.channel, second.channel, ratio, apart)


def by_device(energies: Iterable[Energy]) -> dict[str, list[Energy]]:
    """Return the energies of each device in their given order."""
    devices: dict[str, list[Energy]] = {}
    for energy in energies:
        devices.setdefault(energy.device, []).append(energy)
    return devices


def first(energies: list[Energy]) -> Energy:
    """Return the first energy that has a value, saying for what it stands in; without any, the first."""
    chosen = next((energy for energy in energies if energy.value_j is not None), energies[0])
    if chosen is energies[0]:
        return chosen
    return replace(chosen, flags=(*chosen.flags, f"in place of {energies[0].channel}: {energies[0].reason}"))


@dataclass(frozen=True, slots=True)
class Measurement:
    """Time and energy of a window.

    Args:
        name: Of the window.
        begin_s: Monotonic time of its start.
        end_s: Of its end.
        begin_epoch_s: Unix time of its start, to find it in a log of another machine.
        energies: One per channel, those of a device in their order of preference.
        obstacles: What could not be read.
    """

    name: str
    begin_s: float
    end_s: float
    begin_epoch_s: float
    energies: tuple[Energy, ...]
    obstacles: tuple[Obstacle, ...] = ()

    @property
    def time_s(self) -> float:
        """Length of the window."""
        return self.end_s - self.begin_s

    @property
    def by_device(self) -> dict[str, Energy]:
        """The energy of each device, from the channel preferred among those that have one."""
        return {device: first(own) for device, own in by_device(self.energies).items()}

    @property
    def counted(self) -> tuple[Energy, ...]:
        """What :attr:`energy_j` adds up: the accelerators, processors and memories; where no such part is metered, the whole that is."""
        chosen = self.by_device.values()
        for scopes in (PARTS, ("server",), ("platform",)):
            found = tuple(energy for energy in chosen if energy.scope in scopes)
            if found:
                return found
        return ()

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """What :attr:`energy_j` covers."""
        return tuple(dict.fromkeys(energy.scope for energy in self.counted))

    @property
    def energy_j(self) -> float | None:
        """Sum of :attr:`counted`; ``None`` where nothing is metered or one of them is blank, which :attr:`reason` explains."""
        return _sum([energy.value_j for energy in self.counted])

    @property
    def interval_j(self) -> tuple[float, float] | None:
        """90 % interval of the sum; meters of one kind are taken to err together."""
        low_j, high_j = _sum([energy.low_j for energy in self.counted]), _sum([energy.high_j for energy in self.counted])
        return None if low_j is None or high_j is None else (low_j, high_j)

    @property
    def power_w(self) -> float | None:
        """Mean power of :attr:`counted`."""
        return _sum([energy.power_w for energy in self.counted])

    def energy_of(self, scope: Scope) -> float | None:
        """Return the energy of all devices of a scope; ``None`` where none is metered or one is blank."""
        return _sum([energy.value_j for energy in self.by_device.values() if energy.scope == scope])

    @property
    def reason(self) -> str:
        """Why :attr:`energy_j` is blank; empty where it is not."""
        if self.energy_j is not None:
            return ""
        blank = [f"{energy.channel}: {energy.reason}" for energy in self.counted if energy.value_j is None]
        return "; ".join(blank) or f"no meter: {'; '.join(map(str, self.obstacles)) or 'none was given'}"

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """How the channels of each device compare."""
        return compared(self.energies)

    @property
    def flags(self) -> tuple[str, ...]:
        """What limits the use of :attr:`energy_j`: by channel; what was there and could not be read; meters that disagree."""
        flags = [f"{energy.channel}: {flag}" for energy in self.counted for flag in energy.flags]
        flags += [f"not counted: {obstacle}" for obstacle in self.obstacles if obstacle.state != "absent"]
        return (*flags, *(str(comparison) for comparison in self.comparisons if comparison.disagree))

    def above_idle(self, idle: "Measurement") -> "Measurement":
        """Return the measurement less what each channel used in a window without work, scaled to this one's length.

        A channel that the other window did not measure becomes blank.
        """
        before = {energy.channel: energy for energy in idle.energies}
        return replace(self, energies=tuple(_above(energy, before.get(energy.channel)) for energy in self.energies))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; what is absent is ``None``."""
        interval = self.interval_j
        return {
            "name": self.name,
            "time_s": self.time_s,
            "begin_epoch_s": self.begin_epoch_s,
            "energy_j": self.energy_j,
            "energy_low_j": interval[0] if interval else None,
            "energy_high_j": interval[1] if interval else None,
            "power_w": self.power_w,
            "scopes": list(self.scopes),
            "provenance": "measured",
            "reason": self.reason,
            "flags": list(self.flags),
            "channels": [as_dict(energy) for energy in self.energies],
            "comparisons": [{field.name: getattr(one, field.name) for field in fields(one)} for one in self.comparisons],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return :meth:`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False, ensure_ascii=False)


def as_dict(energy: Energy) -> dict[str, Any]:
    """Return the fields of an energy, its mean power and its provenance as plain values."""
    named = {field.name: getattr(energy, field.name) for field in fields(energy)}
    return {**named, "flags": list(energy.flags), "power_w": energy.power_w, "provenance": energy.provenance}


def _above(energy: Energy, idle: Energy | None) -> Energy:
    if idle is None or idle.power_w is None or idle.low_j is None or idle.high_j is None:
        why = f"its idle power is not known: {'not measured' if idle is None else idle.reason}"
        return replace(energy, value_j=None, low_j=None, high_j=None, reason=energy.reason or why)
    return energy.above_idle(idle.power_w, 0.5 * (idle.high_j - idle.low_j) / idle.time_s)


def _sum(values: list[float | None]) -> float | None:
    """Return a sum that is absent where there is nothing to add or one of the values is absent.

    >>> _sum([1.0, 2.0]), _sum([1.0, None]), _sum([])
    (3.0, None, None)
    """
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
