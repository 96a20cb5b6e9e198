"""What fits: weights, KV cache and engine reserve on one device."""

import dataclasses
from typing import Any

import numpy as np

from effsim.errors import InfeasibleError
from effsim.units import BYTES_PER_GIB
from effsim.workload.operations import CacheLayer, OpTable


@dataclasses.dataclass(frozen=True, slots=True)
class ServingMemory:
    """Memory of one device while serving [bytes]."""

    weights_bytes: float
    reserve_bytes: float
    usable_bytes: float
    device_bytes: float

    @property
    def cache_bytes(self) -> float:
        """Left for the KV cache; negative where the weights alone do not fit."""
        return self.usable_bytes - self.weights_bytes - self.reserve_bytes


def serving_memory(table: OpTable, device_bytes: float, utilization: float, reserve_bytes: float) -> ServingMemory:
    """Return how a device's memory divides. ``usable = utilization · memory``, as vLLM's ``gpu_memory_utilization``."""
    return ServingMemory(table.weight_bytes, reserve_bytes, utilization * device_bytes, device_bytes)


def cache_bytes(layers: tuple[CacheLayer, ...], context_tokens: Any) -> Any:
    """Return the cache of one sequence on one device [bytes]: ``Σ bytes_per_token · min(context, window) + state``."""
    total: Any = 0.0
    for layer in layers:
        kept = np.minimum(context_tokens, layer.max_tokens) if layer.max_tokens else context_tokens
        total = total + layer.bytes_per_token * kept + layer.bytes_per_sequence
    return total


def require_weights(memory: ServingMemory, name: str, device: str, ranks: int) -> None:
    """Check that the weights fit.

    Raises:
        InfeasibleError: They do not; the message says by how much and what would make them fit.
    """
    short = -memory.cache_bytes
    if short < 0.0:
        return
    free = memory.usable_bytes - memory.reserve_bytes
    more = f"at least {int(np.ceil(ranks * memory.weights_bytes / max(free, 1.0)))} accelerators (tensor or pipeline parallel)"
    raise InfeasibleError(
        f"{name} does not fit on {device}: "
        f"weights {memory.weights_bytes / BYTES_PER_GIB:.1f} GiB and engine reserve "
        f"{memory.reserve_bytes / BYTES_PER_GIB:.1f} GiB per device, "
        f"{memory.usable_bytes / BYTES_PER_GIB:.1f} GiB usable: {short / BYTES_PER_GIB:.1f} GiB short, before any KV cache.",
        "accelerator memory",
        (more, "a narrower precision (fp8, int4)", "an accelerator with more memory"),
    )


def max_batch(memory: ServingMemory, layers: tuple[CacheLayer, ...], context_tokens: Any) -> Any:
    """Return how many sequences of a mean context fit in the cache, as a real number; infinite for models without a cache."""
    each = cache_bytes(layers, context_tokens)
    return np.where(np.asarray(each) > 0.0, memory.cache_bytes / np.maximum(each, TINY_BYTES), np.inf)


TINY_BYTES = 1e-9


def require_batch(memory: ServingMemory, layers: tuple[CacheLayer, ...], batch: float, context_tokens: float) -> None:
    """Check that the cache of a batch fits.

    Raises:
        InfeasibleError: It does not.
    """
    fits = float(max_batch(memory, layers, context_tokens))
    if batch <= fits:
        return
    each = float(cache_bytes(layers, context_tokens))
    raise InfeasibleError(
        f"KV cache of {batch:g} sequences with {context_tokens:,.0f} tokens each needs {batch * each / BYTES_PER_GIB:.1f} GiB per device, "
        f"{memory.cache_bytes / BYTES_PER_GIB:.1f} GiB are left: {(batch * each - memory.cache_bytes) / BYTES_PER_GIB:.1f} GiB short.",
        "KV cache memory",
        (f"a batch of at most {int(fits)}", "kv_precision=fp8", "more tensor-parallel ranks", "shorter contexts"),
    )
