"""Energy as it is metered: counters of accelerators and processors, readings of power, logs of wall meters.

This package needs nothing beyond the standard library, so that it also runs on a bare machine and from a copied folder
(``python -m effsim.meters``).

Code that measures itself needs :func:`measure`, or a :class:`Monitor` that stays open. What they give is a
:class:`Measurement`: ``energy_j``, ``interval_j``, ``time_s``, ``power_w``, ``by_device``, ``reason``, ``flags``.
"""

from effsim.meters.base import Channel, Meter, Obstacle, Reading
from effsim.meters.joules import Energy, integrate
from effsim.meters.logs import load
from effsim.meters.measurement import Comparison, Measurement
from effsim.meters.recording import Recording
from effsim.meters.registry import meter_class, names, open_meters
from effsim.meters.window import Monitor, Window, measure

__all__ = [
    "Channel",
    "Comparison",
    "Energy",
    "Measurement",
    "Meter",
    "Monitor",
    "Obstacle",
    "Reading",
    "Recording",
    "Window",
    "integrate",
    "load",
    "measure",
    "meter_class",
    "names",
    "open_meters",
]
