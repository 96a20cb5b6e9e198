"""Feed-forward layers: dense and mixture of experts."""

import dataclasses

from effsim.errors import SpecError
from effsim.specs.model import GATED, DenseFfn, MoeFfn
from effsim.workload.features import ONE, TOKENS, Feature
from effsim.workload.layers.common import Lowering, cast, collective, elementwise, gemm, scaled, tensor_reduce
from effsim.workload.operations import Linear, Operation, Parallelism
from effsim.workload.precision import Format

ACTIVATION_FLOP = {"relu": 1.0, "squared_relu": 2.0, "gelu": 10.0, "silu": 5.0, "swiglu": 6.0, "geglu": 11.0}
"""Vector operations per output; exp, tanh and division counted as one each, polynomial terms apart."""


def _activation(low: Lowering, name: str, count: float, kind: str, numbers: Linear) -> Operation:
    byte = low.activation_bytes
    inputs = 2.0 if kind in GATED else 1.0
    return elementwise(name, count, numbers, (ACTIVATION_FLOP[kind], inputs * byte, byte))


def lower_dense(low: Lowering, ffn: DenseFfn, count: float, name: str = "ffn") -> list[Operation]:
    """Return the operations of ``count`` dense feed-forward layers: up (and gate) in one product, activation, down, reduction."""
    width = low.split("intermediate_size", ffn.intermediate_size)
    columns = width * (2 if ffn.activation in GATED else 1)
    ops = gemm(low, f"{name}.up", count, (low.hidden, columns), fmt=low.ffn, bias=ffn.bias)
    ops.append(_activation(low, f"{name}.activation", count, ffn.activation, {TOKENS: float(width)}))
    ops += gemm(low, f"{name}.down", count, (width, low.hidden), fmt=low.ffn, bias=ffn.bias)
    return ops + tensor_reduce(low, name, count)


def lower_moe(low: Lowering, ffn: MoeFfn, count: float) -> list[Operation]:
    """Return the operations of ``count`` mixture layers on one rank.

    Experts lie on ``expert_parallel`` groups, each split over the ranks left. A rank computes ``tokens · top_k / groups``
    (token, expert) pairs and reads the experts that at least one token chose. Tensor ranks hold all tokens already, so their
    results join in the layer's all-reduce; data-parallel ranks exchange tokens by all-to-all.
    """
    p = low.parallelism
    local = low.split("experts", ffn.experts, p.expert)
    ranks, spread = expert_layout(p, replicated=low.phase == "train")
    width = low.split("expert_intermediate_size", ffn.expert_intermediate_size, ranks)
    pairs: Linear = {TOKENS: spread * ffn.top_k / p.expert}
    touched = Feature("distinct_experts", experts=ffn.experts, top_k=ffn.top_k, local=float(local), spread=spread)
    space = ffn.latent_size or low.hidden
    ops = gemm(low, "moe.router", count, (low.hidden, ffn.experts), fmt=low.base, bias=ffn.router_bias)
    ops.append(_dispatch(low, ffn, count))
    ops += _exchange(low, ffn, count, "moe.dispatch", space)
    if ffn.latent_size:
        ops += gemm(low, "moe.latent_down", count, (low.hidden, ffn.latent_size), fmt=low.ffn)
    columns = width * (2 if ffn.activation in GATED else 1)
    shape = _Group(pairs, touched, float(local))
    ops += _grouped(low, "moe.up", count, (space, columns), shape, bias=ffn.bias)
    ops.append(_activation(low, "moe.activation", count, ffn.activation, scaled(pairs, width)))
    ops += _grouped(low, "moe.down", count, (width, space), shape, bias=ffn.bias)
    byte = low.activation_bytes
    ops.append(elementwise("moe.combine", count, scaled(pairs, space), (2.0, byte, byte)))
    ops += _exchange(low, ffn, count, "moe.collect", space)
    if ffn.latent_size:
        ops += gemm(low, "moe.latent_up", count, (ffn.latent_size, low.hidden), fmt=low.ffn)
    return ops + _shared(low, ffn, count) + tensor_reduce(low, "moe", count)


