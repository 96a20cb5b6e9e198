"""Routers that give every expert a buffer of fixed size: rows beyond it are dropped, empty places are padding."""

import dataclasses
from functools import lru_cache
from typing import Final

from effsim.errors import SpecError
from effsim.workload.layers.common import scaled
from effsim.workload.operations import Operation, OpTable, build_table

_ROUTED: Final = ("moe.dispatch", "moe.collect", "moe.up", "moe.down", "moe.activation", "moe.combine")


@lru_cache(maxsize=256)
def with_capacity(table: OpTable, factor: float) -> OpTable:
    """Return a table whose experts have ``factor · tokens · top_k / experts`` rows each.

    Rows of the experts' products, what goes into and comes out of them, and both all-to-alls scale with the factor, padding included;
    router, shared experts and the experts' weights do not. Sources: GShard, arXiv:2006.16668, section 2.2; Switch Transformer,
    arXiv:2101.03961, equation 3. Routers that drop nothing (MegaBlocks, arXiv:2211.15841) have no factor.

    Raises:
        SpecError: The model has no routed experts.
    """
    if not any(op.kind == "grouped_gemm" for op in table.operations):
        raise SpecError("capacity_factor: the model has no routed experts whose buffers could have a capacity; leave it out")
    ops = [_scaled(op, factor) if op.name.removesuffix(".cast") in _ROUTED else op for op in table.operations]
    return build_table(ops, table.parallelism, weight_bytes=table.weight_bytes, parameters=table.parameters, cache=table.cache)


def _scaled(op: Operation, factor: float) -> Operation:
    read = {feature: c if feature in op.groups else c * factor for feature, c in op.read.items()}
    return dataclasses.replace(
        op, flop=scaled(op.flop, factor), read=read, write=scaled(op.write, factor), rows=scaled(op.rows, factor), payload=scaled(op.payload, factor)
    )
