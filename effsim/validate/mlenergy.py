"""Steady-state serving: predictions beside the ML.ENERGY benchmark (v3, vLLM 0.11.1).

No row is used to choose a coefficient: with ``calibration="none"`` the prediction stands on data sheets and class priors alone.
Rows where the device waited for the host (``host_bound = 1``) are left out. Source: ML.ENERGY leaderboard, https://ml.energy.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.calibrate.serving_fit import Runs
from effsim.cost.deployment import Settings, deploy
from effsim.cost.serving import Load, estimate_serving
from effsim.errors import EffSimError, SpecError
from effsim.specs.model import MoeFfn, Transformer
from effsim.specs.models import model
from effsim.workload.operations import Parallelism

ACCELERATORS: Final = {"H100": "h100_sxm", "B200": "b200_sxm"}
MEASURED: Final = {
    "itl_s": "median_itl_ms",
    "tpot_s": None,
    "power_w": "power_w_all_gpus",
    "energy_per_output_token_j": "energy_per_output_token_j",
}
COLUMNS: Final = (
    "model_id", "gpu", "num_gpus", "tensor_parallel", "expert_parallel", "data_parallel", "avg_batch_size", "prompt_tokens_estimate", "avg_output_tokens",
    "median_itl_ms", "output_tokens_per_s", "power_w_all_gpus", "energy_per_output_token_j", "max_num_batched_tokens", "host_bound",
)  # fmt: skip


def read(path: Path) -> pd.DataFrame:
    """Return the rows of a CSV of the benchmark.

    Raises:
        SpecError: No such file, or columns are missing.
    """
    if not path.is_file():
        raise SpecError(f"{path}: no such file")
    rows = pd.read_csv(path)
    missing = [column for column in COLUMNS if column not in rows]
    if missing:
        raise SpecError(f"{path}: not rows of the ML.ENERGY benchmark: the columns {', '.join(missing)} are missing")
    return rows


def runs(rows: pd.DataFrame, gpu: str, calibration: str = "auto") -> list[Runs]:
    """Return the measured runs on one accelerator that were not bound by the host, by model, task and number of accelerators.

    Raises:
        SpecError: A model that the catalog does not have.
    """
    kept = rows[(rows.host_bound == 0) & (rows.gpu == gpu)]
    found = []
    for (name, task, count), part in kept.groupby(["model_id", "task", "num_gpus"], sort=True):
        one = part.iloc[0]
        split = Parallelism(tensor=int(one.tensor_parallel), expert=int(one.expert_parallel), data=int(one.data_parallel))
        deployment = deploy(name, ACCELERATORS[gpu], split, Settings(calibration=calibration))
        columns = (part.avg_batch_size / part.data_parallel, part.prompt_tokens_estimate, part.avg_output_tokens, part.max_num_batched_tokens)
        load = Load(*(column.to_numpy(dtype=float) for column in columns))
        found.append(Runs(f"{name} {task} {count} x {gpu}", str(name), deployment, load, _measured(part)))
    return found


def _measured(part: pd.DataFrame) -> dict[str, Any]:
    return {
        "itl_s": 1e-3 * part.median_itl_ms.to_numpy(dtype=float),
        "tpot_s": (part.avg_batch_size / part.output_tokens_per_s).to_numpy(dtype=float),
        "power_w": part.power_w_all_gpus.to_numpy(dtype=float),
        "energy_per_output_token_j": part.energy_per_output_token_j.to_numpy(dtype=float),
    }


def predictions(path: Path, calibration: str = "none") -> pd.DataFrame:
    """Return one row per measured configuration that is not host-bound: measured and predicted values, 90 % intervals, errors.

    ``error_*`` is predicted over measured less 1; ``inside_*`` whether the interval holds the measurement. What the model refuses
    has blank predictions and the reason in ``refused``.
    """
    rows = read(path)
    rows = rows[rows.host_bound == 0].reset_index(drop=True)
    return pd.DataFrame([_predicted(row, calibration) for row in rows.to_dict(orient="records")])


def _predicted(row: dict[Any, Any], calibration: str) -> dict[str, Any]:
    spec = model(row["model_id"])
    result: dict[str, Any] = {key: row[key] for key in ("model_id", "task", "gpu", "num_gpus", "avg_batch_size")}
    result["kind"] = model_class(spec)
    try:
        estimate = estimate_serving(
            spec,
            ACCELERATORS[row["gpu"]],
            tensor_parallel=int(row["tensor_parallel"]),
            expert_parallel=int(row["expert_parallel"]),
            data_parallel=int(row["data_parallel"]),
            batch=max(1.0, float(row["avg_batch_size"]) / float(row["data_parallel"])),
            prompt_tokens=float(row["prompt_tokens_estimate"]),
            output_tokens=float(row["avg_output_tokens"]),
            max_num_batched_tokens=float(row["max_num_batched_tokens"]),
            calibration=calibration,
        )
    except EffSimError as error:
        return {**result, "refused": str(error)}
    measured = {name: row[column] * (1e-3 if column.endswith("_ms") else 1.0) for name, column in MEASURED.items() if column}
    measured["tpot_s"] = row["avg_batch_size"] / row["output_tokens_per_s"]
    for name in MEASURED:
        low, high = estimate.interval(name)
        value = getattr(estimate, name)
        result |= {f"measured_{name}": measured[name], f"predicted_{name}": value, f"low_{name}": low, f"high_{name}": high}
        result |= {f"error_{name}": value / measured[name] - 1.0, f"inside_{name}": low <= measured[name] <= high}
    return {**result, "refused": None}


def model_class(spec: Any) -> str:
    """Return ``dense``, ``moe`` or ``hybrid`` (some layers are no attention)."""
    if not isinstance(spec, Transformer):
        return "dense"
    if any(isinstance(block.ffn, MoeFfn) for block in spec.blocks):
        return "moe"
    mixers = {getattr(block.mixer, "kind", None) for block in spec.blocks}
    return "hybrid" if mixers & {"mamba2", "gated_delta_net"} else "dense"


def report(path: Path | str, calibration: str = "none") -> pd.DataFrame:
    """Return errors by accelerator and model class.

    Rows, refusals, and per output the median and mean absolute percentage error, the median signed error, and the share of
    measurements inside the 90 % interval, in percent.
    """
    rows = predictions(Path(path), calibration)
    groups = [((gpu, kind), part) for (gpu, kind), part in rows.groupby(["gpu", "kind"], sort=True)] + [(("all", "all"), rows)]
    return pd.DataFrame([{"gpu": gpu, "kind": kind, **_summary(part)} for (gpu, kind), part in groups])


def _summary(part: pd.DataFrame) -> dict[str, Any]:
    valid = part[part.refused.isna()]
    found: dict[str, Any] = {"rows": len(part), "refused": len(part) - len(valid)}
    for name in MEASURED:
        error = valid[f"error_{name}"].astype(float)
        short = {"itl_s": "itl", "tpot_s": "tpot", "power_w": "power", "energy_per_output_token_j": "j_per_token"}[name]
        found[f"{short}_median_ape_pct"] = 100.0 * float(np.median(np.abs(error))) if len(error) else None
        found[f"{short}_mape_pct"] = 100.0 * float(np.mean(np.abs(error))) if len(error) else None
        found[f"{short}_median_error_pct"] = 100.0 * float(np.median(error)) if len(error) else None
        found[f"{short}_inside_90_pct"] = 100.0 * float(np.mean(valid[f"inside_{name}"].astype(float))) if len(error) else None
    return found
