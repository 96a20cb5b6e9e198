"""Joules from raw counts: the one place that knows wrap-around, gaps, missing readings, idle power and how sure a meter is.

A :class:`Track` follows one channel and keeps running sums, so that a window costs two snapshots however long it lasts, and
the energies of adjacent windows add up to that of the whole.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from effsim.errors import SpecError
from effsim.meters.base import Channel, Reading, Scope
from effsim.meters.facts import COUNTER_PERIOD

MAX_GAP_S: Final = 5.0
"""Time between two readings of power after which the trapezoid between them is called a gap."""

MAX_GAP_SHARE: Final = 0.1
"""Share of a window in gaps up to which its energy from power is stated."""

FEW_PERIODS: Final = 5.0
"""Update periods below which a window is too short for its mean power to bound what the last update left out."""

QUANTILE_90: Final = 1.6449
TRIANGLE_90: Final = 1.0 - math.sqrt(0.1)
"""Half-width that holds 90 % of the difference of two ages, each anywhere within an update period."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Running sums of a channel at one reading; what happened in a window is the difference of two.

    Args:
        t_s: Time of the reading.
        counted: Whether it gave a count.
        reason: Why not.
        power_w: The last power read, of power channels.
        energy_j: Since the first reading, taking the fewest wraps that explain the counts.
        spread_j2: Sum over segments of the variance of a power that lies anywhere between its two readings.
        gap_s: Time in gaps.
        gap_j: Energy that the gaps were given.
        readings: How many gave a count.
        missing: How many did not.
        wraps: How often the counter started again at 0.
        extra_j: What more the counter may have counted in wraps that nobody saw.
        resets: How often it fell in a way that no wrap explains.
    """

    t_s: float
    counted: bool = False
    reason: str = ""
    power_w: float | None = None
    energy_j: float = 0.0
    spread_j2: float = 0.0
    gap_s: float = 0.0
    gap_j: float = 0.0
    readings: int = 0
    missing: int = 0
    wraps: int = 0
    extra_j: float = 0.0
    resets: int = 0


@dataclass(frozen=True, slots=True)
class Energy:
    """The energy of one channel over a window, with its 90 % interval.

    Args:
        channel: Its name.
        device: Which device.
        scope: What it covers.
        method: ``counter``, or ``power``: power readings joined by straight lines.
        value_j: ``None`` where the readings do not give it.
        low_j: 5 % quantile; ``None`` where nothing bounds it.
        high_j: 95 % quantile.
        time_s: Between the first and the last reading used.
        flags: What limits its use: wraps, gaps, missing readings, a window too short.
        reason: Why ``value_j`` is blank.
    """

    channel: str
    device: str
    scope: Scope
    method: Literal["counter", "power"]
    value_j: float | None
    low_j: float | None
    high_j: float | None
    time_s: float
    flags: tuple[str, ...] = ()
    reason: str = ""

    @property
    def power_w(self) -> float | None:
        """Mean power over the window."""
        return self.value_j / self.time_s if self.value_j is not None and self.time_s > 0.0 else None

    @property
    def provenance(self) -> Literal["measured"]:
        """As :mod:`effsim.results` names it."""
        return "measured"

    def above_idle(self, idle_w: float, idle_error_w: float = 0.0) -> "Energy":
        """Return the energy above that of a machine that idles as long.

        Args:
            idle_w: Mean power of the same channel when idle.
            idle_error_w: Half-width of its 90 % interval; added to that of the energy in quadrature.

        >>> busy = Energy("wall/power", "wall", "server", "power", 1000.0, 990.0, 1010.0, 10.0)
        >>> net = busy.above_idle(60.0, idle_error_w=1.0)
        >>> net.value_j, round(net.low_j, 2), round(net.high_j, 2)
        (400.0, 385.86, 414.14)
        """
        if self.value_j is None or self.low_j is None or self.high_j is None:
            return self
        net, error = self.value_j - idle_w * self.time_s, idle_error_w * self.time_s
        low, high = net - math.hypot(self.value_j - self.low_j, error), net + math.hypot(self.high_j - self.value_j, error)
        return replace(self, value_j=net, low_j=low, high_j=high, flags=(*self.flags, f"{idle_w:g} W of idle power taken off"))


class Track:
    """Follows one channel from reading to reading.

    Args:
        channel: What is read.
        max_gap_s: See :data:`MAX_GAP_S`; of energy counters no time is a gap.
    """

    def __init__(self, channel: Channel, max_gap_s: float = MAX_GAP_S) -> None:
        self.channel = channel
        self.max_gap_s = max_gap_s
        self._last: tuple[float, float] | None = None
        self._tally: Tally | None = None

    def push(self, reading: Reading) -> Tally:
        """Take the next reading and return the sums at it.

        Raises:
            SpecError: It is older than the one before.
        """
        before = self._tally or Tally(reading.t_s)
        if reading.t_s < before.t_s:
            raise SpecError(f"{self.channel.name}: readings are not in order of time: {reading.t_s:.6f} s follows {before.t_s:.6f} s")
        count = reading.count
        if count is None or not math.isfinite(count) or count < 0:
            reason = reading.reason or ("no reading" if count is None else f"{count} is no count")
            self._tally = replace(before, t_s=reading.t_s, counted=False, reason=reason, missing=before.missing + 1)
            return self._tally
        tally = replace(before, t_s=reading.t_s, counted=True, reason="", readings=before.readings + 1)
        if self.channel.quantity == "power":
            tally = replace(tally, power_w=count * self.channel.unit_size)
        if self._last is not None:
            step = self._counted if self.channel.quantity == "energy" else self._sampled
            tally = step(tally, *self._last, reading.t_s, count)
        self._last, self._tally = (reading.t_s, count), tally
        return tally

    def _counted(self, tally: Tally, t0_s: float, first: float, t1_s: float, last: float) -> Tally:
        channel, moved, wraps = self.channel, last - first, 0
        if moved < 0:
            if channel.wraps_at is None or channel.max_power_w is None:
                return replace(tally, resets=tally.resets + 1)
            moved, wraps = moved + channel.wraps_at, 1
        moved_j = moved * channel.unit_size
        if channel.wraps_at is None or channel.max_power_w is None:
            return replace(tally, energy_j=tally.energy_j + moved_j)
        bound_j = channel.max_power_w * (t1_s - t0_s + (channel.period_s or COUNTER_PERIOD.value))
        if wraps and moved_j > bound_j:  # it cannot have counted up to its end in that time
            return replace(tally, resets=tally.resets + 1)
        range_j = channel.wraps_at * channel.unit_size
        unseen = max(0, int((bound_j - moved_j) // range_j))
        return replace(tally, energy_j=tally.energy_j + moved_j, wraps=tally.wraps + wraps, extra_j=tally.extra_j + unseen * range_j)

    def _sampled(self, tally: Tally, t0_s: float, first: float, t1_s: float, last: float) -> Tally:
        first_w, last_w, time_s = first * self.channel.unit_size, last * self.channel.unit_size, t1_s - t0_s
        energy_j = 0.5 * (first_w + last_w) * time_s
        if time_s > self.max_gap_s:
            return replace(tally, energy_j=tally.energy_j + energy_j, gap_s=tally.gap_s + time_s, gap_j=tally.gap_j + energy_j)
        return replace(tally, energy_j=tally.energy_j + energy_j, spread_j2=tally.spread_j2 + ((last_w - first_w) * time_s) ** 2 / 12.0)


def between(channel: Channel, first: Tally, last: Tally) -> Energy:
    """Return the energy of a channel between two of its tallies.

    The 90 % interval joins in quadrature: accuracy as documented; of counters the age of the two counts, up to one update
    period each; of power the variance between readings and the lag of a reading that is a mean. Gaps, and wraps that nobody
    can have seen, are added to it in full.

    >>> channel = Channel("nvml/gpu0/energy", "gpu0", "accelerator", "energy", 1e-3, period_s=0.1)
    >>> track = Track(channel)
    >>> first = track.push(Reading(channel.name, 0.0, 5_000))
    >>> between(channel, first, track.push(Reading(channel.name, 10.0, 3_005_000))).value_j
    3000.0
    """
    energy = Energy(
        channel=channel.name,
        device=channel.device,
        scope=channel.scope,
        method="counter" if channel.quantity == "energy" else "power",
        value_j=None,
        low_j=None,
        high_j=None,
        time_s=last.t_s - first.t_s,
        flags=_flags(channel, first, last),
    )
    blank = _unreadable(first, last)
    if blank:
        return replace(energy, reason=blank)
    value_j = last.energy_j - first.energy_j
    period_s = (channel.period_s or COUNTER_PERIOD.value) if channel.quantity == "energy" else max(channel.period_s or 0.0, channel.averaging_s)
    if energy.time_s < period_s:
        return _too_short(channel, energy, value_j, period_s)
    extra_j = last.extra_j - first.extra_j
    if extra_j > 0.0:
        why = "it was read too seldom to know how often the counter started again at 0; the interval holds every number of times that its power allows"
        return replace(energy, low_j=value_j, high_j=value_j + extra_j, reason=why)
    half_j, gap_j = _half_width_j(channel, first, last, period_s), last.gap_j - first.gap_j
    low_j, high_j = max(0.0, value_j - half_j - gap_j), value_j + half_j + gap_j
    if last.gap_s - first.gap_s > MAX_GAP_SHARE * energy.time_s:
        return replace(energy, low_j=low_j, high_j=high_j, reason=f"{last.gap_s - first.gap_s:.3g} s of {energy.time_s:.3g} s lie in gaps between readings")
    return replace(energy, value_j=value_j, low_j=low_j, high_j=high_j)


def _unreadable(first: Tally, last: Tally) -> str:
    if not first.counted:
        return f"no reading at the start: {first.reason}"
    if not last.counted:
        return f"no reading at the end: {last.reason}"
    if last.resets > first.resets:
        return "the counter was reset in between (driver reloaded, machine suspended or restarted)"
    return "" if last.t_s > first.t_s else "the window has no length"


def _too_short(channel: Channel, energy: Energy, value_j: float, period_s: float) -> Energy:
    """Return what a window shorter than an update can say: of a counter nothing, of power the last reading; both within the device's limit."""
    bound_j = None if channel.max_power_w is None else channel.max_power_w * energy.time_s
    flags = (*energy.flags, f"{energy.time_s * 1e3:.3g} ms is shorter than the {period_s * 1e3:.3g} ms over which the meter counts or averages")
    if channel.quantity == "energy":
        why = "the window is shorter than the counter's update period"
        return replace(energy, low_j=None if bound_j is None else 0.0, high_j=bound_j, flags=flags, reason=why)
    return replace(energy, value_j=value_j, low_j=0.0, high_j=max(value_j, bound_j or 2.0 * value_j), flags=flags)


