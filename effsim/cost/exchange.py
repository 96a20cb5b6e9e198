"""What data-parallel ranks exchange once per optimizer step, by ZeRO stage."""

import dataclasses
from typing import Any, Final

import numpy as np

from effsim.cost.collectives import Fabric, collective_cost
from effsim.cost.device import Coefficients
from effsim.workload.operations import Collective, Parallelism

SHARDED_OPTIMIZER: Final = 1
SHARDED_GRADIENTS: Final = 2
SHARDED_WEIGHTS: Final = 3
GRADIENT_BYTES, WEIGHT_BYTES = 4.0, 2.0  # fp32 gradients are summed, 16-bit weights gathered


def exchange_gradients(fabric: Fabric, parallelism: Parallelism, coefficients: Coefficients, load: tuple[int, float, Any]) -> tuple[Any, Any]:
    """Return time [s] and bytes that a rank puts on the wire, for gradients and weights over data and context ranks.

    Stage 0: all-reduce of gradients; 1 and 2: reduce-scatter of them and all-gather of weights; 3: that all-gather twice per
    micro-batch. Source: Rajbhandari et al., arXiv:1910.02054, section 7.

    Args:
        fabric: The two network levels.
        parallelism: Ranks.
        coefficients: For link efficiency and latency.
        load: ZeRO stage, weights on the device, micro-batches per step (array).
    """
    stage, weights, micro_batches = load
    ranks = dataclasses.replace(parallelism, data=parallelism.data * parallelism.context, context=1)
    time_s, wire_bytes = np.zeros_like(micro_batches), np.zeros_like(micro_batches)
    if ranks.data == 1:
        return time_s, wire_bytes
    plan: list[tuple[Collective, float, Any]] = [("all_reduce", GRADIENT_BYTES * weights, 1.0)]
    if stage >= SHARDED_OPTIMIZER:
        gathers = 2.0 * micro_batches if stage == SHARDED_WEIGHTS else 1.0
        plan = [("reduce_scatter", GRADIENT_BYTES * weights, 1.0), ("all_gather", WEIGHT_BYTES * weights, gathers)]
    for pattern, payload_bytes, times in plan:
        cost = collective_cost(pattern, "data", ranks, fabric)
        beta_s = payload_bytes / coefficients.link_efficiency
        lines = [a * coefficients.collective_latency_factor + b * beta_s for a, b in zip(cost.alpha_s, cost.beta_s_per_byte, strict=True)]
        time_s = time_s + times * min(lines)
        wire_bytes = wire_bytes + times * cost.wire_per_byte * payload_bytes
    return time_s, wire_bytes
