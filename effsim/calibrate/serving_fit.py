"""Coefficients fitted to measured serving in steady state: latency, time per token and power of many batches at once.

Runs of one configuration (model, split, task) differ in batch alone and share what the model cannot explain of them, so together they
count as :data:`EFFECTIVE_ROWS` independent ones. What the coefficients do not explain is taken from configurations left out: of each
model, the residuals under a fit to the other models.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np

from effsim.calibrate.around_prior import Vector
from effsim.calibrate.least_squares import Data, Posterior, posterior
from effsim.cost.deployment import Deployment
from effsim.cost.device import Coefficients, Prior
from effsim.cost.serving import predict
from effsim.cost.steady_state import Load
from effsim.cost.uncertainty import log_sd
from effsim.errors import CalibrationError
from effsim.specs import loading

QUANTITIES: Final = ("itl_s", "tpot_s", "power_w")
"""What is fitted; energy per token is power times time per token over the batch."""
OUTPUTS: Final = (*QUANTITIES, "energy_per_output_token_j")
START_NOISE: Final = (0.05, 0.06, 0.07)
EFFECTIVE_ROWS: Final = 4.0
COEFFICIENTS: Final = (
    "gemm_efficiency", "memory_efficiency", "gemm_kernel_s", "quantized_gemm_factor", "quantized_gemm_kernel_s",
    "grouped_gemm_efficiency", "grouped_memory_efficiency", "grouped_gemm_kernel_s", "quantized_grouped_factor", "quantized_grouped_kernel_s",
    "attention_efficiency", "attention_memory_efficiency", "attention_kernel_s", "attention_item_s", "scan_efficiency",
    "elementwise_kernel_s", "sampling_efficiency", "overlap_softness", "expert_imbalance",
    "link_efficiency", "collective_latency_factor",
    "host_overhead_factor", "sequence_overhead_factor", "chunked_attention_s", "eager_attention_s", "eager_experts_s", "eager_scan_s", "prompt_share",
    "static_power", "busy_power", "grouped_busy_power", "quantized_busy_power", "attention_busy_power", "elementwise_busy_power",
    "compute_power", "memory_power", "link_power", "voltage_floor",
)  # fmt: skip


class Runs(NamedTuple):
    """Measured loads of one configuration.

    Args:
        name: Of the configuration.
        model: Left out together.
        deployment: What ran.
        load: Shape (load,).
        measured: By quantity of :data:`OUTPUTS`, shape (load,).
    """

    name: str
    model: str
    deployment: Deployment
    load: Load
    measured: Mapping[str, Vector]


def log_errors(runs: Sequence[Runs], coefficients: Coefficients, outputs: Sequence[str] = QUANTITIES) -> Vector:
    """Return log(predicted / measured), shape (output, load of all runs)."""
    return np.concatenate([_log_errors(_Key(one), coefficients)[[OUTPUTS.index(name) for name in outputs]] for one in runs], axis=1)


class _Key:
    """Runs as a cache key, by identity."""

    __slots__ = ("runs",)

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    def __hash__(self) -> int:
        return id(self.runs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.runs is self.runs


@functools.lru_cache(maxsize=8192)
def _log_errors(key: _Key, coefficients: Coefficients) -> Vector:
    """Return the errors of one configuration, kept: fits that leave a model out start from the same points."""
    one = key.runs
    found = predict(one.deployment, coefficients, one.load)
    errors: Vector = np.stack([np.log(found[name] / one.measured[name]) for name in OUTPUTS])
    return errors


def fit(runs: Sequence[Runs], prior: Prior, coefficients: Sequence[str] = COEFFICIENTS, start: Posterior | None = None) -> Posterior:
    """Return the posterior of coefficients from runs on one accelerator under one engine.

    Args:
        runs: Measured.
        prior: Medians and spreads; those without spread are not fitted.
        coefficients: Which to fit.
        start: A fit to nearly the same runs.

    Raises:
        CalibrationError: No runs, runs of several accelerators, or a quantity that is not above 0.
    """
    _check(runs)
    weights = np.concatenate([np.full(len(one.load.batch), min(1.0, EFFECTIVE_ROWS / len(one.load.batch))) for one in runs])
    chosen = [name for name in coefficients if prior.log_sd[name] > 0.0]
    return posterior(Data(lambda c: log_errors(runs, c), weights, START_NOISE), prior, chosen, start)


def _check(runs: Sequence[Runs]) -> None:
    if not runs:
        raise CalibrationError("nothing to fit: no measured runs")
    names = sorted({one.deployment.accelerator.name for one in runs})
    if len(names) > 1:
        raise CalibrationError(f"runs on several accelerators ({', '.join(names)}): fit each by itself")
    for one in runs:
        for name in QUANTITIES:
            if not np.all(np.isfinite(one.measured[name]) & (one.measured[name] > 0.0)):
                raise CalibrationError(f"{one.name}: {name} must be a number above 0")


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """Predictions of one configuration by a fit that has seen no run of its model, shape (load,), by output.

    Args:
        runs: The configuration.
        predicted: Of it.
        parameter_log_sd: From the coefficients' uncertainty.
    """

    runs: Runs
    predicted: Mapping[str, Vector]
    parameter_log_sd: Mapping[str, Vector]

    def log_error(self, output: str) -> Vector:
        """Return log(predicted / measured)."""
        found: Vector = np.log(self.predicted[output] / self.runs.measured[output])
        return found


def predicted_by(prior: Prior, runs: Runs) -> LeftOut:
    """Return predictions of runs with their spread from the coefficients alone."""
    values = predict(runs.deployment, prior.median, runs.load)
    spread = log_sd(lambda c: predict(runs.deployment, c, runs.load), prior, {})
    return LeftOut(runs, {name: values[name] for name in OUTPUTS}, {name: spread[name] for name in OUTPUTS})


def leave_one_model_out(runs: Sequence[Runs], prior: Prior, whole: Posterior, step: Callable[[str, float], Any] | None = None) -> list[LeftOut]:
    """Return predictions of every configuration by a fit to the other models.

    Args:
        runs: On one accelerator.
        prior: Of each fit.
        whole: The fit to all, from which the others start.
        step: Called with each model's name and the share done.

    Raises:
        CalibrationError: Fewer than two models.
    """
    models = list(dict.fromkeys(one.model for one in runs))
    if len(models) < 2:  # noqa: PLR2004 -- one must stay
        raise CalibrationError("leave one model out: at least two models are needed")
    left = []
    for place, model in enumerate(models):
        if step is not None:
            step(model, place / len(models))
        found = fit([one for one in runs if one.model != model], prior, whole.coefficients, whole).as_prior()
        left += [predicted_by(found, one) for one in runs if one.model == model]
    return left


def discrepancy(left: Sequence[LeftOut], without: str = "", level: float = 0.9) -> dict[str, float]:
    """Return what the coefficients do not explain, by ``time``, ``power`` and ``energy``: standard deviations of logarithms.

    The least d for which ``level`` of the residuals lie within ``z sqrt(s^2 + d^2)``, s from the coefficients: configurations weigh
    alike, whatever their number of loads.

    Args:
        left: From :func:`leave_one_model_out`.
        without: A model whose residuals are not used.
        level: Of the interval that shall hold.
    """
    groups = {"time": ("itl_s", "tpot_s"), "power": ("power_w",), "energy": ("energy_per_output_token_j",)}
    kept = [one for one in left if one.runs.model != without]
    return {kind: _least(kept, outputs, level) for kind, outputs in groups.items()}


def _least(left: Sequence[LeftOut], outputs: Sequence[str], level: float) -> float:
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    pairs = [(one.log_error(name), one.parameter_log_sd[name]) for one in left for name in outputs]
    errors, sds = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    weights = np.concatenate([np.full(len(pair[0]), 1.0 / math.sqrt(len(pair[0]))) for pair in pairs])
    needed = np.sqrt(np.maximum((errors / z) ** 2 - sds**2, 0.0))
    order = np.argsort(needed)
    share = np.cumsum(weights[order]) / weights.sum()
    return float(needed[order][min(int(np.searchsorted(share, level)), len(needed) - 1)])


def calibration_document(found: Posterior, name: str, sources: tuple[str, str], covers: Mapping[str, Sequence[str]], left: Sequence[LeftOut]) -> dict[str, Any]:
    """Return a fit as a :class:`~effsim.specs.calibration.Calibration` document.

    Args:
        found: The fit to all runs.
        name: Of the calibration and its file.
        sources: Title and date of what was fitted.
        covers: Engines, kinds of model and precisions that the runs held.
        left: Predictions of models left out, for the discrepancy and the account of residuals.
    """
    first = left[0].runs.deployment
    units = loading.calibration(f"prior_{first.accelerator.device_class}").coefficients
    unmoved = [key for key in found.coefficients if found.log_sd[key] > 0.9 * found.prior.log_sd[key]]
    errors = {output: np.concatenate([one.log_error(output) for one in left]) for output in OUTPUTS}
    said = ", ".join(f"{output} {100.0 * float(np.mean(np.abs(np.expm1(error)))):.1f} %" for output, error in errors.items())
    return {
        "name": name,
        "kind": "posterior",
        "accelerator": first.accelerator.name,
        "engine": first.engine.name,
        "note": f"Mean absolute error on models left out: {said}. Hardly moved from the prior: {', '.join(unmoved) or 'none'}.",
        "covers": {key: sorted(values) for key, values in covers.items()},
        "sources": {"fit": {"title": sources[0], "date": sources[1]}},
        "discrepancy_log_sd": {kind: _rounded(value) for kind, value in discrepancy(left).items()},
        "coefficients": {
            key: {"value": _rounded(found.median[key]), "unit": units[key].unit, "log_sd": _rounded(found.log_sd[key]), "kind": "fitted", "source": "fit"}
            for key in found.coefficients
        },
        "correlation": [[round(value, 3) for value in row] for row in found.correlation],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