def _half_width_j(channel: Channel, first: Tally, last: Tally, period_s: float) -> float:
    value_j, time_s = last.energy_j - first.energy_j, last.t_s - first.t_s
    terms = [(channel.accuracy_ratio or 0.0) * value_j, (channel.accuracy_w or 0.0) * time_s]
    if channel.quantity == "energy":
        power_w = value_j / time_s
        if time_s < FEW_PERIODS * period_s:
            power_w = max(power_w, channel.max_power_w or 0.0)
        terms += [TRIANGLE_90 * period_s * power_w, channel.unit_size]
    else:
        lag_s = 0.5 * (channel.averaging_s + (channel.period_s or 0.0))
        terms.append(QUANTILE_90 * math.sqrt(max(0.0, last.spread_j2 - first.spread_j2)))
        terms += [lag_s * abs((last.power_w or 0.0) - (first.power_w or 0.0)), channel.unit_size * time_s]
    return math.hypot(*terms)


def _flags(channel: Channel, first: Tally, last: Tally) -> tuple[str, ...]:
    flags = [channel.note] if channel.note else []
    if channel.quantity == "energy" and channel.period_s is None:
        flags.append(f"its update period is not documented; {COUNTER_PERIOD.value:g} s is assumed")
    wraps, missing = last.wraps - first.wraps, last.missing - first.missing
    if wraps:
        flags.append(f"the counter started again at 0 {'once' if wraps == 1 else f'{wraps} times'}")
    if missing:
        flags.append(f"{missing} of {missing + last.readings - first.readings} readings failed")
    if last.gap_s > first.gap_s:
        flags.append(f"{last.gap_s - first.gap_s:.3g} s without readings, bridged by a straight line")
    return tuple(flags)


