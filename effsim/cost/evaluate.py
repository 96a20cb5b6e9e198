"""From a table of operations and a device to the time and energy of iterations: one pass over arrays.

An operation's cost is linear in the iteration's features up to the roofline, so a table becomes a few matrices once per
configuration; after that, a hundred thousand iterations are some matrix products and elementwise steps.
"""

import dataclasses
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from effsim.cost.collectives import Fabric, LinearCost, collective_cost
from effsim.cost.device import MIN_CLOCK, Device, peak
from effsim.cost.kernels import overlap, throttle, tile_quantization
from effsim.workload.operations import Array, OpTable

BLOCK_ITERATIONS = 2048  # so that an (operation, iteration) block stays in the cache


@dataclasses.dataclass(frozen=True, eq=False)
class CostTable:
    """Per-operation costs on one device, shape (operation,) or (operation, feature); see :func:`cost_table`."""

    table: OpTable
    device: Device
    count: Array
    compute_s: Array
    memory_s: Array
    fixed_s: Array
    rows: Array
    groups: Array
    cols: Array
    inner: Array
    dequantize_s: Array
    payload: Array
    alpha_s: Array
    beta_s_per_byte: Array
    trigger: Array
    core_j_per_operation: Array
    memory_w: Array
    link_j_per_collective: Array

    @cached_property
    def core_j(self) -> Array:
        """Core energy of an iteration per unit of each feature [J], shape (feature,)."""
        joules: Array = self.core_j_per_operation.sum(axis=0)
        return joules

    @cached_property
    def link_j(self) -> Array:
        """Link energy likewise."""
        joules: Array = self.link_j_per_collective.sum(axis=0)
        return joules


class Costs(NamedTuple):
    """Costs of iterations on one tensor rank over all stages, at full clock, shape (iteration,).

    ``core_s`` is the part of ``time_s`` that stretches when the clock drops; energies are dynamic, without static power.
    """

    time_s: Array
    core_s: Array
    collective_s: Array
    core_j: Array
    memory_j: Array
    link_j: Array


class OperationCosts(NamedTuple):
    """The same per operation, for one occurrence, shape (operation, iteration)."""

    time_s: Array
    core_s: Array
    compute_s: Array
    memory_s: Array


