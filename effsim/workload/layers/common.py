"""What every layer type builds with: the lowering's settings, a matrix product, an elementwise kernel, a collective."""

import dataclasses
from typing import Literal

from effsim.errors import SpecError
from effsim.workload.features import LOGIT_ROWS, ONE, TOKENS, Feature
from effsim.workload.operations import Axis, Collective, Linear, Operation, Parallelism
from effsim.workload.precision import Format

OUTPUT_BYTES = 2.0  # products and activations between kernels are 16 bits wide, whatever the weights


@dataclasses.dataclass(frozen=True, slots=True)
class Lowering:
    """Settings of one lowering.

    Args:
        hidden: Width of the residual stream.
        parallelism: Ranks.
        linear: Format of the mixers' matrices.
        ffn: Format of dense feed-forward layers and shared experts.
        experts: Format of the experts' matrices.
        base: Format of embedding, head, router and norms.
        kv_bytes: Per number in the KV cache [bytes].
        phase: ``serve`` or ``train`` (no cache is written, every row gets logits).
        attention: ``tiled`` keeps scores on chip, ``naive`` writes them to memory.
        causal: Whether queries see only earlier keys.
    """

    hidden: int
    parallelism: Parallelism
    linear: Format
    ffn: Format
    experts: Format
    base: Format
    kv_bytes: float
    phase: Literal["serve", "train"] = "serve"
    attention: Literal["tiled", "naive"] = "tiled"
    causal: bool = True

    @property
    def tensor(self) -> int:
        """Tensor-parallel ranks."""
        return self.parallelism.tensor

    @property
    def activation_bytes(self) -> float:
        """Bytes of one activation between kernels."""
        return 4.0 if self.base.weight_bytes == 4.0 else OUTPUT_BYTES  # noqa: PLR2004 -- bytes of fp32

    def split(self, what: str, size: int, ranks: int | None = None) -> int:
        """Return one rank's share.

        Raises:
            SpecError: It does not divide.
        """
        parts = self.tensor if ranks is None else ranks
        if size % parts:
            raise SpecError(f"parallelism: {what} = {size} cannot be split over {parts} ranks")
        return size // parts


def scaled(linear: Linear, factor: float) -> dict[Feature, float]:
    """Return a linear form times a factor."""
    return {feature: coefficient * factor for feature, coefficient in linear.items()}


def gemm(
    low: Lowering, name: str, count: float, shape: tuple[int, int], *, rows: Linear | None = None, fmt: Format | None = None, bias: bool = False
) -> list[Operation]:
    """Return a matrix product of ``rows`` by a weight of (inner K, columns N), and the cast of its input where the format needs one.

    FLOPs ``2 M N K``; reads ``N K`` weights once and ``M K`` inputs, writes ``M N`` outputs.
    """
    inner, cols = shape
    m: Linear = {TOKENS: 1.0} if rows is None else rows
    fmt = low.linear if fmt is None else fmt
    stored = inner * cols * fmt.weight_bytes + (cols * low.activation_bytes if bias else 0.0)
    product = Operation(
        name=name,
        kind="gemm",
        count=count,
        flop=scaled(m, 2.0 * inner * cols),
        read={ONE: stored, **scaled(m, inner * fmt.activation_bytes)},
        write=scaled(m, cols * low.activation_bytes),
        dtype=fmt.compute,
        rows=m,
        cols=cols,
        inner=inner,
        weight_bytes=stored,
        weight_elements=float(inner * cols),
        dequantize_flop=fmt.dequantize_flop,
    )
    return [*cast(low, name, count, scaled(m, inner), fmt), product]


def cast(low: Lowering, name: str, count: float, numbers: Linear, fmt: Format) -> list[Operation]:
    """Return the kernel that scales 16-bit activations down to a matrix unit's 8- or 4-bit operand, where one is needed."""
    if not fmt.is_quantized or fmt.activation_bytes >= OUTPUT_BYTES:
        return []
    return [
        Operation(f"{name}.cast", "elementwise", count, scaled(numbers, 3.0), scaled(numbers, low.activation_bytes), scaled(numbers, fmt.activation_bytes)),
    ]


def elementwise(name: str, count: float, numbers: Linear, traffic: tuple[float, float, float], *, kernels: float = 1.0, weight_bytes: float = 0.0) -> Operation:
    """Return a kernel whose work is per number: ``traffic`` is (FLOP, bytes read, bytes written) for each."""
    flop, read, write = traffic
    return Operation(
        name, "elementwise", count, scaled(numbers, flop), scaled(numbers, read), scaled(numbers, write), kernels=kernels, weight_bytes=weight_bytes
    )


def norm(low: Lowering, name: str, count: float, *, width: int | None = None, rows: Linear | None = None) -> Operation:
    """Return a normalisation fused with the residual addition: about 5 FLOPs a number (square, sum, scale, weight, add).

    ``width``: of a rank's own numbers; None: the residual stream, which sequence parallelism splits.
    """
    size = low.hidden if width is None else width
    shared = low.tensor if low.parallelism.sequence and width is None else 1
    numbers = scaled({TOKENS: 1.0} if rows is None else rows, size / shared)
    byte = low.activation_bytes
    return elementwise(name, count, numbers, (5.0, 2 * byte, 2 * byte), weight_bytes=size * byte)


def collective(name: str, count: float, pattern: Collective, axis: Axis, payload: Linear) -> Operation:
    """Return a collective; ``payload`` is the whole buffer (all-reduce, all-gather, reduce-scatter) or what a rank sends."""
    return Operation(name, "collective", count, {}, {}, {}, collective=pattern, axis=axis, payload=payload)


def tensor_reduce(low: Lowering, name: str, count: float) -> list[Operation]:
    """Return what joins partial sums over tensor ranks: an all-reduce, or its two halves under sequence parallelism."""
    if low.tensor == 1:
        return []
    payload = {TOKENS: low.hidden * low.activation_bytes}
    if low.parallelism.sequence:
        return [collective(f"{name}.{p}", count, p, "tensor", payload) for p in ("reduce_scatter", "all_gather")]
    return [collective(f"{name}.all_reduce", count, "all_reduce", "tensor", payload)]


def head_rows(low: Lowering) -> Linear:
    """Return the rows that need logits: every token in training, the last of each sequence in serving."""
    return {TOKENS: 1.0} if low.phase == "train" else {LOGIT_ROWS: 1.0}
