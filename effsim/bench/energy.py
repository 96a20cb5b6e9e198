"""The energy of the device under test, from whatever meters the machine has."""

from typing import Any, Final

from effsim.bench.conditions import Watch
from effsim.bench.devices.base import Device
from effsim.bench.measure import Energy
from effsim.meters import Channel, Monitor

OF_THE_PROCESSOR: Final = ("processor", "memory", "soc")


class Metered:
    """Windows over the channels that cover one device.

    Args:
        monitor: Open meters; whoever opened it closes it.
        device: Under test.
        watch: Knows the name that meters have for it.
    """

    def __init__(self, monitor: Monitor, device: Device, watch: Watch) -> None:
        self._monitor = monitor
        name = watch.meter_device
        self._channels = tuple(
            channel
            for channel in monitor.channels
            if (channel.device == name if name is not None else channel.scope in (("soc",) if device.facts.kind == "mps" else OF_THE_PROCESSOR))
        )

    @property
    def channels(self) -> tuple[dict[str, Any], ...]:
        """What is read, as the run file says it; empty: nothing covers the device."""
        return tuple(_described(channel) for channel in self._channels)

    def begin(self, name: str) -> None:
        """Open a window."""
        self._monitor.begin_window(name)

    def end(self, name: str) -> Energy:
        """Close a window and return the sum over the device's parts; blank where one of them is, with the reason."""
        measured = self._monitor.end_window(name)
        devices = tuple(dict.fromkeys(channel.device for channel in self._channels))
        found = [measured.by_device[device] for device in devices]
        remarks = "; ".join(flag for energy in found for flag in energy.flags)
        values, lows, highs = ([getattr(energy, end) for energy in found] for end in ("value_j", "low_j", "high_j"))
        if not found or None in values:
            return Energy(None, None, None, (), "; ".join(energy.reason for energy in found if energy.reason) or "nothing is metered")
        bounded = None not in lows and None not in highs
        return Energy(sum(values), sum(lows) if bounded else None, sum(highs) if bounded else None, devices, remarks)


def _described(channel: Channel) -> dict[str, Any]:
    names = ("name", "device", "scope", "quantity", "unit_size", "model", "period_s", "averaging_s", "accuracy_ratio", "accuracy_w", "note")
    return {name: getattr(channel, name) for name in names}