def _efficiencies(device: Device) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Return compute efficiency, memory efficiency and fixed time [s] by kind of operation."""
    c = device.coefficients
    compute = {"gemm": c.gemm_efficiency, "grouped_gemm": c.grouped_gemm_efficiency, "prefill_attention": c.attention_efficiency}
    compute |= {"decode_attention": c.decode_attention_efficiency, "scan": c.scan_efficiency}
    memory = {"grouped_gemm": c.grouped_memory_efficiency, "decode_attention": c.attention_memory_efficiency}
    fixed = {"gemm": c.gemm_kernel_s, "grouped_gemm": c.grouped_gemm_kernel_s}
    fixed |= dict.fromkeys(("prefill_attention", "decode_attention", "scan"), c.attention_kernel_s)
    return compute, memory, fixed


def cost_table(table: OpTable, device: Device, fabric: Fabric, launch_s: float = 0.0) -> CostTable:
    """Return the costs of a table's operations on a device.

    Energy coefficients follow from shares of the TDP: ``e_flop(dtype) = compute_power · TDP / peak(dtype)`` and likewise per byte
    of memory and of link.

    Args:
        table: Of operations.
        device: That runs them.
        fabric: That joins its ranks.
        launch_s: Added by the engine to each kernel [s].

    Raises:
        SpecError: A dtype that the device lacks, or ranks beyond the network.
    """
    c, ops = device.coefficients, table.operations
    compute, memory, fixed = _efficiencies(device)
    rate = np.array([peak(device, op.dtype) for op in ops])
    efficiency = np.array([compute.get(op.kind, c.vector_efficiency) for op in ops])
    streaming = np.array([memory.get(op.kind, c.memory_efficiency) for op in ops]) * device.bandwidth_bytes_per_s
    moved = table.read + table.write
    imbalance = np.array([c.expert_imbalance if op.kind == "grouped_gemm" else 1.0 for op in ops])
    wires = _wires(table, fabric)
    link = device.link_bytes_per_s or 1.0
    fixed_s = np.array([fixed.get(op.kind, c.elementwise_kernel_s) + launch_s for op in ops]) * table.column("kernels")
    return CostTable(
        table=table,
        device=device,
        count=table.count,
        compute_s=table.flop * (imbalance / (rate * efficiency))[:, None],
        memory_s=moved / streaming[:, None],
        fixed_s=fixed_s[:, None],
        rows=table.rows[: table.num_gemms] * imbalance[: table.num_gemms, None],
        groups=table.groups[: table.num_gemms] + _single(table),
        cols=table.column("cols")[: table.num_gemms, None],
        inner=table.column("inner")[: table.num_gemms, None],
        dequantize_s=_dequantize_s(table, device),
        payload=table.payload[len(ops) - table.num_collectives :],
        alpha_s=np.array([w.alpha_s for w in wires]).reshape(-1, 2).T[:, :, None] * c.collective_latency_factor,
        beta_s_per_byte=np.array([w.beta_s_per_byte for w in wires]).reshape(-1, 2).T[:, :, None] / c.link_efficiency,
        trigger=(table.flop + table.rows + table.payload),
        core_j_per_operation=table.flop * (table.count * c.compute_power * device.tdp_w / rate)[:, None],
        memory_w=table.count * streaming * (c.memory_power * device.tdp_w / device.bandwidth_bytes_per_s),
        link_j_per_collective=_link_j(table, wires, c.link_power * device.tdp_w / link),
    )


def _wires(table: OpTable, fabric: Fabric) -> list[LinearCost]:
    found = []
    for op in table.operations[len(table.operations) - table.num_collectives :]:
        if op.collective is None or op.axis is None:
            raise ValueError(f"{op.name}: a collective needs a pattern and an axis")
        found.append(collective_cost(op.collective, op.axis, table.parallelism, fabric, op.copies))
    return found


def _single(table: OpTable) -> Array:
    """Products that are no group count as a group of one: a 1 in the column of the constant feature."""
    alone = (table.groups[: table.num_gemms].sum(axis=1) == 0.0).astype(float)
    constant = np.array([float(feature.kind == "one") for feature in table.features])
    ones: Array = alone[:, None] * constant[None, :]
    return ones


def _dequantize_s(table: OpTable, device: Device) -> Array:
    """Return the vector time to convert the weights that one member of a group reads, per 128 rows of it [s]."""
    products = table.operations[: table.num_gemms]
    work = np.array([op.weight_elements * op.dequantize_flop for op in products])
    seconds: Array = (work / (peak(device, "fp32") * device.coefficients.vector_efficiency))[:, None]
    return seconds


def _link_j(table: OpTable, wires: list[LinearCost], joules_per_byte: float) -> Array:
    collectives = slice(len(table.operations) - table.num_collectives, None)
    wire = np.array([w.wire_per_byte for w in wires])
    joules: Array = (table.count[collectives] * wire * joules_per_byte)[:, None] * table.payload[collectives]
    return joules


def operation_costs(costs: CostTable, features: Array) -> OperationCosts:
    """Return the cost of one occurrence of each operation in each iteration.

    Args:
        costs: The configuration.
        features: Shape (feature, iteration).
    """
    products = costs.table.num_gemms
    active = costs.trigger @ features > 0.0
    compute_s = costs.compute_s @ features
    memory_s = (costs.memory_s @ features) * active
    if products:
        rows, groups = costs.rows @ features, costs.groups @ features
        running = active[:products]
        rows, groups = np.where(running, rows, 1.0), np.where(running & (groups > 0.0), groups, 1.0)
        rows = np.maximum(rows, groups)
        compute_s[:products] *= tile_quantization(rows, groups, costs.cols, costs.inner, costs.device.compute_units)
        if costs.dequantize_s.any():
            compute_s[:products] += costs.dequantize_s * groups * np.ceil(rows / groups / 128.0) * running
    time_s, core_s = overlap(compute_s, memory_s, costs.device.coefficients.overlap_softness)
    if costs.table.num_collectives:
        first = len(time_s) - costs.table.num_collectives
        lines = costs.alpha_s + costs.beta_s_per_byte * (costs.payload @ features)
        time_s[first:] = lines.min(axis=0) * active[first:]
    return OperationCosts(time_s + costs.fixed_s * active, core_s, compute_s, memory_s)


def evaluate(costs: CostTable, features: Array) -> Costs:
    """Return the cost of iterations.

    Args:
        costs: The configuration.
        features: Shape (feature, iteration), from :func:`~effsim.workload.features.feature_matrix`.
    """
    total = features.shape[1]
    if total <= BLOCK_ITERATIONS:
        return _evaluate_block(costs, features)
    blocks = [_evaluate_block(costs, features[:, i : i + BLOCK_ITERATIONS]) for i in range(0, total, BLOCK_ITERATIONS)]
    return Costs(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _evaluate_block(costs: CostTable, features: Array) -> Costs:
    each = operation_costs(costs, features)
    first = len(costs.count) - costs.table.num_collectives
    return Costs(
        time_s=costs.count @ each.time_s,
        core_s=costs.count @ each.core_s,
        collective_s=costs.count[first:] @ each.time_s[first:],
        core_j=costs.core_j @ features,
        memory_j=costs.memory_w @ each.memory_s,
        link_j=costs.link_j @ features,
    )


class Powered(NamedTuple):
    """Time and energy of iterations with static power and the power limit, shape (iteration,), per accelerator."""

    time_s: Array
    static_j: Array
    core_j: Array
    memory_j: Array
    link_j: Array

    @property
    def energy_j(self) -> Any:
        """All parts together [J]."""
        return self.static_j + self.core_j + self.memory_j + self.link_j


def powered(costs: Costs, device: Device, waiting_s: Any = 0.0, share: Any = 1.0) -> Powered:
    """Return iterations under the device's power limit.

    Args:
        costs: Of the kernels, over all pipeline stages.
        device: With its limit.
        waiting_s: Time per iteration in which the device waits for the host, at static power.
        share: Of the dynamic energy of one pass over all stages that falls on one device in that time.
    """
    parts = (costs.time_s + waiting_s, costs.core_s, costs.core_j * share, (costs.memory_j + costs.link_j) * share)
    watts = (device.idle_w, device.static_w, device.limit_w)
    time_s, static_j, core_j = throttle(parts, watts, device.coefficients.voltage_floor, MIN_CLOCK, device.clock)
    return Powered(time_s, static_j, core_j, costs.memory_j * share, costs.link_j * share)
