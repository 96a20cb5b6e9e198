"""Coefficients fitted to measured step times and powers: robust least squares of logarithms, held by the prior.

With theta the logarithms of the coefficients, m and s their prior medians and standard deviations, r the residuals
``log(predicted / measured)`` over the noise's standard deviation, and w the weights of the rows, the fit minimises

    sum w rho(r^2) + sum ((theta - m) / s)^2,   rho(z) = 2 (sqrt(1 + z) - 1)

so that a row far off pulls with its first power only, and a coefficient that the rows say nothing about keeps its prior. The
posterior is Laplace's: the covariance is the inverse of J'J at the optimum, prior included. Sources: Gelman et al., Bayesian Data
Analysis, 3rd edition, section 4.1; Triggs et al., Bundle Adjustment, LNCS 1883 (2000), section 3.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.optimize import least_squares

from effsim.calibrate.around_prior import NORMAL_MAD, STEP, AroundPrior, Vector, check_known, softened, towards_prior
from effsim.cost.device import Coefficients, Prior
from effsim.documents import dump_yaml, write_atomically
from effsim.errors import CalibrationError
from effsim.specs import loading

TIME_COEFFICIENTS: Final = (
    "gemm_efficiency",
    "grouped_gemm_efficiency",
    "attention_efficiency",
    "scan_efficiency",
    "memory_efficiency",
    "overlap_softness",
    "gemm_kernel_s",
    "elementwise_kernel_s",
    "expert_imbalance",
    "link_efficiency",
    "collective_latency_factor",
    "host_overhead_factor",
)
"""What step times can tell about."""
POWER_COEFFICIENTS: Final = ("static_power", "compute_power", "memory_power")
"""What powers can tell about, beside them."""
NOISE_FLOOR: Final = 0.01  # of a published step time: rounding of TFLOP/s to whole numbers
NOISE_START: Final = 0.05
PASSES: Final = 3
INFORMED: Final = 0.9  # posterior over prior standard deviation, above which a coefficient counts as not fitted


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """A measured quantity above 0 and the model's prediction of it as a function of the coefficients.

    Args:
        name: Names it in the calibration.
        predicted: From coefficients to the quantity: a step time [s] or a power [W].
        measured: In the same unit.
        weight: Of its squared residual; 1 over the number of runs of the same configuration.
    """

    name: str
    predicted: Callable[[Coefficients], float]
    measured: float
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Fit:
    """What a fit found.

    Args:
        coefficients: The fitted subset, in this order throughout.
        median: Posterior medians, in the coefficients' units.
        log_sd: Posterior standard deviations of their logarithms.
        correlation: Posterior, of the logarithms.
        residual: log(predicted / measured) by row.
        noise_log_sd: Of the residuals: the model's discrepancy and the runs' scatter.
        prior: What it started from.
    """

    coefficients: tuple[str, ...]
    median: dict[str, float]
    log_sd: dict[str, float]
    correlation: tuple[tuple[float, ...], ...]
    residual: dict[str, float]
    noise_log_sd: float
    prior: Prior

    @property
    def residual_of_row(self) -> tuple[float, ...]:
        """The residuals in the order of the rows."""
        return tuple(self.residual.values())

    @property
    def all_coefficients(self) -> Coefficients:
        """The prior's medians with the fitted ones in their places."""
        return dataclasses.replace(self.prior.median, **self.median)

    @property
    def mape_pct(self) -> float:
        """Mean absolute error of the rows, in percent."""
        return 100.0 * float(np.mean(np.abs(np.expm1(list(self.residual.values())))))


def fit(rows: Sequence[Observation], prior: Prior, coefficients: Sequence[str] = TIME_COEFFICIENTS, start: Fit | None = None) -> Fit:
    """Return the posterior of a subset of the coefficients.

    Args:
        rows: Measurements.
        prior: Medians and standard deviations; coefficients that are not fitted stay at its medians.
        coefficients: Which to fit.
        start: A fit to start from; None: the prior.

    Raises:
        CalibrationError: No rows, an unknown coefficient, or a measured quantity that is not above 0.
    """
    chosen = tuple(coefficients)
    _check(rows, chosen)
    problem = _Problem(rows, prior, chosen)
    moved: Vector = np.zeros(len(chosen)) if start is None else problem.moved([start.median[name] for name in chosen])
    noise = NOISE_START if start is None else start.noise_log_sd
    for _ in range(PASSES if start is None else 1):
        moved = np.asarray(least_squares(problem.residuals, moved, problem.jacobian, args=(noise,), bounds=problem.bounds, xtol=1e-6).x)
        noise = problem.noise(moved) if start is None else noise
    log_sd, correlation = problem.posterior(problem.jacobian(moved, noise))
    return Fit(
        coefficients=chosen,
        median=problem.values(moved),
        log_sd=log_sd,
        correlation=correlation,
        residual={row.name: float(value) for row, value in zip(rows, problem.log_errors(moved), strict=True)},
        noise_log_sd=noise,
        prior=prior,
    )


