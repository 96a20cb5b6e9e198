"""Serving calibrations from runs of the ML.ENERGY benchmark, and how far they carry.

Four predictions stand side by side, each blind to the model that it predicts:

- ``data sheet``: class prior alone;
- ``engine prior``: what is known of the engine on the device class;
- ``kernels``: kernel tables of the accelerator, no serving data;
- ``other models``: kernel tables, and serving runs of every other model on the accelerator (leave one model out).

``other accelerator`` takes the serving fit of another accelerator (leave one accelerator out). Intervals hold the coefficients'
uncertainty and a discrepancy; for ``other models`` it is estimated from the residuals of models left out, the predicted one apart.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim import catalog
from effsim.calibrate.least_squares import Posterior
from effsim.calibrate.serving_fit import OUTPUTS, LeftOut, Runs, calibration_document, discrepancy, fit, leave_one_model_out, predicted_by
from effsim.cost.deployment import model_kind
from effsim.cost.device import Prior, combine, transferred
from effsim.errors import CalibrationError
from effsim.specs import loading
from effsim.validate.mlenergy import ACCELERATORS, read, runs

ENGINE: Final = "vllm"
SOURCE: Final = "ML.ENERGY benchmark v3 (vLLM 0.11.1, steady state), rows that the host did not bind: {models} models on {gpu}"
DATE: Final = "2026-11"
KIND_OF: Final = {"itl_s": "time", "tpot_s": "time", "power_w": "power", "energy_per_output_token_j": "energy"}
LEVEL: Final = 0.9


def start_of(accelerator: str, *, kernels: bool = True) -> Prior:
    """Return what is known of an accelerator under the engine before any of its serving runs.

    Args:
        accelerator: Catalog key.
        kernels: Whether its kernel tables count, where the catalog has a calibration from them.
    """
    acc = loading.accelerator(accelerator)
    layers = [loading.calibration(f"prior_{acc.device_class}"), loading.calibration(f"prior_{acc.device_class}_{ENGINE}")]
    name = f"{accelerator}_{ENGINE}_kernels"
    tables = [loading.calibration(name)] if kernels and catalog.find("calibrations", name) else []
    return combine((*layers, *tables), accelerator)


def document(path: Path, gpu: str, step: Callable[[str, float], Any] | None = None) -> dict[str, Any]:
    """Return the serving calibration of an accelerator, fitted to all its runs.

    Args:
        path: Rows of the benchmark.
        gpu: As the benchmark names it.
        step: Called with each model that is left out and the share done.

    Raises:
        CalibrationError: No rows of that accelerator.
    """
    found = _runs(path, gpu)
    prior = start_of(ACCELERATORS[gpu])
    whole = fit(found, prior)
    left = leave_one_model_out(found, prior, whole, step)
    covers = {"kind": [str(model_kind(one.deployment.model)) for one in found], "precision": [one.deployment.numerics.precision for one in found]}
    title = SOURCE.format(models=len({one.model for one in found}), gpu=gpu)
    return calibration_document(whole, f"{ACCELERATORS[gpu]}_{ENGINE}", (title, DATE), {key: sorted(set(values)) for key, values in covers.items()}, left)


def _runs(path: Path, gpu: str) -> list[Runs]:
    if gpu not in ACCELERATORS:
        raise CalibrationError(f"accelerator: the benchmark has {', '.join(ACCELERATORS)}, got {gpu!r}")
    found = runs(read(path), gpu, "none")
    if not found:
        raise CalibrationError(f"{path}: no rows on {gpu} that the host did not bind")
    return found


def tiers(path: Path, step: Callable[[str, float], Any] | None = None) -> pd.DataFrame:
    """Return one row per measured load, tier and output: measured, predicted, 90 % interval, error, model, kind and accelerator.

    Raises:
        CalibrationError: No rows of an accelerator.
    """
    measured = {gpu: _runs(path, gpu) for gpu in ACCELERATORS}
    wholes = {gpu: fit(found, start_of(ACCELERATORS[gpu])) for gpu, found in measured.items()}
    frames = []
    for gpu, found in measured.items():
        key = ACCELERATORS[gpu]
        fixed: dict[str, Prior] = {
            "data sheet": combine((loading.calibration(f"prior_{loading.accelerator(key).device_class}"),), key),
            "engine prior": start_of(key, kernels=False),
            "kernels": start_of(key),
        }
        for tier, prior in fixed.items():
            frames += [_frame(predicted_by(prior, one), tier, prior.discrepancy_log_sd) for one in found]
        left = leave_one_model_out(found, start_of(key), wholes[gpu], step)
        spread = {model: discrepancy(left, model) for model in {one.model for one in found}}
        frames += [_frame(one, "other models", spread[one.runs.model]) for one in left]
        frames += _other_accelerator(found, {other: fitted for other, fitted in wholes.items() if other != gpu}, discrepancy(left))
    return pd.concat(frames, ignore_index=True)


def _other_accelerator(found: Sequence[Runs], others: Mapping[str, Posterior], spread: Mapping[str, float]) -> list[pd.DataFrame]:
    """Return predictions with the coefficients of another accelerator, its spreads widened as outside the calibrated region."""
    frames = []
    for fitted in others.values():
        prior = transferred(fitted.as_prior())
        wide = {kind: 1.5 * sd for kind, sd in spread.items()}
        frames += [_frame(predicted_by(prior, one), "other accelerator", wide) for one in found]
    return frames


def _frame(one: LeftOut, tier: str, spread: Mapping[str, float]) -> pd.DataFrame:
    rows = []
    both = {**spread, "energy": spread.get("energy", spread.get("serving_energy", 0.0))}
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2.0)
    run = one.runs
    for output in OUTPUTS:
        reach = np.exp(z * np.hypot(one.parameter_log_sd[output], both.get(KIND_OF[output], 0.0)))
        measured, predicted = run.measured[output], one.predicted[output]
        rows.append(
            pd.DataFrame(
                {
                    "tier": tier,
                    "gpu": run.deployment.accelerator.name,
                    "kind": model_kind(run.deployment.model),
                    "model": run.model,
                    "configuration": run.name,
                    "batch": run.load.batch,
                    "output": output,
                    "measured": measured,
                    "predicted": predicted,
                    "low": predicted / reach,
                    "high": predicted * reach,
                    "error": predicted / measured - 1.0,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def summary(found: pd.DataFrame, by: Sequence[str] = ("tier", "gpu", "kind")) -> pd.DataFrame:
    """Return mean and median absolute error [%], coverage [%] and width of the 90 % interval (high over low), by group and output."""
    rows = found.assign(
        ape=100.0 * found.error.abs(), inside=100.0 * ((found.low <= found.measured) & (found.measured <= found.high)), width=found.high / found.low
    )
    groups = rows.groupby([*by, "output"], sort=False)
    return pd.DataFrame(
        {
            "loads": groups.size(),
            "mape_pct": groups.ape.mean(),
            "median_ape_pct": groups.ape.median(),
            "inside_90_pct": groups.inside.mean(),
            "median_width": groups.width.median(),
        }
    ).reset_index()


LIMITS_S: Final = (0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, float("inf"))
"""On inter-token latency [s]; infinite: none."""


def configuration_choices(found: pd.DataFrame, limits_s: Sequence[float] = LIMITS_S) -> pd.DataFrame:
    """Return, by tier, how well predictions choose accelerator and count for a model and a task under a latency limit.

    The batch is no part of the choice: an operator raises it until the limit is reached. A configuration's energy per token is that of
    its best batch within the limit, by prediction for the choice and by measurement for its worth. Only choices among two or more
    configurations that were measured to keep the limit count; a pick that keeps it at no measured batch has no regret and is no top-1.

    Args:
        found: From :func:`tiers`.
        limits_s: On inter-token latency [s].
    """
    lines = []
    for tier, rows in found.groupby("tier", sort=False):
        wide = rows.pivot_table(index=["configuration", "batch"], columns="output", values=["measured", "predicted"], aggfunc="first").reset_index()
        group = wide["configuration"].str.rsplit(" ", n=3).str[0]
        regrets = [_regret(part, limit_s) for _, part in wide.groupby(group) for limit_s in limits_s]
        counted = np.array([regret for regret in regrets if regret is not None])
        kept = counted[np.isfinite(counted)]
        top_1 = 100.0 * float((counted == 0.0).mean()) if len(counted) else None
        lines.append({"tier": tier, "choices": len(counted), "top_1_pct": top_1, "mean_regret_pct": 100.0 * float(kept.mean()) if len(kept) else None})
    return pd.DataFrame(lines)


def _regret(part: pd.DataFrame, limit_s: float) -> float | None:
    """Return the measured energy of the chosen configuration over that of the best, less 1; None: no choice to be made; NaN: it keeps no limit."""
    best = {}
    for kind in ("measured", "predicted"):
        keeping = part[part[kind, "itl_s"] <= limit_s]
        best[kind] = keeping.groupby("configuration")[[(kind, "energy_per_output_token_j")]].min().iloc[:, 0]
    if len(best["measured"]) < 2:  # noqa: PLR2004 -- one is no choice
        return None
    if best["predicted"].empty:
        return float("nan")
    picked = best["predicted"].idxmin()
    return float(best["measured"].get(picked, float("nan")) / best["measured"].min() - 1.0)