def expert_layout(p: Parallelism, *, replicated: bool) -> tuple[int, int]:
    """Return over how many ranks each expert is split, and of how many data-parallel ranks an expert group sees the tokens.

    Serving spreads the experts once over all tensor and data ranks, as vLLM does. Training replicates them (``replicated``) where the groups
    divide the data-parallel ranks, each expert split over tensor ranks alone, as Megatron Core does (user guide, MoE parallel folding).

    Raises:
        SpecError: Serving with experts spread over some of the ranks only.
    """
    if p.expert == 1:
        return p.tensor, 1
    if replicated and p.data % p.expert == 0:
        return p.tensor, p.expert
    if not replicated and p.expert != p.tensor * p.data:
        raise SpecError(f"expert_parallel: serving spreads experts over all tensor x data ranks: 1 or {p.tensor * p.data}, got {p.expert}")
    return p.tensor * p.data // p.expert, p.data


class _Group:
    """The rows of a grouped product: (token, expert) pairs, experts touched, experts held."""

    __slots__ = ("local", "pairs", "touched")

    def __init__(self, pairs: Linear, touched: Feature, local: float) -> None:
        self.pairs, self.touched, self.local = pairs, touched, local


def _grouped(low: Lowering, name: str, count: float, shape: tuple[int, int], group: _Group, *, bias: bool) -> list[Operation]:
    inner, cols = shape
    fmt: Format = low.experts
    each = inner * cols * fmt.weight_bytes + (cols * low.activation_bytes if bias else 0.0)
    product = Operation(
        name=name,
        kind="grouped_gemm",
        count=count,
        flop=scaled(group.pairs, 2.0 * inner * cols),
        read={group.touched: each, **scaled(group.pairs, inner * fmt.activation_bytes)},
        write=scaled(group.pairs, cols * low.activation_bytes),
        dtype=fmt.compute,
        rows=group.pairs,
        cols=cols,
        inner=inner,
        groups={group.touched: 1.0},
        weight_bytes=each * group.local,
        weight_elements=float(inner * cols),
        dequantize_flop=fmt.dequantize_flop,
    )
    return [*cast(low, name, count, scaled(group.pairs, inner), fmt), product]


def _dispatch(low: Lowering, ffn: MoeFfn, count: float) -> Operation:
    """Return routing: softmax and top-k over all experts, then counting and sorting of (token, expert) pairs: four kernels."""
    numbers: Linear = {TOKENS: float(ffn.experts), ONE: 1.0}
    byte = low.activation_bytes
    return elementwise("moe.route", count, numbers, (10.0, 2 * byte, byte), kernels=4.0)


def _exchange(low: Lowering, ffn: MoeFfn, count: float, name: str, width: int) -> list[Operation]:
    """Return the all-to-all of data-parallel expert groups: each rank sends its tokens once per chosen expert elsewhere."""
    p = low.parallelism
    if p.expert == 1 or p.data == 1:
        return []
    sent = ffn.top_k * width * low.experts.activation_bytes / p.tensor
    return [dataclasses.replace(collective(name, count, "all_to_all", "expert", {TOKENS: sent}), copies=ffn.top_k)]


def _shared(low: Lowering, ffn: MoeFfn, count: float) -> list[Operation]:
    if not ffn.shared_intermediate_size:
        return []
    width = low.split("shared_intermediate_size", ffn.shared_intermediate_size)
    columns = width * (2 if ffn.activation in GATED else 1)
    ops = gemm(low, "moe.shared_up", count, (low.hidden, columns), fmt=low.ffn)
    ops.append(_activation(low, "moe.shared_activation", count, ffn.activation, {TOKENS: float(width)}))
    ops += gemm(low, "moe.shared_down", count, (width, low.hidden), fmt=low.ffn)
    if ffn.shared_gate:
        ops += gemm(low, "moe.shared_gate", count, (low.hidden, 1), fmt=low.base)
    return ops
