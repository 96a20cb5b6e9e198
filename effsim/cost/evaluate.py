"""From a table of operations and a device to the time and energy of iterations: one pass over arrays.

An operation's cost is linear in the iteration's features up to the roofline, so a table becomes a few matrices once per
configuration; after that, a hundred thousand iterations are some matrix products and elementwise steps.
"""

import dataclasses
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from effsim.cost.collectives import Fabric, LinearCost, collective_cost
from effsim.cost.device import MIN_CLOCK, Coefficients, Device, peak
from effsim.cost.kernels import MATRIX_VECTOR_ROWS, SMALL_ROWS, overlap, sorting_share, throttle, tile_quantization
from effsim.workload.features import Feature
from effsim.workload.operations import Array, Operation, OpTable

EIGHT_BIT = frozenset({"fp8", "int8"})
NARROW = frozenset({"fp8", "int8", "fp4"})  # dtypes of products whose weights have fewer than 16 bits
BLOCK_ITERATIONS = 2048  # so that an (operation, iteration) block stays in the cache


class Habits(NamedTuple):
    """What an engine does beside running kernels.

    Args:
        launch_s: Added to each kernel [s].
        expert_tile_rows: To which it pads an expert's tokens where its kernel is not tuned: experts spread over ranks, and more tokens
            than a rank has experts.
        sorts_logits: For top-k and top-p sampling.
    """

    launch_s: float = 0.0
    expert_tile_rows: float = SMALL_ROWS
    sorts_logits: bool = False


PLAIN = Habits()


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
    vector_s: Array
    payload: Array
    alpha_s: Array
    beta_s_per_byte: Array
    trigger: Array
    core_j_per_operation: Array
    memory_w: Array
    link_j_per_collective: Array
    sorting: Array
    rows_sampled: Array
    tokens_seen: Array
    untuned_above: Array
    expert_tile_rows: float
    busy_w: Array
    eager_s: float
    chunked_s: float

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
    """The same per operation, for one occurrence, shape (operation, iteration); ``moving_s`` is ``time_s`` without its fixed part."""

    time_s: Array
    core_s: Array
    compute_s: Array
    memory_s: Array
    moving_s: Array


