"""Low-rank adapters: small trainable matrices beside frozen ones."""

import dataclasses
from typing import Final

from effsim.errors import SpecError
from effsim.workload.features import ONE
from effsim.workload.layers.common import scaled
from effsim.workload.operations import Operation, OpTable, build_table

TARGETS: Final = ("attention.qkv", "attention.output")
"""Products that get an adapter: those of MLPerf's Llama-2-70B LoRA benchmark (attention only; mlcommons/training, 2024)."""
ADAPTER_BYTES: Final = 2.0


def with_adapters(table: OpTable, rank: int, targets: tuple[str, ...] = TARGETS) -> tuple[OpTable, OpTable]:
    """Return a forward table with adapters, and the adapters alone.

    A target of K by N gets ``x A B`` beside it, A of K x r and B of r x N: 2 M r (K + N) FLOPs and r (K + N) weights more. Source:
    Hu et al., LoRA, arXiv:2106.09685.

    Raises:
        SpecError: The rank is below 1, or no product is a target.
    """
    if rank < 1:
        raise SpecError(f"lora_rank: must be at least 1, got {rank}")
    added = [part for op in table.operations if op.name in targets for part in _pair(op, rank)]
    if not added:
        raise SpecError(f"trainable: nothing to adapt: the model has none of {', '.join(targets)}")
    weight_bytes = sum(op.weight_bytes * op.count for op in added) / table.parallelism.pipeline
    whole = build_table(
        [*table.operations, *added],
        table.parallelism,
        weight_bytes=table.weight_bytes + weight_bytes,
        parameters=table.parameters,
        cache=table.cache,
    )
    return whole, build_table(added, table.parallelism, weight_bytes=weight_bytes)


def _pair(op: Operation, rank: int) -> list[Operation]:
    return [_product(op, f"{op.name}.adapter_down", op.inner, rank), _product(op, f"{op.name}.adapter_up", rank, op.cols)]


def _product(op: Operation, name: str, inner: int, cols: int) -> Operation:
    weights = float(inner * cols)
    return dataclasses.replace(
        op,
        name=name,
        flop=scaled(op.rows, 2.0 * weights),
        read={ONE: weights * ADAPTER_BYTES, **scaled(op.rows, inner * ADAPTER_BYTES)},
        write=scaled(op.rows, cols * ADAPTER_BYTES),
        dtype="bf16",
        cols=cols,
        inner=inner,
        weight_bytes=weights * ADAPTER_BYTES,
        weight_elements=weights,
        dequantize_flop=0.0,
    )


def is_adapter(op: Operation) -> bool:
    """Return whether an operation belongs to an adapter."""
    return ".adapter_" in op.name