def integrate(channel: Channel, readings: Iterable[Reading], begin_s: float, end_s: float, max_gap_s: float = MAX_GAP_S) -> Energy:
    """Return the energy of a channel in a part of a recording; between two readings power changes along a straight line.

    Args:
        channel: What was recorded.
        readings: Of that channel, in order of time.
        begin_s: Start of the window on the readings' clock.
        end_s: Its end.
        max_gap_s: See :data:`MAX_GAP_S`.

    Raises:
        SpecError: The window ends before it starts or at no finite time, or the readings are not in order of time.
    """
    if not (math.isfinite(begin_s) and math.isfinite(end_s)):
        raise SpecError(f"expected a window between two finite times, got {begin_s} s to {end_s} s")
    if end_s < begin_s:
        raise SpecError(f"a window from {begin_s:g} s to {end_s:g} s ends before it starts")
    track = Track(channel, max_gap_s)
    first = last = previous = None
    for reading in readings:
        tally = track.push(reading)
        if not tally.counted:
            continue
        if first is None and reading.t_s >= begin_s:
            first = _cut(previous or tally, tally, begin_s, late=False)
        if reading.t_s >= end_s:
            last = _cut(previous or tally, tally, end_s, late=True)
            break
        previous = tally
    absent = Tally(end_s, reason="the recording does not reach that far")
    first = Tally(begin_s, reason="the recording starts later") if first is None or first.t_s > begin_s else first
    return between(channel, first, last or absent)


def _cut(before: Tally, after: Tally, t_s: float, *, late: bool) -> Tally:
    """Return the tally at a time between two; what happened at no known time between them belongs to the window on either side."""
    if t_s < before.t_s or after.t_s in {before.t_s, t_s}:
        return after
    share = (t_s - before.t_s) / (after.t_s - before.t_s)

    def straight(start: float, end: float) -> float:
        return start + share * (end - start)

    energy_j, power_w = straight(before.energy_j, after.energy_j), after.power_w
    if before.power_w is not None and after.power_w is not None:
        power_w = straight(before.power_w, after.power_w)
        energy_j = before.energy_j + 0.5 * (before.power_w + power_w) * (t_s - before.t_s)
    return replace(
        after if late else before,
        t_s=t_s,
        energy_j=energy_j,
        power_w=power_w,
        spread_j2=straight(before.spread_j2, after.spread_j2),
        gap_s=straight(before.gap_s, after.gap_s),
        gap_j=straight(before.gap_j, after.gap_j),
    )
