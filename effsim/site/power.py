"""From the watts at the plug of a server to those at the meter of the site; the chain up to the plug is :mod:`effsim.cost.server`."""

from effsim.cost.server import Values, fan_power_w, host_power_w, server_power_w

__all__ = ["Values", "fan_power_w", "host_power_w", "server_power_w", "site_power_w"]


def site_power_w(server_w: Values, pue: float) -> Values:
    """Return the power at the site's meter [W]: ``server · PUE``.

    PUE = energy of the facility / energy of its IT equipment (ISO/IEC 30134-2).

    >>> site_power_w(8000.0, 1.25)
    10000.0
    """
    return server_w * pue
