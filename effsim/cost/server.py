"""From the watts of accelerators to those at the plug of their server.

accelerators + host + fans -> (power supply) -> server. Every relation is linear in the accelerators' power, so that it holds
for joules as it does for watts. Arrays are welcome wherever a float is.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Values = TypeVar("Values", float, npt.NDArray[np.float64])


def host_power_w(idle_power_w: float, busy_power_w: float, busy_share: Values) -> Values:
    """Return what a host draws beside accelerators and fans [W]: ``idle + busy_share · (busy - idle)``.

    Args:
        idle_power_w: Of the host with nothing to do.
        busy_power_w: Of the host that feeds its accelerators without a pause.
        busy_share: Share of the time in which it does, 0 to 1.

    >>> host_power_w(600.0, 1600.0, 0.25)
    850.0
    """
    return idle_power_w + busy_share * (busy_power_w - idle_power_w)


def fan_power_w(full_load_power_w: float, accelerator_power_w: Values, accelerator_full_power_w: float) -> Values:
    """Return what the fans of a server draw [W]: proportional to the heat of its accelerators.

    ``full · accelerators / accelerators at full load``. The law of affinity (power goes with the cube of the air flow) would
    give less at part load, if the flow followed the heat; controllers keep a floor, so the proportional law is used.

    >>> fan_power_w(400.0, 2800.0, 5600.0)
    200.0
    """
    return accelerator_power_w * (full_load_power_w / accelerator_full_power_w)


def server_power_w(accelerator_power_w: Values, host_w: Values, fan_w: Values, psu_efficiency: float) -> Values:
    """Return the power at the server's plug [W]: ``(accelerators + host + fans) / efficiency of the power supply``.

    >>> server_power_w(5600.0, 1600.0, 400.0, 0.95)
    8000.0
    """
    return (accelerator_power_w + host_w + fan_w) / psu_efficiency
