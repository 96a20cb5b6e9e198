"""What data-parallel ranks exchange once per optimizer step, by ZeRO stage, flat or sharded within groups."""

import dataclasses
from typing import Any, Final, NamedTuple

import numpy as np

from effsim.cost.collectives import Fabric, collective_cost
from effsim.cost.device import Coefficients
from effsim.workload.operations import Collective, Parallelism

SHARDED_OPTIMIZER: Final = 1
SHARDED_GRADIENTS: Final = 2
SHARDED_WEIGHTS: Final = 3
GRADIENT_BYTES, WEIGHT_BYTES = 4.0, 2.0  # fp32 gradients are summed, 16-bit weights gathered


class Exchange(NamedTuple):
    """What there is to exchange.

    Args:
        zero_stage: 0 to 3.
        trained: Weights with gradients on one device.
        weights: All weights on one device.
        micro_batches: Per step, an array.
        shard_group: Ranks within which ZeRO shards (hybrid sharding); None: all.
        gradient_bytes: Of a gradient on the wire [bytes].
        scatters_sums: ZeRO stage 2 scatters once a step.
    """

    zero_stage: int
    trained: float
    weights: float
    micro_batches: Any
    shard_group: int | None = None
    gradient_bytes: float = GRADIENT_BYTES
    scatters_sums: bool = False


def exchange_gradients(fabric: Fabric, parallelism: Parallelism, coefficients: Coefficients, load: Exchange) -> tuple[Any, Any, Any]:
    """Return time [s], bytes that a rank puts on the wire and those of them that leave its domain, for gradients and weights over data and context ranks.

    Stage 0: all-reduce of gradients; 1: reduce-scatter of them and all-gather of weights; 2: that reduce-scatter per micro-batch, as
    no rank keeps the whole sum; 3: that all-gather twice per micro-batch, too. With hybrid sharding all stay within the group, and
    each group's shards of the gradients are then all-reduced across groups. Sources: Rajbhandari et al., arXiv:1910.02054, section 7;
    Zhao et al., PyTorch FSDP, arXiv:2304.11277, section 3.2.

    Args:
        fabric: The two network levels.
        parallelism: Ranks.
        coefficients: For link efficiency and latency.
        load: What there is to exchange.
    """
    ranks = parallelism.data * parallelism.context
    group = load.shard_group or ranks
    time_s, wire_bytes, outer_bytes = (np.zeros_like(load.micro_batches) for _ in range(3))
    if ranks == 1:
        return time_s, wire_bytes, outer_bytes
    near = dataclasses.replace(parallelism, expert=1, data=group, context=1)
    far = dataclasses.replace(near, tensor=parallelism.tensor * group, data=ranks // group)  # a group lies between two ranks with the same shard
    for pattern, payload_bytes, times, who in _plan(load, group, ranks):
        cost = collective_cost(pattern, "data", near if who == "near" else far, fabric)
        beta_s = payload_bytes / coefficients.link_efficiency
        lines = [a * coefficients.collective_latency_factor + b * beta_s for a, b in zip(cost.alpha_s, cost.beta_s_per_byte, strict=True)]
        time_s = time_s + times * min(lines)
        wire_bytes = wire_bytes + times * cost.wire_per_byte * payload_bytes
        outer_bytes = outer_bytes + times * cost.outer_per_byte * payload_bytes
    return time_s, wire_bytes, outer_bytes


def _plan(load: Exchange, group: int, ranks: int) -> list[tuple[Collective, float, Any, str]]:
    """Return pattern, bytes, times per step, and whether it runs within a group or across groups."""
    gradients = load.gradient_bytes * load.trained
    if load.zero_stage < SHARDED_OPTIMIZER:
        return [("all_reduce", gradients, 1.0, "near")]
    if load.zero_stage == SHARDED_WEIGHTS:
        gather: tuple[Collective, float, Any, str] = ("all_gather", WEIGHT_BYTES * load.weights, 2.0 * load.micro_batches, "near")
    else:
        gather = ("all_gather", WEIGHT_BYTES * load.trained, 1.0, "near")
    often = load.zero_stage == SHARDED_WEIGHTS or (load.zero_stage >= SHARDED_GRADIENTS and not load.scatters_sums)
    scatters = load.micro_batches if often else 1.0
    plan: list[tuple[Collective, float, Any, str]] = [("reduce_scatter", gradients, scatters, "near"), gather]
    return [*plan, ("all_reduce", gradients / group, 1.0, "far")] if group < ranks else plan
