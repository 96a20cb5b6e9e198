"""How many tokens the KV cache of a replica holds."""

import math

from effsim.cost.deployment import Deployment
from effsim.cost.memory import require_weights
from effsim.errors import InfeasibleError
from effsim.units import BYTES_PER_GIB
from effsim.workload.operations import CacheLayer


def cache_unit_bytes(layers: tuple[CacheLayer, ...]) -> float:
    """Return the bytes that one token takes on one device in layers that keep every token; of a model without any, a sequence's state."""
    per_token = sum(layer.bytes_per_token for layer in layers)
    return per_token or sum(layer.bytes_per_sequence for layer in layers) or 1.0


def kv_capacity_tokens(deployment: Deployment) -> int:
    """Return how many tokens the cache of a replica holds, each in :func:`cache_unit_bytes`, over all data-parallel ranks.

    Raises:
        InfeasibleError: The weights do not fit, or no cache is left.
    """
    memory = deployment.serving_memory()
    require_weights(memory, deployment.model.name, deployment.accelerator.name, deployment.parallelism.tensor * deployment.parallelism.pipeline)
    tokens = math.floor(memory.cache_bytes / cache_unit_bytes(deployment.table.cache)) * deployment.parallelism.data
    if tokens < 1:
        raise InfeasibleError(
            f"no KV cache is left on {deployment.accelerator.name}: {memory.cache_bytes / BYTES_PER_GIB:.2f} GiB per device.",
            "KV cache memory",
            ("more ranks",),
        )
    return tokens
