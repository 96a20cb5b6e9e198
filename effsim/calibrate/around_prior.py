"""What robust fits around a prior share: coefficients by their distance from it, the loss, the Jacobian and Laplace's posterior."""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from effsim.cost.device import COEFFICIENTS, Prior
from effsim.errors import CalibrationError

Vector = npt.NDArray[np.float64]
SHARES: Final = ("_efficiency", "_softness")
LARGEST_SHARE: Final = 0.98
STEP: Final = 1e-3  # of a prior standard deviation, for the Jacobian
NORMAL_MAD: Final = 1.4826  # standard deviation of a normal over the median of its absolute values


class AroundPrior:
    """Coefficients as distances of their logarithms from the prior's medians, in the prior's standard deviations.

    Args:
        prior: Medians and standard deviations.
        chosen: The coefficients that move.
        farthest: Distance that none passes; shares stop at :data:`LARGEST_SHARE` if that is nearer.
        least_room: Distance that a share has at least.
        least_spread: Standard deviation that a coefficient has at least.
    """

    def __init__(self, prior: Prior, chosen: tuple[str, ...], *, farthest: float, least_room: float, least_spread: float = 0.0) -> None:
        self.prior, self.chosen = prior, chosen
        self.origin: Vector = np.log([getattr(prior.median, name) for name in chosen])
        self.spread: Vector = np.array([max(prior.log_sd[name], least_spread) for name in chosen])
        room = (math.log(LARGEST_SHARE) - self.origin) / self.spread
        upper = [min(max(limit, least_room), farthest) if name.endswith(SHARES) else farthest for name, limit in zip(chosen, room, strict=True)]
        self.bounds = (np.full(len(chosen), -farthest), np.array(upper))

    def moved(self, values: Sequence[float]) -> Vector:
        """Return the distances of given coefficients."""
        found: Vector = (np.log(values) - self.origin) / self.spread
        return found

    def values(self, moved: Vector) -> dict[str, float]:
        """Return the coefficients at given distances, in their units."""
        return {name: float(value) for name, value in zip(self.chosen, np.exp(self.origin + self.spread * moved), strict=True)}

    def posterior(self, jacobian: Vector) -> tuple[dict[str, float], tuple[tuple[float, ...], ...]]:
        """Return standard deviations of the logarithms and their correlation: the covariance is the inverse of J'J, prior included."""
        covariance: Vector = np.linalg.inv(jacobian.T @ jacobian) * np.outer(self.spread, self.spread)
        sd = np.sqrt(np.diag(covariance))
        correlation = tuple(tuple(float(value) for value in row) for row in covariance / np.outer(sd, sd))
        return {name: float(value) for name, value in zip(self.chosen, sd, strict=True)}, correlation


def check_known(chosen: Sequence[str]) -> None:
    """Raise CalibrationError for a coefficient that the cost model does not have."""
    strange = [name for name in chosen if name not in COEFFICIENTS]
    if strange:
        raise CalibrationError(f"the cost model has no coefficient {strange[0]!r}; it has {', '.join(COEFFICIENTS)}")


def softened(scaled: Vector) -> Vector:
    """Return residuals whose squares are ``2 (sqrt(1 + r^2) - 1)``: a row far off pulls with its first power only.

    >>> softened(np.array([0.0, -np.sqrt(3.0)])).round(6).tolist()
    [0.0, -1.414214]
    """
    soft: Vector = np.sign(scaled) * np.sqrt(2.0 * (np.sqrt(1.0 + scaled**2) - 1.0))
    return soft


def towards_prior(residuals: Callable[[Vector], Vector], moved: Vector) -> Vector:
    """Return the Jacobian of residuals by differences towards the prior, which no bound forbids."""
    here = residuals(moved)
    columns = []
    for place, value in enumerate(moved):
        step = np.zeros_like(moved)
        step[place] = -STEP if value > 0.0 else STEP
        columns.append((residuals(moved + step) - here) / step[place])
    return np.stack(columns, axis=1)
