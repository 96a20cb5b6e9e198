"""Plain dense networks."""

from effsim.specs.model import Mlp
from effsim.workload.features import TOKENS
from effsim.workload.layers.common import Lowering, elementwise, gemm
from effsim.workload.layers.ffn import ACTIVATION_FLOP
from effsim.workload.operations import Operation


def operations(low: Lowering, model: Mlp) -> list[Operation]:
    """Return the products and activations of one pass; a "token" is one sample."""
    ops: list[Operation] = []
    pairs = list(zip(model.layer_sizes[:-1], model.layer_sizes[1:], strict=True))
    byte = low.activation_bytes
    for index, (inner, cols) in enumerate(pairs):
        ops += gemm(low, f"layer_{index}", 1.0, (inner, cols), bias=model.bias)
        last = index == len(pairs) - 1
        name, flop = ("softmax", 5.0) if last else (f"layer_{index}.activation", ACTIVATION_FLOP[model.activation])
        ops.append(elementwise(name, 1.0, {TOKENS: float(cols)}, (flop, byte, byte)))
    return ops