def _check(rows: Sequence[Observation], chosen: tuple[str, ...]) -> None:
    check_known(chosen)
    if not rows:
        raise CalibrationError("nothing to fit: no measured runs")
    wrong = [row.name for row in rows if not (row.measured > 0.0 and math.isfinite(row.measured) and row.weight > 0.0)]
    if wrong:
        raise CalibrationError(f"{wrong[0]}: measured quantity and weight must be above 0")


class _Problem(AroundPrior):
    """The residuals of rows that are predicted one by one."""

    def __init__(self, rows: Sequence[Observation], prior: Prior, chosen: tuple[str, ...]) -> None:
        super().__init__(prior, chosen, farthest=math.inf, least_room=STEP, least_spread=STEP)
        self.rows = rows
        self.weights: Vector = np.sqrt([row.weight for row in rows])
        self.measured: Vector = np.log([row.measured for row in rows])

    def log_errors(self, moved: Vector) -> Vector:
        coefficients = dataclasses.replace(self.prior.median, **self.values(moved))
        errors: Vector = np.log([row.predicted(coefficients) for row in self.rows]) - self.measured
        return errors

    def residuals(self, moved: Vector, noise: float) -> Vector:
        return np.concatenate([self.weights * softened(self.log_errors(moved) / noise), moved])

    def jacobian(self, moved: Vector, noise: float) -> Vector:
        return towards_prior(lambda at: self.residuals(at, noise), moved)

    def noise(self, moved: Vector) -> float:
        """Return the standard deviation of the rows' errors, from the median of their absolute values where that is smaller."""
        errors = self.log_errors(moved)
        power = float(np.average(errors**2, weights=self.weights**2))
        return max(NOISE_FLOOR, min(math.sqrt(power), NORMAL_MAD * float(np.median(np.abs(errors)))))


def leave_one_out(rows: Sequence[Observation], whole: Fit) -> dict[str, float]:
    """Return log(predicted / measured) of each row when the coefficients are fitted to the others.

    Args:
        rows: Those of the fit.
        whole: The fit to all of them, from which the others start.

    Raises:
        CalibrationError: Fewer than two rows.
    """
    if len(rows) < 2:  # noqa: PLR2004 -- one must stay
        raise CalibrationError("leave one out: at least two measured runs are needed")
    left: dict[str, float] = {}
    for place, row in enumerate(rows):
        others = [*rows[:place], *rows[place + 1 :]]
        found = fit(others, whole.prior, whole.coefficients, start=whole)
        left[row.name] = math.log(row.predicted(found.all_coefficients) / row.measured)
    return left


def remembered(predicted: Callable[[Coefficients], float]) -> Callable[[Coefficients], float]:
    """Return a prediction that keeps its last values: leaving rows out asks for the same ones again."""
    return lru_cache(maxsize=4096)(predicted)


def calibration_document(found: Fit, name: str, belongs: tuple[str, str], sources: tuple[str, str], discrepancy_log_sd: Mapping[str, float]) -> dict[str, Any]:
    """Return a fit as a :class:`~effsim.specs.calibration.Calibration` document.

    Coefficients that the runs say next to nothing about are left out: those of the class prior hold.

    Args:
        found: The fit.
        name: Of the calibration and its file.
        belongs: Accelerator and engine.
        sources: Title and date of what was fitted.
        discrepancy_log_sd: What the coefficients do not explain, by output (``time``, ``power``), best from rows left out.
    """
    base = loading.calibration(found.prior.name).coefficients
    used = ", ".join(found.residual)
    told = [place for place, key in enumerate(found.coefficients) if found.log_sd[key] < INFORMED * found.prior.log_sd[key]]
    return {
        "name": name,
        "kind": "posterior",
        "accelerator": belongs[0],
        "engine": belongs[1],
        "note": f"Fitted to {len(found.residual)} runs: {used}"[:2000],
        "sources": {"fit": {"title": sources[0], "date": sources[1]}},
        "discrepancy_log_sd": {output: _rounded(value) for output, value in discrepancy_log_sd.items()},
        "coefficients": {
            key: {"value": _rounded(found.median[key]), "unit": base[key].unit, "log_sd": _rounded(found.log_sd[key]), "kind": "fitted", "source": "fit"}
            for key in (found.coefficients[place] for place in told)
        },
        "correlation": [[round(found.correlation[row][column], 3) for column in told] for row in told],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def write_calibration(path: Path, document: dict[str, Any]) -> None:
    """Write a calibration file, whole or not at all.

    Raises:
        CalibrationError: The document is no calibration.
        SpecError: As above, with the field.
    """
    if document.get("name") != path.stem:
        raise CalibrationError(f"{path}: the calibration is called {document.get('name')!r}; file and name must agree")
    loading.calibration(document)
    write_atomically(path, dump_yaml(document))
