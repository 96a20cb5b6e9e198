"""A calibration from serving logs of one deployment: steady loads, whichever tool measured them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.calibrate.around_prior import Vector
from effsim.calibrate.least_squares import Data, Posterior, correlation_of, posterior
from effsim.calibrate.logs.record import Measurement
from effsim.calibrate.serving_fit import COEFFICIENTS, EFFECTIVE_ROWS
from effsim.cost.deployment import Deployment, model_kind
from effsim.cost.device import Coefficients, Prior
from effsim.cost.serving import DEFAULT_BUDGET, predict
from effsim.cost.steady_state import Load
from effsim.errors import CalibrationError
from effsim.specs import loading

NOISE: Final = {"itl_s": 0.05, "tpot_s": 0.06, "power_w": 0.07}
"""Quantity -> standard deviation of the logarithm of its residuals to start from, as in fits to the ML.ENERGY benchmark."""


@dataclass(frozen=True, slots=True)
class LogFit:
    """A fit to logs.

    Args:
        document: The calibration.
        table: One row per load and quantity: measured, predicted before and after, errors in percent.
        left_out: Loads that cannot be used, with the reason.
    """

    document: dict[str, Any]
    table: pd.DataFrame
    left_out: tuple[tuple[str, str], ...]


def fit_logs(measurements: Sequence[Measurement], deployment: Deployment, name: str, date: str, max_num_batched_tokens: float | None = None) -> LogFit:
    """Return the calibration of an accelerator under an engine from logs of one deployment.

    The starting point is what the deployment's own calibration knows. Loads of one deployment share what the model cannot explain: together
    they count as :data:`~effsim.calibrate.serving_fit.EFFECTIVE_ROWS` independent ones. ITL is compared with the median between tokens, TPOT with the batch
    over the throughput, power with that of all accelerators; what a log lacks takes no part. What the model cannot explain keeps its
    size: loads of one deployment say nothing about others.

    Args:
        measurements: Loads.
        deployment: What ran.
        name: Of the calibration.
        date: Of the logs.
        max_num_batched_tokens: Of the engine; None: its default on this device.

    Raises:
        CalibrationError: No load states prompt, output, concurrency and a latency, a throughput or a power.
    """
    used, left_out = _usable(measurements)
    if not used:
        reasons = "; ".join(f"{source}: {reason}" for source, reason in left_out) or "no loads"
        raise CalibrationError(f"nothing to fit: {reasons}")
    measured = _measured(used)
    quantities = tuple(name for name in NOISE if np.isfinite(measured[name]).any())
    load = _load(used, deployment, max_num_batched_tokens)

    def log_errors(coefficients: Coefficients) -> Vector:
        found = predict(deployment, coefficients, load)
        return np.stack([np.log(found[name] / measured[name]) for name in quantities])

    prior = deployment.prior
    chosen = [name for name in COEFFICIENTS if prior.log_sd[name] > 0.0]
    weights = np.full(len(used), min(1.0, EFFECTIVE_ROWS / len(used)))
    found = posterior(Data(log_errors, weights, tuple(NOISE[name] for name in quantities), correlation_of(prior, chosen)), prior, chosen)
    table = _table(used, quantities, measured, log_errors(prior.median), log_errors(found.all_coefficients))
    return LogFit(_document(found, prior, deployment, (name, date), table), table, tuple(left_out))


def _usable(measurements: Sequence[Measurement]) -> tuple[list[Measurement], list[tuple[str, str]]]:
    used, left = [], []
    for one in measurements:
        if one.prompt_tokens is None or one.output_tokens is None:
            left.append((one.source, "prompt and output tokens are not stated"))
        elif one.running is None:
            left.append((one.source, "the requests under way follow neither from a batch, nor from rate and latency, nor from a concurrency"))
        elif one.itl.median_s is None and one.output_tokens_per_s is None and one.tpot.mean_s is None and one.power_w is None:
            left.append((one.source, "neither latency nor throughput nor power"))
        else:
            used.append(one)
    return used, left


def _measured(used: Sequence[Measurement]) -> dict[str, Vector]:
    def tpot_s(one: Measurement) -> float | None:
        if one.running is not None and one.output_tokens_per_s is not None:
            return max(one.running, 1.0) / one.output_tokens_per_s
        return one.tpot.mean_s

    columns = {"itl_s": [one.itl.median_s for one in used], "tpot_s": [tpot_s(one) for one in used], "power_w": [one.power_w for one in used]}
    return {name: np.array([np.nan if value is None else value for value in values]) for name, values in columns.items()}


def _load(used: Sequence[Measurement], deployment: Deployment, max_num_batched_tokens: float | None) -> Load:
    own = deployment.engine.defaults_for(deployment.accelerator.memory.value, deployment.accelerator.name)[1]
    budget = float(max_num_batched_tokens or own or DEFAULT_BUDGET)
    batch = np.array([max(1.0, (one.running or 1.0) / deployment.parallelism.data) for one in used])
    prompt = np.array([max(1.0, one.prompt_tokens or 1.0) for one in used])
    output = np.array([max(1.0, one.output_tokens or 1.0) for one in used])
    return Load(batch, prompt, output, np.full(len(used), budget))


def _table(used: Sequence[Measurement], quantities: Sequence[str], measured: dict[str, Vector], before: Vector, after: Vector) -> pd.DataFrame:
    rows = [
        {
            "source": one.source,
            "quantity": name,
            "measured": measured[name][column],
            "error_before_pct": 100.0 * np.expm1(before[row, column]),
            "error_after_pct": 100.0 * np.expm1(after[row, column]),
        }
        for row, name in enumerate(quantities)
        for column, one in enumerate(used)
        if np.isfinite(measured[name][column])
    ]
    return pd.DataFrame(rows)


def _document(found: Posterior, prior: Prior, deployment: Deployment, named: tuple[str, str], table: pd.DataFrame) -> dict[str, Any]:
    units = loading.calibration(f"prior_{deployment.accelerator.device_class}").coefficients
    unmoved = [key for key in found.coefficients if found.log_sd[key] > 0.9 * prior.log_sd[key]]
    errors = table.groupby("quantity", sort=False).error_after_pct.apply(lambda error: error.abs().mean())
    said = ", ".join(f"{name} {error:.1f} %" for name, error in errors.items())
    return {
        "name": named[0],
        "kind": "posterior",
        "accelerator": deployment.accelerator.name,
        "engine": deployment.engine.name,
        "note": f"Started from {prior.name}. Mean absolute error on the loads fitted: {said}. Hardly moved: {', '.join(unmoved) or 'none'}.",
        "covers": {
            "kind": sorted({str(model_kind(deployment.model)), *prior.covers.get("kind", ())}),
            "precision": sorted({deployment.numerics.precision, *prior.covers.get("precision", ())}),
        },
        "sources": {"fit": {"title": f"{table.source.nunique()} loads of {deployment.model.name}", "date": named[1]}},
        "discrepancy_log_sd": {kind: _rounded(value) for kind, value in prior.discrepancy_log_sd.items()},
        "coefficients": {
            key: {"value": _rounded(found.median[key]), "unit": units[key].unit, "log_sd": _rounded(found.log_sd[key]), "kind": "fitted", "source": "fit"}
            for key in found.coefficients
        },
        "correlation": [[round(value, 3) for value in row] for row in found.correlation],
        "account": {
            "prior": [prior.name],
            "start": {key: {"value": _rounded(getattr(prior.median, key)), "log_sd": _rounded(prior.log_sd[key])} for key in found.coefficients},
            "unidentified": unmoved,
            "rows": int(table.source.nunique()),
            "residuals": [_residual(one) for one in table.to_dict(orient="records")],
        },
    }


def _residual(row: dict[Any, Any]) -> dict[str, Any]:
    unit = "W" if row["quantity"].endswith("_w") else "s"
    return {
        "name": row["source"],
        "quantity": row["quantity"],
        "value": float(row["measured"]),
        "unit": unit,
        "error_ratio": _rounded(0.01 * row["error_after_pct"]),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
