"""Energy as it is metered: counters of accelerators and processors, readings of power, logs of wall meters.

This package needs nothing beyond the standard library, so that it also runs on a bare machine and from a copied folder.

The window interface, for code that measures itself:

- ``measure(name)``: a context manager; afterwards ``.energy_j``, ``.interval_j``, ``.time_s``, ``.power_w``, ``.by_device``, ``.reason``;
- ``Monitor()``: keeps the meters open; ``with monitor.window(name) as w``, or ``begin_window(name)`` and ``end_window(name)``,
  which returns a ``Measurement``. Windows may be nested and may overlap. ``close()``, or use it as a context manager.
"""
