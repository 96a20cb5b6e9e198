"""Robust least squares of logarithms, held by a prior, over arrays of predictions at once.

With x how far the logarithms of the coefficients lie from their prior medians, in prior standard deviations, and r the residuals
``log(predicted / measured)`` over the noise of their quantity, the fit minimises ``sum w rho(r^2) + sum x^2`` with
``rho(z) = 2 (sqrt(1 + z) - 1)``; the posterior is Laplace's. The noise of each quantity is estimated between passes from the median of
its absolute residuals. Rows that come one by one: :mod:`effsim.calibrate.training_fit`, with the sources.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from scipy.optimize import least_squares

from effsim.calibrate.around_prior import NORMAL_MAD, STEP, AroundPrior, Vector, check_known, softened, towards_prior
from effsim.cost.device import COEFFICIENTS, Coefficients, Prior
from effsim.errors import CalibrationError

FARTHEST: Final = 6.0  # prior standard deviations
PASSES: Final = 2
EVALUATIONS: Final = 12  # steps of the first pass from the prior
EVALUATIONS_NEAR: Final = 5  # steps of a fit that starts from one of nearly the same rows
NOISE_FLOOR: Final = 0.03
LEAST_EIGENVALUE: Final = 1e-3  # of a correlation written with three decimals


class Data(NamedTuple):
    """What is fitted.

    Args:
        log_errors: From coefficients to log(predicted / measured), shape (quantity, row); NaN where a
            quantity has fewer rows.
        weights: Of the squared residuals, shape (row,).
        noise: Standard deviation of each quantity's residuals to start from.
        correlation: Of the prior, over the coefficients fitted, in their order; None: independent.
    """

    log_errors: Callable[[Coefficients], Vector]
    weights: Vector
    noise: tuple[float, ...]
    correlation: Vector | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Posterior:
    """What a fit found.

    Args:
        coefficients: The fitted subset, in this order throughout.
        median: In the coefficients' units.
        log_sd: Of their logarithms.
        correlation: Of the logarithms.
        noise_log_sd: By quantity.
        prior: What it started from.
    """

    coefficients: tuple[str, ...]
    median: dict[str, float]
    log_sd: dict[str, float]
    correlation: tuple[tuple[float, ...], ...]
    noise_log_sd: tuple[float, ...]
    prior: Prior

    @property
    def all_coefficients(self) -> Coefficients:
        """The prior's medians with the fitted ones in their places."""
        return dataclasses.replace(self.prior.median, **self.median)

    def as_prior(self) -> Prior:
        """Return the posterior as the prior of a prediction, without discrepancy."""
        place = {name: i for i, name in enumerate(self.coefficients)}
        rows = tuple(
            tuple(float(a == b) if a not in place or b not in place else self.correlation[place[a]][place[b]] for b in COEFFICIENTS) for a in COEFFICIENTS
        )
        return dataclasses.replace(
            self.prior,
            median=self.all_coefficients,
            log_sd={**self.prior.log_sd, **self.log_sd},
            correlation=rows,
            discrepancy_log_sd={},
            provenance="calibrated",
        )


def posterior(data: Data, prior: Prior, coefficients: Sequence[str], start: Posterior | None = None) -> Posterior:
    """Return the posterior of a subset of the coefficients.

    Args:
        data: What is fitted.
        prior: Medians and standard deviations; coefficients that are not fitted stay at its medians.
        coefficients: Which to fit.
        start: A fit of nearly the same rows to start from, whose noise holds; None: the prior.

    Raises:
        CalibrationError: An unknown coefficient, or one whose prior leaves no room.
    """
    chosen = tuple(coefficients)
    check_known(chosen)
    fixed = [name for name in chosen if prior.log_sd[name] <= 0.0]
    if fixed:
        raise CalibrationError(f"{fixed[0]}: its prior has no spread; it cannot be fitted")
    problem = _Problem(data, prior, chosen)
    moved = np.zeros(len(chosen)) if start is None else problem.moved([start.median[name] for name in chosen])
    noise = np.array(data.noise if start is None else start.noise_log_sd)
    steps = EVALUATIONS if start is None else EVALUATIONS_NEAR
    for _ in range(PASSES if start is None else 1):
        inside = np.clip(moved, problem.bounds[0] + STEP, problem.bounds[1] - STEP)
        moved = np.asarray(
            least_squares(problem.residuals, inside, problem.jacobian, args=(noise,), bounds=problem.bounds, max_nfev=steps, xtol=1e-4, ftol=1e-4).x
        )
        noise = problem.noise(moved) if start is None else noise
    log_sd, correlation = problem.posterior(problem.jacobian(moved, noise))
    return Posterior(
        coefficients=chosen,
        median=problem.values(moved),
        log_sd=log_sd,
        correlation=correlation,
        noise_log_sd=tuple(float(value) for value in noise),
        prior=prior,
    )


class _Problem(AroundPrior):
    def __init__(self, data: Data, prior: Prior, chosen: tuple[str, ...]) -> None:
        super().__init__(prior, chosen, farthest=FARTHEST, least_room=3 * STEP)
        self.data = data
        self.hold: Vector = np.eye(len(chosen)) if data.correlation is None else _inverse_root(data.correlation)

    def log_errors(self, moved: Vector) -> Vector:
        return self.data.log_errors(dataclasses.replace(self.prior.median, **self.values(moved)))

    def residuals(self, moved: Vector, noise: Vector) -> Vector:
        scaled = np.nan_to_num(self.log_errors(moved) / noise[:, None])
        return np.concatenate([(np.sqrt(self.data.weights) * softened(scaled)).ravel(), self.hold @ moved])

    def jacobian(self, moved: Vector, noise: Vector) -> Vector:
        return towards_prior(lambda at: self.residuals(at, noise), moved)

    def noise(self, moved: Vector) -> Vector:
        errors = self.log_errors(moved)
        return np.maximum(NORMAL_MAD * np.nanmedian(np.abs(errors), axis=1), NOISE_FLOOR)


def _inverse_root(correlation: Vector) -> Vector:
    """Return the symmetric R with ``R R = C^-1``; eigenvalues that rounding has made 0 or less are put to :data:`LEAST_EIGENVALUE`."""
    values, vectors = np.linalg.eigh(correlation)
    found: Vector = vectors / np.sqrt(np.maximum(values, LEAST_EIGENVALUE)) @ vectors.T
    return found


def correlation_of(prior: Prior, chosen: Sequence[str]) -> Vector | None:
    """Return the prior's correlation over some of the coefficients, in their order; None: independent."""
    if prior.correlation is None:
        return None
    places = [COEFFICIENTS.index(name) for name in chosen]
    return np.array(prior.correlation)[np.ix_(places, places)]
