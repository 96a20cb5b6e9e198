"""From uncertain coefficients to intervals on results, by the delta method on logarithms."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np

from effsim.cost.device import COEFFICIENTS, Coefficients, Prior
from effsim.errors import SpecError

STEP = 0.25  # of a standard deviation, for the central difference
Outputs = Mapping[str, Any]


def log_sd(evaluate: Callable[[Coefficients], Outputs], prior: Prior, discrepancy: Mapping[str, float]) -> dict[str, Any]:
    """Return the standard deviation of the logarithm of each output.

    ``s^2 = g' C g + d^2`` with ``g_i = sd_i · d log(output) / d log(coefficient_i)``, C the correlation of the coefficients and d
    what the model cannot explain.

    Args:
        evaluate: From coefficients to outputs, floats or arrays.
        prior: Medians, standard deviations and correlation.
        discrepancy: d by output.
    """
    slopes: dict[str, list[Any]] = {}
    for name in COEFFICIENTS:
        step = STEP * prior.log_sd[name]
        up, down = (evaluate(_moved(prior.median, name, sign * step)) for sign in (1.0, -1.0))
        for output in up:
            with np.errstate(divide="ignore", invalid="ignore"):
                change = np.log(up[output]) - np.log(down[output])
            slopes.setdefault(output, []).append(change / (2.0 * STEP))
    return {output: _combine(np.stack(np.broadcast_arrays(*gradient)), prior, discrepancy.get(output, 0.0)) for output, gradient in slopes.items()}


def discrepancies(prior: Prior, times: tuple[str, ...], powers: tuple[str, ...], energies: tuple[str, ...]) -> dict[str, float]:
    """Return what the model cannot explain, by output: of times, of powers, and of energies, which have both unless known apart."""
    time, power = (prior.discrepancy_log_sd.get(kind, 0.0) for kind in ("time", "power"))
    energy = prior.discrepancy_log_sd.get("energy", math.hypot(time, power))
    return {**dict.fromkeys(times, time), **dict.fromkeys(powers, power), **dict.fromkeys(energies, energy)}


def _moved(median: Coefficients, name: str, log_step: float) -> Coefficients:
    return replace(median, **{name: getattr(median, name) * math.exp(log_step)})


def _combine(gradient: Any, prior: Prior, discrepancy: float) -> Any:
    weighted = gradient if prior.correlation is None else np.tensordot(np.array(prior.correlation), gradient, axes=1)
    return np.sqrt(np.maximum((gradient * weighted).sum(axis=0), 0.0) + discrepancy**2)


def interval(value: Any, sd: Any, level: float) -> tuple[Any, Any]:
    """Return the central interval of a log-normal about its median.

    >>> low, high = interval(100.0, 0.1, 0.9)
    >>> round(low, 1), round(high, 1)
    (84.8, 117.9)

    Raises:
        SpecError: The level is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise SpecError(f"level: must lie between 0 and 1, got {level}")
    quantile = NormalDist().inv_cdf(0.5 + level / 2.0)
    reach = math.exp(quantile * sd) if isinstance(sd, float) else np.exp(quantile * sd)
    return value / reach, value * reach


def sd_of_range(low: float, high: float) -> float:
    """Return the standard deviation of the logarithm for which a range is a 90 % interval.

    >>> round(sd_of_range(1.0, 4.0), 3)
    0.421
    """
    return math.log(high / low) / (2.0 * NormalDist().inv_cdf(0.95))
