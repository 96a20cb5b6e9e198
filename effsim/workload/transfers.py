"""What moves between machines: weights onto a device, KV caches from prefill to decode machines."""

from typing import Any

from effsim.workload.features import ONE, PREFILL_TOKENS
from effsim.workload.operations import Operation, OpTable, build_table


def weight_loading(table: OpTable) -> OpTable:
    """Return the copy of a device's weights from host memory."""
    op = Operation("weights.load", "transfer", 1.0, {}, {}, {}, collective="send", axis="host", payload={ONE: table.weight_bytes})
    return build_table([op], table.parallelism)


def cache_transfer(table: OpTable) -> OpTable:
    """Return the move of the cache that one prompt leaves on a rank, over the network between machines.

    ``Σ bytes_per_token · tokens + state`` per sequence; windowed layers are counted in full, as prefill computes them.
    """
    per_token = sum(layer.bytes_per_token for layer in table.cache)
    state = sum(layer.bytes_per_sequence for layer in table.cache)
    payload: Any = {PREFILL_TOKENS: per_token, ONE: state}
    return build_table([Operation("cache.transfer", "transfer", 1.0, {}, {}, {}, collective="send", axis="pool", payload=payload)], table.parallelism)
