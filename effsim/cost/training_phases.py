"""A step taken apart: kernels forward, backward and again, what is waited for on each axis of communication, and the rest."""

from typing import Any, Final, NamedTuple

import numpy as np

from effsim.cost.device import Coefficients
from effsim.cost.evaluate import CostTable, evaluate, operation_costs
from effsim.cost.recipe import Batch
from effsim.cost.routing import host_wait_s
from effsim.cost.training_step import Micro, Step, costs_of, device_of, micro_iteration
from effsim.workload.features import feature_matrix
from effsim.workload.operations import Array

KERNELS: Final = ("forward", "backward", "recompute")
AXES: Final = {"tensor": "tensor parallel", "context": "context parallel", "expert": "expert parallel"}
PHASE_WORDS: Final = {
    "forward": "forward",
    "backward": "backward",
    "recompute": "recompute",
    **{axis: f"exposed, {words}" for axis, words in AXES.items()},
    "pipeline": "exposed, pipeline sends",
    "data": "exposed, data parallel",
    "bubble": "pipeline bubble",
    "straggling": "waiting for the slowest rank",
    "offload": "exposed, offloading",
    "host": "waiting for the host",
    "optimizer": "optimizer",
    "loading": "waiting for data",
}
"""Phase of a step -> words, in the order of a table."""


class Taken(NamedTuple):
    """Time of each phase on one device [s], and energy of all accelerators in it [J]; arrays of shape (batch,)."""

    time_s: dict[str, Any]
    energy_j: dict[str, Any]


def step_phases(step: Step, coefficients: Coefficients, batch: Batch, micro: Micro, run: dict[str, Any]) -> Taken:
    """Return the phases of a step; times sum to the step time, energies to that of the accelerators.

    Collectives of layers are exposed as far as they are not hidden behind products, in proportion to their times. Where the power
    limit or a heavier last stage prolongs the work, each of its phases is prolonged by the same factor.

    Args:
        step: The configuration.
        coefficients: Of the cost model.
        batch: Batches.
        micro: Costs of a micro-batch under these coefficients.
        run: What :func:`~effsim.cost.training_step.phases` and the loading of data take, per device.
    """
    times, weights_j = _work(step, coefficients, batch, micro)
    beside = {"pipeline": run["send_s"], "host": run["host_s"], "straggling": run["straggling_s"], "offload": run["moved_s"]}
    left_s = run["compute_s"] - sum(beside.values())
    scale = left_s / sum(times.values())
    time_s = {name: scale * each for name, each in times.items()}
    for name, each in beside.items():
        time_s[name] = time_s.get(name, 0.0) + each
    share = batch.global_batch_size / (batch.micro_batch_size * step.deployment.parallelism.data) / step.deployment.parallelism.pipeline
    static_w = device_of(step, coefficients).static_w
    weights = {name: static_w * each + share * weights_j.get(name, 0.0) for name, each in time_s.items()}
    whole = sum(weights.values())
    energy_j = {name: run["compute_j"] * weight / whole for name, weight in weights.items()}
    for name, source in (("data", "exchange"), ("bubble", "bubble"), ("optimizer", "update"), ("loading", "loading")):
        time_s[name], energy_j[name] = run[f"{source}_s"], run[f"{source}_j"]
    accelerators = step.deployment.parallelism.accelerators
    none = np.zeros_like(run["compute_s"])
    return Taken({name: time_s[name] + none for name in PHASE_WORDS}, {name: accelerators * energy_j[name] + none for name in PHASE_WORDS})


def _work(step: Step, coefficients: Coefficients, batch: Batch, micro: Micro) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return times [s] and dynamic energies [J] of a micro-batch over all stages, by phase."""
    none = np.zeros_like(np.asarray(batch.micro_batch_size, dtype=float))
    times: dict[str, Any] = dict.fromkeys((*KERNELS, *AXES, "host"), none)
    joules = dict(times)
    tables = zip(KERNELS, (step.forward, step.backward, step.repeated), (micro.forward, micro.backward, micro.repeated), strict=True)
    for name, table, costs in tables:
        if table is None or costs is None:
            continue
        built, features = costs_of(step, table, coefficients), feature_matrix(table.features, micro_iteration(step, batch))
        bare = evaluate(built, features)
        kernels_s = bare.time_s - bare.collective_s
        beyond_s = np.maximum(costs.time_s - kernels_s, 0.0)
        host_s = np.minimum(_host_wait_s(step, built, features), beyond_s)
        exposed_s = np.minimum(beyond_s - host_s, bare.collective_s)
        times[name] = costs.time_s - host_s - exposed_s
        joules[name] = costs.core_j + costs.memory_j
        times["host"] = times["host"] + host_s
        for axis, axis_share in _shares(built, features, bare.collective_s).items():
            times[axis] = times[axis] + axis_share * exposed_s
            joules[axis] = joules[axis] + axis_share * costs.link_j
    return times, joules


def _host_wait_s(step: Step, built: CostTable, features: Array) -> Any:
    recipe = step.recipe
    return 0.0 if recipe.capacity_factor is not None else host_wait_s(built, features, step.deployment.engine, recipe.routing)


def _shares(built: CostTable, features: Array, collective_s: Any) -> dict[str, Any]:
    """Return the share of each axis in the time of the collectives; what is on no axis of its own counts as tensor parallel."""
    first = len(built.count) - built.table.num_collectives
    each_s = built.count[first:, None] * operation_costs(built, features).time_s[first:]
    axes = [op.axis if op.axis in AXES else "tensor" for op in built.table.operations[first:]]
    whole_s = np.where(collective_s > 0.0, collective_s, 1.0)
    return {axis: sum((each_s[row] for row, one in enumerate(axes) if one == axis), np.zeros_like(collective_s)) / whole_s for axis in AXES}
