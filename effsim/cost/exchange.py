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


class Exchanged(NamedTuple):
    """What an exchange takes in a step.

    Args:
        reduced_s: Sums of gradients [s].
        gathered_s: Weights [s].
        wire_bytes: That a rank puts on the wire [bytes].
        outer_bytes: Of them those that leave its domain [bytes].
    """

    reduced_s: Any
    gathered_s: Any
    wire_bytes: Any
    outer_bytes: Any

    @property
    def time_s(self) -> Any:
        """Of both [s]."""
        return self.reduced_s + self.gathered_s


def exchange_gradients(fabric: Fabric, parallelism: Parallelism, coefficients: Coefficients, load: Exchange) -> Exchanged:
    """Return times and bytes for gradients and weights over data and context ranks.

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
    reduced_s, gathered_s, wire_bytes, outer_bytes = (np.zeros_like(load.micro_batches) for _ in range(4))
    if ranks == 1:
        return Exchanged(reduced_s, gathered_s, wire_bytes, outer_bytes)
    near = dataclasses.replace(parallelism, expert=1, data=group, context=1)
    far = dataclasses.replace(near, tensor=parallelism.tensor * group, data=ranks // group)  # a group lies between two ranks with the same shard
    for pattern, payload_bytes, times, who in _plan(load, group, ranks):
        cost = collective_cost(pattern, "data", near if who == "near" else far, fabric)
        beta_s = payload_bytes / coefficients.link_efficiency
        lines = [a * coefficients.collective_latency_factor + b * beta_s for a, b in zip(cost.alpha_s, cost.beta_s_per_byte, strict=True)]
        if pattern == "all_gather":
            gathered_s = gathered_s + times * min(lines)
        else:
            reduced_s = reduced_s + times * min(lines)
        wire_bytes = wire_bytes + times * cost.wire_per_byte * payload_bytes
        outer_bytes = outer_bytes + times * cost.outer_per_byte * payload_bytes
    return Exchanged(reduced_s, gathered_s, wire_bytes, outer_bytes)


def hideable_s(load: Exchange, exchanged: Exchanged, passes_s: tuple[Any, Any], busy_s: Any, pipeline: tuple[int, int] = (1, 1)) -> Any:
    """Return what of an exchange a step's computation can hide at most [s].

    Stages 0 to 2: sums of gradients behind the backward pass of the last micro-batch, since they are not whole before (PyTorch DDP's
    ``no_sync``; Megatron Core, ``--overlap-grad-reduce``), of every one where each micro-batch's are scattered; weights behind the
    forward pass of the first one, which is in want of them (``--overlap-param-gather``). Stage 3: both behind all passes, as weights
    are gathered again for each.

    In an interleaved pipeline of p stages with v chunks each, the passes go through a chunk p micro-batches at a time, so that the sums
    of all chunks but the last are whole earlier. Of R seconds behind a backward pass of B what remains in the open is
    ``max(0, (R - B) / v, R - ((v - 1) p + 1) B / v)``: the last chunk's own part, or all of it since the first chunk's last pass
    began. Weights of later chunks have as long before their first pass.

    Args:
        load: What there is to exchange.
        exchanged: What that takes.
        passes_s: Forward and backward of one micro-batch on one stage, the second with recomputation [s].
        busy_s: Of all micro-batches [s].
        pipeline: Stages, and chunks of each.

    >>> load, taken = Exchange(1, 1.0, 1.0, 8.0), Exchanged(5.0, 3.0, 0.0, 0.0)
    >>> [float(hideable_s(load._replace(zero_stage=stage), taken, (1.0, 2.0), 24.0)) for stage in (1, 2, 3)]
    [3.0, 6.0, 8.0]
    >>> float(hideable_s(load, taken, (1.0, 2.0), 24.0, (4, 2)))
    5.5
    """
    if load.zero_stage == SHARDED_WEIGHTS:
        return np.minimum(exchanged.time_s, busy_s)
    forward_s, backward_s = passes_s
    gathered_s = exchanged.gathered_s - _left_s(exchanged.gathered_s, forward_s, pipeline, load.micro_batches)
    if _scatters_each(load):
        return np.minimum(exchanged.reduced_s, load.micro_batches * backward_s) + gathered_s
    return exchanged.reduced_s - _left_s(exchanged.reduced_s, backward_s, pipeline, load.micro_batches) + gathered_s


def _left_s(exchange_s: Any, pass_s: Any, pipeline: tuple[int, int], micro_batches: Any) -> Any:
    """Return what of an exchange a pass over the chunks of a stage leaves in the open [s]; see :func:`hideable_s`."""
    stages, chunks = pipeline
    room_s = ((chunks - 1) * np.minimum(stages, micro_batches) + 1.0) * pass_s / chunks
    return np.maximum(0.0, np.maximum((exchange_s - pass_s) / chunks, exchange_s - room_s))


def _scatters_each(load: Exchange) -> bool:
    """Return whether each micro-batch's gradients are scattered, rather than their sum."""
    return load.zero_stage == SHARDED_WEIGHTS or (load.zero_stage == SHARDED_GRADIENTS and not load.scatters_sums)


def _plan(load: Exchange, group: int, ranks: int) -> list[tuple[Collective, float, Any, str]]:
    """Return pattern, bytes, times per step, and whether it runs within a group or across groups."""
    gradients = load.gradient_bytes * load.trained
    if load.zero_stage < SHARDED_OPTIMIZER:
        return [("all_reduce", gradients, 1.0, "near")]
    if load.zero_stage == SHARDED_WEIGHTS:
        gather: tuple[Collective, float, Any, str] = ("all_gather", WEIGHT_BYTES * load.weights, 2.0 * load.micro_batches, "near")
    else:
        gather = ("all_gather", WEIGHT_BYTES * load.trained, 1.0, "near")
    scatters = load.micro_batches if _scatters_each(load) else 1.0
    plan: list[tuple[Collective, float, Any, str]] = [("reduce_scatter", gradients, scatters, "near"), gather]
    return [*plan, ("all_reduce", gradients / group, 1.0, "far")] if group < ranks else plan
