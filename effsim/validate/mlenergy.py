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
from effsim.cost.serving import ServingEstimate, estimate_serving
from effsim.cost.steady_state import Load
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
    parts = [_predicted(part, calibration) for _, part in rows.groupby(list(_CONFIGURATION), sort=False)]
    return pd.concat(parts).sort_index() if parts else pd.DataFrame()


_CONFIGURATION: Final = ("model_id", "gpu", "num_gpus", "tensor_parallel", "expert_parallel", "data_parallel")
_KEPT: Final = ("model_id", "task", "gpu", "num_gpus", "avg_batch_size")


def _predicted(part: pd.DataFrame, calibration: str) -> pd.DataFrame:
    """Return the rows of one configuration, from one array estimate; what does not fit is asked for again alone, for its reason."""
    one = part.iloc[0]
    found = part[[name for name in _KEPT if name in part]].assign(kind=model_class(model(one.model_id)), refused=None).astype({"refused": object})
    try:
        estimate = _estimate(part, calibration)
    except EffSimError as error:
        return found.assign(refused=str(error))
    for index in part.index[~np.asarray(estimate.feasible)]:
        found.loc[index, "refused"] = _reason(part.loc[[index]], calibration)
    for name, measured in _measured(part).items():
        low, high = estimate.interval(name)
        value = getattr(estimate, name)
        found = found.assign(**{f"measured_{name}": measured, f"predicted_{name}": value, f"low_{name}": low, f"high_{name}": high})
        found = found.assign(**{f"error_{name}": value / measured - 1.0, f"inside_{name}": (low <= measured) & (measured <= high)})
    return found


def _estimate(part: pd.DataFrame, calibration: str, *, alone: bool = False) -> ServingEstimate:
    """Return the estimate of rows of one configuration, as arrays, or of the first of them alone."""
    one = part.iloc[0]
    columns = (part.avg_batch_size / part.data_parallel, part.prompt_tokens_estimate, part.avg_output_tokens, part.max_num_batched_tokens)
    batch, prompt, output, budget = (float(column.iloc[0]) if alone else column.to_numpy(dtype=float) for column in columns)
    return estimate_serving(
        one.model_id,
        ACCELERATORS[one.gpu],
        tensor_parallel=int(one.tensor_parallel),
        expert_parallel=int(one.expert_parallel),
        data_parallel=int(one.data_parallel),
        batch=np.maximum(1.0, batch),
        prompt_tokens=prompt,
        output_tokens=output,
        max_num_batched_tokens=budget,
        calibration=calibration,
    )


def _reason(row: pd.DataFrame, calibration: str) -> str:
    """Return why a row is refused."""
    try:
        _estimate(row, calibration, alone=True)
    except EffSimError as error:
        return str(error)
    return "does not fit"


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
