"""Coefficients fitted to measured kernels: each row of a table is lowered to operations and costed by the cost model itself.

Residuals are logarithms of predicted over measured latency, and of power where it was measured, each kind of kernel with its own noise.
NVML averages power over about a tenth of a second, so a short kernel's power holds that of what ran around it: the noise of power is
large and its fit robust. The rows are of engines from 0.14 to 0.24 launched one by one, not of captured graphs in another version: spreads
of the posterior get :data:`VERSION_LOG_SD` on top, those of power :data:`POWER_LOG_SD`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.calibrate.around_prior import Vector
from effsim.calibrate.kernel_tables import DTYPES, KernelTable, host_bound_s
from effsim.calibrate.least_squares import Data, Posterior, posterior
from effsim.cost.collectives import Fabric
from effsim.cost.device import MIN_CLOCK, Coefficients, Prior, build_device, dtypes
from effsim.cost.evaluate import CostTable, cost_table, operation_costs
from effsim.cost.kernels import throttle
from effsim.errors import CalibrationError
from effsim.specs import loading
from effsim.specs.accelerator import Accelerator
from effsim.workload.features import ONE
from effsim.workload.operations import Operation, Parallelism, build_table
from effsim.workload.precision import Format, format_on

ROWS: Final = 240
"""Of each table, drawn evenly over the logarithm of latency."""
EFFECTIVE_ROWS: Final = 40.0
"""Independent rows that a table counts for."""
NOISE: Final = {"power": 0.25}
DEFAULT_NOISE: Final = 0.15
VERSION_LOG_SD: Final = 0.12
POWER_LOG_SD: Final = 0.3
SLOWEST_S: Final = 0.02  # kernels longer than this are of no iteration of an engine
STEADY_S: Final = 2e-4  # power of shorter kernels is mostly that of what runs between them
LAUNCH_S: Final = 3e-5  # products whose least latency is above this were waited for, not measured
COEFFICIENTS: Final = (
    "gemm_efficiency", "memory_efficiency", "gemm_kernel_s", "quantized_gemm_factor", "quantized_gemm_kernel_s",
    "grouped_gemm_efficiency", "grouped_memory_efficiency", "grouped_gemm_kernel_s", "quantized_grouped_factor",
    "attention_efficiency", "attention_memory_efficiency", "attention_kernel_s", "attention_item_s", "overlap_softness",
    "link_efficiency", "collective_latency_factor", "static_power", "busy_power", "grouped_busy_power", "quantized_busy_power", "attention_busy_power",
    "compute_power", "memory_power",
)  # fmt: skip
MOE_EXTRA_KERNELS: Final = 4.0  # alignment and sorting of pairs, sum over experts, as counted in the lowering of mixtures


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """Rows of one kind, lowered: operations of all rows in one table, and which row each belongs to."""

    kind: str
    costs: Callable[[Coefficients], CostTable]
    owner: Any
    latency_s: Vector
    power_w: Vector | None
    limit_w: float


def lowered(table: KernelTable, accelerator: Accelerator, fabric: Fabric) -> list[Measured]:
    """Return the rows of a table that the accelerator's data sheet covers, as measured kernels.

    Args:
        table: Of one kind.
        accelerator: That it was measured on.
        fabric: That joins the ranks of an all-reduce.
    """
    rows = _chosen(table, accelerator)
    if table.kind != "custom_allreduce":
        return [_measured(table.kind, rows, (accelerator, fabric, Parallelism()))] if len(rows) else []
    return [
        _measured(table.kind, part, (accelerator, fabric, Parallelism(tensor=int(float(str(n))))))
        for n, part in rows.groupby("num_gpus")
        if 1 < int(float(str(n))) <= fabric.domain
    ]


def _chosen(table: KernelTable, accelerator: Accelerator) -> pd.DataFrame:
    rows = table.rows[table.rows.latency_s < SLOWEST_S]
    if "dtype" in rows:
        own = dtypes(accelerator)
        wanted = {"gemm": {"bfloat16", "fp8"}, "moe": {"bfloat16", "fp8_block"}}.get(table.kind, {"bfloat16"})
        rows = rows[rows.dtype.isin(wanted) & rows.dtype.map(lambda name: DTYPES.get(name) in own)]
    if table.kind == "gemm":  # shapes of language models on one rank; a launch that lasts longer than the kernel says nothing of it
        rows = rows[(rows.n >= 512) & (rows.k >= 512) & (rows.m.isin([1, 8, 16, 32, 64, 96, 128, 256, 512, 1024, 2048, 4096, 8192]))]  # noqa: PLR2004
        launch_s = rows.dtype.map({name: host_bound_s(part) for name, part in rows.groupby("dtype")}).astype(float)
        rows = rows[(launch_s < LAUNCH_S) | (rows.latency_s > 2.0 * launch_s)]
    if table.kind == "moe":
        rows = rows[(rows.moe_tp_size == 1) & (rows.num_tokens <= 8192)]  # noqa: PLR2004
    if table.kind == "custom_allreduce":
        return rows
    order = np.argsort(rows.latency_s.to_numpy())
    places: Any = np.unique(np.linspace(0, len(order) - 1, min(ROWS, len(order))).astype(int)) if len(order) else []
    drawn: pd.DataFrame = rows.iloc[order[places]]
    return drawn


def _measured(kind: str, rows: pd.DataFrame, where: tuple[Accelerator, Fabric, Parallelism]) -> Measured:
    accelerator, fabric, parallelism = where
    own = dtypes(accelerator)
    operations, owner = [], []
    records: list[dict[Any, Any]] = rows.to_dict(orient="records")
    for place, row in enumerate(records):
        parts = _LOWERED[kind](row, format_on(DTYPES[str(row.get("dtype", "bfloat16"))], own))
        operations += parts
        owner += [place] * len(parts)
    marked = [dataclasses.replace(op, name=str(place)) for place, op in zip(owner, operations, strict=True)]
    table = build_table(marked, parallelism)
    limited = "power_w" in rows
    return Measured(
        kind=kind,
        costs=lambda c: cost_table(table, build_device(accelerator, c), fabric),
        owner=np.array([int(op.name) for op in table.operations]),
        latency_s=rows.latency_s.to_numpy(),
        power_w=rows.power_w.to_numpy() if limited else None,
        limit_w=float(rows.limit_w.median()) if limited else accelerator.tdp.value,
    )


def _gemm(row: Mapping[str, Any], fmt: Format, kind: Any = "gemm", groups: float = 0.0) -> Operation:
    m, n, k = row["m"], row["n"], row["k"]
    weights = n * k * fmt.weight_bytes * (groups or 1.0)
    return Operation(
        kind, kind, 1.0, {ONE: 2.0 * m * n * k}, {ONE: weights + m * k * fmt.activation_bytes}, {ONE: 2.0 * m * n}, fmt.compute, rows={ONE: m},
        cols=int(n), inner=int(k), groups={ONE: groups} if groups else {}, weight_elements=n * k, dequantize_flop=fmt.dequantize_flop,
    )  # fmt: skip


def _moe(row: Mapping[str, Any], fmt: Format) -> list[Operation]:
    """Evenly loaded experts: each token goes to ``topk`` others in turn, so few tokens touch ``tokens x topk`` of them."""
    share = row["moe_ep_size"]
    pairs = max(row["num_tokens"] * row["topk"] / share, 1.0)
    touched = max(min(pairs, row["num_experts"] / share), 1.0)
    h, i = row["hidden_size"], row["inter_size"]
    act = Operation("activation", "elementwise", 1.0, {ONE: 6.0 * pairs * i}, {ONE: 4.0 * pairs * i}, {ONE: 2.0 * pairs * i}, kernels=1.0 + MOE_EXTRA_KERNELS)
    shapes = ({"m": pairs, "n": 2 * i, "k": h}, {"m": pairs, "n": h, "k": i})
    return [*(_gemm(shape, fmt, "grouped_gemm", touched) for shape in shapes), act]


def _decode(row: Mapping[str, Any], fmt: Format) -> list[Operation]:
    seqs, kv, d, heads = row["batch_size"], row["num_key_value_heads"], row["head_dim"], row["num_heads"]
    keys = seqs * (row["step"] + 1.0)
    moved = {ONE: 4.0 * keys * kv * d + 2.0 * seqs * heads * d}
    return [
        Operation("decode", "decode_attention", 1.0, {ONE: 4.0 * keys * heads * d}, moved, {ONE: 2.0 * seqs * heads * d}, fmt.compute, rows={ONE: seqs * kv})
    ]


def _prefill(row: Mapping[str, Any], fmt: Format) -> list[Operation]:
    seqs, tokens, d, heads = row["batch_size"], row["isl"], row["head_dim"], row["num_heads"]
    pairs = seqs * tokens * (tokens + 1.0) / 2.0
    moved = {ONE: seqs * tokens * d * (2.0 * heads + 4.0 * row["num_key_value_heads"])}
    return [Operation("prefill", "prefill_attention", 1.0, {ONE: 4.0 * pairs * heads * d}, moved, {ONE: 2.0 * seqs * tokens * d * heads}, fmt.compute)]


def _reduce(row: Mapping[str, Any], fmt: Format) -> list[Operation]:
    """Message sizes are in elements of 16 bits."""
    payload = {ONE: row["message_size"] * fmt.activation_bytes}
    return [Operation("reduce", "collective", 1.0, {}, {}, {}, collective="all_reduce", axis="tensor", payload=payload)]


_LOWERED: Final[dict[str, Callable[[Mapping[str, Any], Format], list[Operation]]]] = {
    "gemm": lambda row, fmt: [_gemm(row, fmt)],
    "moe": _moe,
    "generation_attention": _decode,
    "context_attention": _prefill,
    "custom_allreduce": _reduce,
}


def predicted(measured: Measured, coefficients: Coefficients) -> tuple[Vector, Vector]:
    """Return latency [s] and power [W] of measured kernels."""
    costs = measured.costs(coefficients)
    each = operation_costs(costs, np.ones((len(costs.table.features), 1)))

    def summed(values: Any) -> Vector:
        spread = np.asarray(values, dtype=float).ravel() + np.zeros(len(measured.owner))
        return np.asarray(np.bincount(measured.owner, weights=spread, minlength=len(measured.latency_s)), dtype=float)

    counted = costs.count[:, None]
    latency_s, core_s = summed(counted * each.time_s), summed(counted * each.core_s)
    core_j = summed(costs.core_j_per_operation.sum(axis=1) + costs.busy_w * each.moving_s[:, 0])
    memory_j = summed(costs.memory_w * each.memory_s[:, 0])
    watts = (costs.device.idle_w, costs.device.static_w, measured.limit_w)
    time_s, static_j, core_j = throttle((latency_s, core_s, core_j, memory_j), watts, coefficients.voltage_floor, MIN_CLOCK)
    return time_s, (static_j + core_j + memory_j) / time_s


def fit(measured: Sequence[Measured], prior: Prior) -> tuple[Posterior, dict[str, float]]:
    """Return the posterior of the kernels' coefficients, and the mean absolute error by kind of kernel [%].

    Args:
        measured: From :func:`lowered`.
        prior: Medians and spreads.

    Raises:
        CalibrationError: Nothing measured.
    """
    if not measured:
        raise CalibrationError("nothing to fit: no kernels that the accelerator's data sheet covers")
    kinds = list(dict.fromkeys(one.kind for one in measured))
    powered = [kind for kind in kinds if any(one.kind == kind and one.power_w is not None and np.any(one.latency_s > STEADY_S) for one in measured)]
    quantities = [*kinds, *(f"power of {kind}" for kind in powered)]
    width = max(sum(len(one.latency_s) for one in measured if one.kind == kind) for kind in kinds)

    def log_errors(coefficients: Coefficients) -> Vector:
        errors = np.full((len(quantities), width), np.nan)
        filled = dict.fromkeys(quantities, 0)
        for one in measured:
            latency_s, power_w = predicted(one, coefficients)
            pairs = [(one.kind, latency_s / one.latency_s)]
            if one.power_w is not None and one.kind in powered:
                pairs.append((f"power of {one.kind}", np.where(one.latency_s > STEADY_S, power_w / one.power_w, np.nan)))
            for name, ratio in pairs:
                start = filled[name]
                errors[quantities.index(name), start : start + len(ratio)] = np.log(ratio)
                filled[name] += len(ratio)
        return errors

    noise = tuple(NOISE["power"] if name.startswith("power") else DEFAULT_NOISE for name in quantities)
    weights = np.full(width, min(1.0, EFFECTIVE_ROWS / width))
    found = posterior(Data(log_errors, weights, noise), prior, [name for name in COEFFICIENTS if prior.log_sd[name] > 0.0])
    errors = log_errors(found.all_coefficients)
    return found, {name: 100.0 * float(np.nanmean(np.abs(np.expm1(row)))) for name, row in zip(quantities, errors, strict=True)}


def calibration_document(
    found: Posterior, errors_pct: Mapping[str, float], name: str, accelerator: Accelerator, tables: Mapping[str, KernelTable]
) -> dict[str, Any]:
    """Return a fit as a :class:`~effsim.specs.calibration.Calibration` document; what stayed at its prior is left out and named.

    Args:
        found: The fit.
        errors_pct: Mean absolute error by kind of kernel.
        name: Of the calibration and its file.
        accelerator: That was measured.
        tables: For versions and devices.
    """
    units = loading.calibration(f"prior_{accelerator.device_class}").coefficients
    told = [i for i, key in enumerate(found.coefficients) if found.log_sd[key] < 0.9 * found.prior.log_sd[key]]
    kept = [found.coefficients[i] for i in told]
    silent = [key for key in found.coefficients if key not in kept]
    said = ", ".join(f"{kind} {error:.0f} %" for kind, error in errors_pct.items())
    versions = "; ".join(f"{kind} {table.version} on {table.device}" for kind, table in tables.items())
    spread = {key: math.hypot(found.log_sd[key], POWER_LOG_SD if key.endswith("_power") else VERSION_LOG_SD) for key in kept}
    return {
        "name": name,
        "kind": "posterior",
        "accelerator": accelerator.name,
        "engine": "vllm",
        "note": f"Kernels alone; mean absolute error: {said}. At their prior: {', '.join(silent) or 'none'}.",
        "sources": {
            "tables": {
                "title": f"NVIDIA AIConfigurator, kernels measured under vLLM ({versions})",
                "url": "https://github.com/ai-dynamo/aiconfigurator",
                "date": "2026-07",
            }
        },
        "coefficients": {
            key: {
                "value": float(f"{found.median[key]:.4g}"),
                "unit": units[key].unit,
                "log_sd": float(f"{spread[key]:.4g}"),
                "kind": "fitted",
                "source": "tables",
            }
            for key in kept
        },
        "correlation": [
            [
                1.0 if i == j else round(found.correlation[i][j] * found.log_sd[a] * found.log_sd[b] / (spread[a] * spread[b]), 3)
                for j, b in zip(told, kept, strict=True)
            ]
            for i, a in zip(told, kept, strict=True)
        ],
    }