def _efficiencies(device: Device) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Return compute efficiency, memory efficiency and fixed time [s] by kind of operation."""
    c = device.coefficients
    compute = {"gemm": c.gemm_efficiency, "grouped_gemm": c.grouped_gemm_efficiency, "prefill_attention": c.attention_efficiency}
    compute |= {"decode_attention": c.decode_attention_efficiency, "scan": c.scan_efficiency}
    memory = {"grouped_gemm": c.grouped_memory_efficiency, "decode_attention": c.attention_memory_efficiency}
    fixed = {"gemm": c.gemm_kernel_s, "grouped_gemm": c.grouped_gemm_kernel_s}
    fixed |= dict.fromkeys(("prefill_attention", "decode_attention", "scan"), c.attention_kernel_s)
    return compute, memory, fixed


def cost_table(table: OpTable, device: Device, fabric: Fabric, habits: Habits = PLAIN) -> CostTable:
    """Return the costs of a table's operations on a device.

    Energy coefficients follow from shares of the TDP: ``e_flop(dtype) = compute_power · TDP / peak(dtype)`` and likewise per byte
    of memory and of link.

    Args:
        table: Of operations.
        device: That runs them.
        fabric: That joins its ranks.
        habits: Of the engine.

    Raises:
        SpecError: A dtype that the device lacks, or ranks beyond the network.
    """
    c, ops = device.coefficients, table.operations
    compute, memory, fixed = _efficiencies(device)
    if habits.sorts_logits:
        memory["sampling"] = c.sampling_efficiency
    rate = np.array([peak(device, op.dtype) for op in ops])
    narrow = np.array([_narrow_factor(op, c) for op in ops])
    efficiency = np.array([compute.get(op.kind, c.vector_efficiency) for op in ops]) * narrow
    streaming = np.array([memory.get(op.kind, c.memory_efficiency) for op in ops]) * narrow * device.bandwidth_bytes_per_s
    moved = table.read + table.write
    imbalance = np.array([c.expert_imbalance if op.kind == "grouped_gemm" else 1.0 for op in ops])
    wires = _wires(table, fabric)
    link = device.link_bytes_per_s or 1.0
    fixed_s = np.array([_fixed_s(op, c, fixed) + habits.launch_s for op in ops]) * table.column("kernels")
    return CostTable(
        table=table,
        device=device,
        count=table.count,
        compute_s=table.flop * (imbalance / (rate * efficiency))[:, None] + _items_s(table, c),
        memory_s=moved / streaming[:, None],
        fixed_s=fixed_s[:, None],
        rows=table.rows[: table.num_gemms] * imbalance[: table.num_gemms, None],
        groups=table.groups[: table.num_gemms] + _single(table),
        cols=table.column("cols")[: table.num_gemms, None],
        inner=table.column("inner")[: table.num_gemms, None],
        dequantize_s=_dequantize_s(table, device),
        vector_s=_vector_s(table, device, imbalance),
        payload=table.payload[len(ops) - table.num_collectives :],
        alpha_s=np.array([w.alpha_s for w in wires]).reshape(-1, 2).T[:, :, None] * c.collective_latency_factor,
        beta_s_per_byte=np.array([w.beta_s_per_byte for w in wires]).reshape(-1, 2).T[:, :, None] / c.link_efficiency,
        trigger=(table.flop + table.rows + table.payload),
        core_j_per_operation=table.flop * (table.count * c.compute_power * device.tdp_w / rate)[:, None],
        memory_w=table.count * streaming * (c.memory_power * device.tdp_w / device.bandwidth_bytes_per_s),
        link_j_per_collective=_link_j(table, wires, c.link_power * device.tdp_w / link),
        sorting=np.array([op.kind == "sampling" and habits.sorts_logits for op in ops]),
        rows_sampled=np.array([float(f.kind == "logit_rows") for f in table.features]),
        tokens_seen=np.array([_tokens_seen(op, table) for op in ops[: table.num_gemms]]).reshape(table.num_gemms, len(table.features)),
        untuned_above=np.array([_untuned_above(op) for op in ops[: table.num_gemms]]).reshape(-1, 1),
        expert_tile_rows=habits.expert_tile_rows,
        busy_w=np.array([_busy_power(op, c) for op in ops]) * device.tdp_w * table.count,
        eager_s=sum(op.count * _eager_s(op, c) for op in ops),
        chunked_s=c.chunked_attention_s if any(f.kind == "decode_keys" and f.chunk for f in table.features) else 0.0,
    )


def _experts_of(op: Operation) -> Feature | None:
    """Return the feature of a mixture product's experts where they are spread over ranks."""
    return next((f for f in op.groups if f.kind == "distinct_experts" and f.local < f.experts), None)


def _tokens_seen(op: Operation, table: OpTable) -> list[float]:
    """Return what makes up the tokens that a rank's experts choose from, per feature."""
    experts = _experts_of(op)
    return [float(experts.spread) if experts is not None and f.kind == "tokens" else 0.0 for f in table.features]


def _untuned_above(op: Operation) -> float:
    experts = _experts_of(op)
    if experts is None:
        return float("inf")
    return 0.0 if op.dtype in EIGHT_BIT and not op.dequantize_flop else float(experts.local)


def _busy_power(op: Operation, c: Coefficients) -> float:
    if op.kind in {"collective", "transfer"}:
        return 0.0
    if op.kind == "grouped_gemm":
        return c.quantized_busy_power if op.dtype in NARROW else c.grouped_busy_power
    if op.kind in {"decode_attention", "prefill_attention", "scan"}:
        return c.attention_busy_power
    return c.elementwise_busy_power if op.kind == "elementwise" else c.busy_power


def _items_s(table: OpTable, c: Coefficients) -> Array:
    """Return the time that decode attention spends on its (sequence, key-value head) pairs, per unit of each feature [s]."""
    decode = np.array([float(op.kind == "decode_attention") for op in table.operations])
    seconds: Array = c.attention_item_s * decode[:, None] * table.rows
    return seconds


