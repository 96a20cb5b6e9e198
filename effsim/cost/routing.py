"""What routing tokens to experts adds to a step beside its operations: all-to-alls that are not hidden, permutations, waits for the host."""

import dataclasses
from typing import Any, Final, Literal, get_args

import numpy as np

from effsim.catalog import suggest
from effsim.cost.evaluate import Costs, CostTable, evaluate, operation_costs
from effsim.errors import SpecError
from effsim.specs.engine import Engine
from effsim.workload.operations import Array

Graphs = Literal["none", "router", "step"]
Dispatcher = Literal["fused", "alltoall"]
EXCHANGES: Final = ("moe.dispatch", "moe.collect")
WITHIN: Final = ("moe.activation", "moe.up.cast", "moe.down.cast")
"""What a fused expert kernel does on chip, between its products."""
CAPTURED: Final[dict[str, tuple[str, ...]]] = {"none": (), "router": ("moe.router", "moe.route", "moe.shared"), "step": ("moe.",)}
"""Beginnings of the names of captured operations, by what CUDA graphs hold (Megatron Core user guide, ``--cuda-graph-modules``, 2026)."""
PERMUTATIONS: Final = 2.0
"""Passes over (token, expert) pairs beside the weighted sum of the experts' results: put in the order of their destinations, sorted by
expert, and both back: ``6 k + 2`` accesses per token, of which the sum is counted with ``2 k`` (Megatron Core, ``MoEAlltoAllTokenDispatcher``)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Routing:
    """How a recipe runs its mixture layers, in the words of Megatron Core.

    Args:
        overlapped: The all-to-all runs under another micro-batch's work (``--overlap-moe-expert-parallel-comm``).
        cuda_graphs: What CUDA graphs capture: nothing, ``router`` and shared experts, or the whole ``step``.
        dispatcher: ``fused``: tokens are permuted within their exchange (DeepEP, HybridEP); ``alltoall``: by kernels of its own.
        fused_experts: Activation and casts run within the experts' products, not as kernels of their own.
    """

    overlapped: bool = False
    cuda_graphs: Graphs = "none"
    dispatcher: Dispatcher = "fused"
    fused_experts: bool = False

    def __post_init__(self) -> None:
        """Check the choices.

        Raises:
            SpecError: One is unknown.
        """
        for name, allowed in (("cuda_graphs", get_args(Graphs)), ("dispatcher", get_args(Dispatcher))):
            given = str(getattr(self, name))
            if given not in allowed:
                raise SpecError(f"routing.{name}: unknown {given!r}; {suggest(given, allowed)}allowed: {', '.join(allowed)}")


def with_routing(costs: CostTable, features: Array, engine: Engine, routing: Routing, *, capped: bool = False) -> Costs:
    """Return the costs of iterations with collectives hidden as far as engine and recipe do, with permutations and with waits for the host.

    Collectives of tensor ranks are hidden by ``collective_overlap``. The all-to-all of routed tokens is on the way of its own layer: it is
    hidden by ``routing_overlap`` where another micro-batch runs beside it, else not at all; by ``collective_overlap`` where the engine
    does not tell the two apart. No more is hidden than there is other work.

    Args:
        costs: Of the operations of a pass.
        features: Of the iterations.
        engine: Its shares and its host time.
        routing: The recipe's.
        capped: Experts' rows are fixed by a capacity factor, so that nobody waits for their counts.
    """
    result = evaluate(costs, features)
    free_s = result.time_s - result.collective_s
    routed_s = part_s(costs, features, *EXCHANGES) if engine.routing_overlap is not None else np.zeros_like(free_s)
    hidden_s = np.zeros_like(free_s)
    if engine.collective_overlap is not None:
        hidden_s = engine.collective_overlap.value * np.minimum(result.collective_s - routed_s, free_s)
    if engine.routing_overlap is not None and routing.overlapped:
        hidden_s = hidden_s + engine.routing_overlap.value * np.minimum(routed_s, free_s - hidden_s)
    if routing.fused_experts:
        hidden_s = hidden_s + part_s(costs, features, *WITHIN)
    moved_s = PERMUTATIONS * part_s(costs, features, "moe.combine") if routing.dispatcher == "alltoall" else 0.0
    waits_s = 0.0 if capped else host_wait_s(costs, features, engine, routing)
    return result._replace(time_s=result.time_s - hidden_s + moved_s + waits_s)


def host_wait_s(costs: CostTable, features: Array, engine: Engine, routing: Routing) -> Any:
    """Return how long the device waits for the host in mixture layers [s], shape (iteration,).

    The router's counts of tokens travel to the host before it launches the experts' kernels, so it enters each layer without a lead. From
    there it dispatches operation after operation while the device runs them, and the layer takes the longer of the two sums,
    ``max(n h, sum t)`` for n operations of times t and a host time h; neither can be hidden behind another layer. What a CUDA graph captures
    has no host. Source: Scalable Training of Mixture-of-Experts Models with Megatron Core, arXiv:2603.07685, on host-boundedness.
    """
    each, ahead = engine.host_time_per_operation, CAPTURED[routing.cuda_graphs]
    waiting = np.array([op.name.startswith("moe.") and not op.name.startswith(ahead) for op in costs.table.operations], dtype=float)
    if each is None or not waiting.any():
        return np.zeros(features.shape[1])
    host_s = each.value * costs.device.coefficients.host_overhead_factor
    return np.maximum((costs.count * waiting) @ (host_s - operation_costs(costs, features).time_s), 0.0)


def part_s(costs: CostTable, features: Array, *names: str) -> Any:
    """Return the time of the operations with one of these in their names [s], shape (iteration,)."""
    chosen = np.array([any(name in op.name for name in names) for op in costs.table.operations], dtype=float)
    if not chosen.any():
        return np.zeros(features.shape[1])
    return evaluate(dataclasses.replace(costs, count=costs.count * chosen), features).time_s
