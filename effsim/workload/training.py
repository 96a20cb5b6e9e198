"""From the forward operations of a micro-batch to its backward and recomputed ones, and what must be kept between them."""

import dataclasses
from typing import Literal

import numpy as np

from effsim.workload.adapters import is_adapter
from effsim.workload.features import ONE, PREFILL_TOKENS, TOKENS, Feature
from effsim.workload.layers.common import scaled
from effsim.workload.operations import Array, Linear, Operation, OpTable, build_table

Recompute = Literal["none", "selective", "alternate", "full"]
LONG_INNER = 8192  # K of a weight gradient is the token count, always long enough to split
_ENDS = {"embedding", "logits", "cross_entropy"}
_LAST = {"ffn.down", "moe.down", "moe.combine"}
_WIDEST = {"attention.qkv", "attention.down", "mamba.input", "delta_net.input", "ffn.up", "logits", "layer_0"}
_FROM_RESIDUAL = {*_WIDEST, "moe.router"}
"""Products whose input is the normalised residual stream, gathered from the sequence shards that are kept."""
_SAME_INPUT = {"attention.head_gate", "indexer.key", "moe.latent_down", "moe.shared_up", "moe.shared_gate"}
"""Products that read the same input once more."""


def backward(table: OpTable, *, frozen: bool = False) -> OpTable:
    """Return the backward pass of a forward table.

    A product gives two of its own size, for its input and for its weight (whose gradient is accumulated in fp32); tiled attention
    five products for two (scores are recomputed on chip; Dao, arXiv:2307.08691); elementwise work twice; collectives as many again.

    Args:
        table: Of the forward pass.
        frozen: Only adapters are trained: other weights have no gradient.
    """
    found: list[Operation] = []
    for op in table.operations:
        if op.kind in {"gemm", "grouped_gemm"}:
            found.append(_input_gradient(op))
            if not frozen or is_adapter(op):
                found.append(_weight_gradient(op))
        elif frozen and op.kind == "embedding":
            continue
        else:
            factor = 2.5 if op.kind == "prefill_attention" else 1.0 if op.kind == "collective" else 2.0
            found.append(_times(op, factor))
    return build_table(found, table.parallelism, weight_bytes=table.weight_bytes, parameters=table.parameters)


def _times(op: Operation, factor: float) -> Operation:
    return dataclasses.replace(op, name=f"{op.name}.backward", flop=scaled(op.flop, factor), read=scaled(op.read, factor), write=scaled(op.write, factor))


def _input_gradient(op: Operation) -> Operation:
    return dataclasses.replace(op, name=f"{op.name}.input_gradient", cols=op.inner, inner=op.cols, weight_bytes=0.0)


def _weight_gradient(op: Operation) -> Operation:
    """Return the weight's gradient: the input K x M by the output's gradient M x N, read with the running fp32 sum and written back."""
    held: Linear = op.groups if op.groups else {ONE: 1.0}
    activations = {feature: c + op.write.get(feature, 0.0) for feature, c in op.read.items() if feature not in held and feature.kind != "one"}
    accumulated = scaled(held, 4.0 * op.cols * op.inner)
    return dataclasses.replace(
        op,
        name=f"{op.name}.weight_gradient",
        read={**activations, **{f: c + activations.get(f, 0.0) for f, c in accumulated.items()}},
        write=accumulated,
        rows=scaled(held, float(op.inner)),
        inner=LONG_INNER,
        weight_bytes=0.0,
        dequantize_flop=0.0,
    )


def recomputed(table: OpTable, mode: Recompute, *, last_product: bool = True) -> OpTable | None:
    """Return what backward runs again of the forward pass, or nothing.

    Args:
        table: Of the forward pass.
        mode: ``none``; ``selective``: attention scores (Korthikanti et al., arXiv:2205.05198, section 5); ``alternate``: every
            second product and all elementwise work, attention kept (torchtitan's selective checkpointing by operation, docs, 2025);
            ``full``: every layer.
        last_product: Whether ``full`` repeats the last product of a layer, whose output nothing needs: checkpoints by module do,
            compilers and early-stopping checkpoints do not.
    """
    if mode == "none":
        return None
    again = [(op, _repetitions(op, mode, last_product=last_product)) for op in table.operations]
    ops = [dataclasses.replace(op, name=f"{op.name}.recomputed", count=op.count * times) for op, times in again if times]
    return build_table(ops, table.parallelism) if ops else None


def _repetitions(op: Operation, mode: Recompute, *, last_product: bool) -> float:
    if mode == "selective":
        return float(op.kind == "prefill_attention")
    if op.name in _ENDS or op.name.startswith(("embedding", "pipeline")):
        return 0.0
    if mode == "alternate":
        return {"gemm": 0.5, "grouped_gemm": 0.5, "elementwise": 1.0}.get(op.kind, 0.0)
    return 0.0 if op.name in _LAST and not last_product else 1.0


def activation_bytes(table: OpTable, features: Array, mode: Recompute, layers: int, *, frozen: bool = False) -> Array:
    """Return what one micro-batch keeps for its backward pass over all stages on one tensor rank [bytes], shape (iteration,).

    Kept: the inputs of products (shared under sequence parallelism where they are the residual stream), of norms and activations,
    and queries, keys and values of attention; with full recomputation only each layer's input. For a GPT block this sums to the
    34 s·b·h bytes of Korthikanti et al., arXiv:2205.05198, equation 1, less the dropout masks. A frozen product keeps nothing: its
    input is for the gradient that it does not have; its adapters keep theirs.
    """
    tensor = table.parallelism.tensor if table.parallelism.sequence else 1
    index = {feature: place for place, feature in enumerate(table.features)}
    tokens = features[index[TOKENS]] if TOKENS in index else features[index[PREFILL_TOKENS]]
    if mode == "full":
        width = _residual_width(table)
        kept: Array = layers * width * 2.0 * tokens / tensor
        return kept
    total = np.zeros(features.shape[1])
    for row, op in enumerate(table.operations):
        if op.kind in {"collective", "embedding", "sampling"} or op.name in {"logits", "cross_entropy", "attention.rotary", "moe.combine", *_SAME_INPUT}:
            continue
        if op.name.endswith(".cast"):  # the low-precision copy is what the product keeps
            continue
        if frozen and op.kind in {"gemm", "grouped_gemm"} and not is_adapter(op):
            continue
        inputs = np.array([c if _is_activation(f, op) else 0.0 for f, c in zip(table.features, table.read[row], strict=True)])
        share = 0.5 if op.name in {"norm", "final_norm"} else 1.0  # the residual half of its input is kept by nobody
        shared = tensor if op.name.removesuffix(".adapter_down") in _FROM_RESIDUAL else 1
        kept_share = 0.5 if mode == "alternate" and op.kind != "prefill_attention" else 1.0
        total += kept_share * op.count * share * (inputs @ features) / shared
    return total


def _is_activation(feature: Feature, op: Operation) -> bool:
    return feature.kind != "one" and feature not in op.groups


def _residual_width(table: OpTable) -> int:
    return max(
        (op.inner for op in table.operations if op.name in _WIDEST),
        default=1,
    )