def _fixed_s(op: Operation, c: Coefficients, fixed: dict[str, float]) -> float:
    """Return the fixed time of a kernel; more where it multiplies 8-bit operands."""
    eight_bit = op.weight_elements and not op.dequantize_flop and op.dtype in EIGHT_BIT
    more = (c.quantized_grouped_kernel_s if op.kind == "grouped_gemm" else c.quantized_gemm_kernel_s) if eight_bit else 0.0
    return fixed.get(op.kind, c.elementwise_kernel_s) + more


def _narrow_factor(op: Operation, c: Coefficients) -> float:
    """Return the factor on the efficiencies of a product with weights of fewer than 16 bits; 1 for all else."""
    if op.weight_elements and (op.dequantize_flop or op.dtype in NARROW):
        return c.quantized_grouped_factor if op.kind == "grouped_gemm" else c.quantized_gemm_factor
    return 1.0


def _eager_s(op: Operation, c: Coefficients) -> float:
    """Return the host time to launch the layer that an operation stands for, each layer counted once [s]."""
    if op.kind == "decode_attention":
        return c.eager_attention_s
    if op.kind == "grouped_gemm":
        return 0.5 * c.eager_experts_s
    return 0.5 * c.eager_scan_s if op.kind == "scan" else 0.0


def _wires(table: OpTable, fabric: Fabric) -> list[LinearCost]:
    found = []
    for op in table.operations[len(table.operations) - table.num_collectives :]:
        if op.collective is None or op.axis is None:
            raise ValueError(f"{op.name}: a collective needs a pattern and an axis")
        found.append(collective_cost(op.collective, op.axis, table.parallelism, fabric, op.copies))
    return found


def wire_bytes(table: OpTable, fabric: Fabric, features: Array) -> tuple[Any, Any]:
    """Return the bytes that a rank puts on the wire for a table's collectives, within its domain and beyond it, shape (iteration,)."""
    payload_bytes = table.payload[len(table.operations) - table.num_collectives :] @ features
    count = table.count[len(table.operations) - table.num_collectives :]
    each = np.array([(wire.wire_per_byte - wire.outer_per_byte, wire.outer_per_byte) for wire in _wires(table, fabric)]).reshape(-1, 2)
    return (count * each[:, 0]) @ payload_bytes, (count * each[:, 1]) @ payload_bytes


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


def _vector_s(table: OpTable, device: Device, imbalance: Array) -> Array:
    """Return the time of products as matrix-vector kernels, on the vector units and without tiles [s]."""
    seconds: Array = table.flop[: table.num_gemms] * (imbalance[: table.num_gemms] / (peak(device, "fp32") * device.coefficients.vector_efficiency))[:, None]
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
        least = np.where(costs.tokens_seen @ features > costs.untuned_above, costs.expert_tile_rows, SMALL_ROWS)
        compute_s[:products] *= tile_quantization(rows, groups, costs.cols, costs.inner, costs.device.compute_units, least)
        few = (rows <= MATRIX_VECTOR_ROWS * groups) & (least <= SMALL_ROWS)
        if few.any():  # two kernels can do it: whole tiles on the matrix units, or row by row on the vector units
            compute_s[:products] = np.where(few, np.minimum(compute_s[:products], costs.vector_s @ features), compute_s[:products])
        if costs.dequantize_s.any():
            compute_s[:products] += costs.dequantize_s * groups * np.ceil(rows / groups / 128.0) * running
    memory_s[costs.sorting] *= sorting_share(costs.rows_sampled @ features)
    time_s, core_s = overlap(compute_s, memory_s, costs.device.coefficients.overlap_softness)
    if costs.table.num_collectives:
        first = len(time_s) - costs.table.num_collectives
        lines = costs.alpha_s + costs.beta_s_per_byte * (costs.payload @ features)
        time_s[first:] = lines.min(axis=0) * active[first:]
    return OperationCosts(time_s + costs.fixed_s * active, core_s, compute_s, memory_s, time_s)


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
    time_s, collective_s = costs.count @ each.time_s, costs.count[first:] @ each.time_s[first:]
    return Costs(
        time_s=time_s,
        core_s=costs.count @ each.core_s,
        collective_s=collective_s,
        core_j=costs.core_j @ features + costs.busy_w @ each.moving_s,
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
