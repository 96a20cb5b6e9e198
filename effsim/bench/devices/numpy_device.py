"""The CPU through NumPy: always there."""

import math
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effsim.bench.devices.base import Call, Device, Facts
from effsim.bench.machine import cpu_facts

Array = npt.NDArray[Any]

BLOCK: Final = 2**20
_TYPES: Final[dict[str, type]] = {"fp32": np.float32, "fp64": np.float64}


class NumpyDevice(Device):
    """Products go to the BLAS that NumPy was built with; the rest is NumPy's own loops."""

    dtypes = ("fp32", "fp64")

    def __init__(self, seed: int = 0) -> None:
        memory_bytes, cache_bytes, cores, model = cpu_facts()
        self.facts = Facts("cpu", "numpy", "cpu", model, memory_bytes, cache_bytes, cores)
        self._rng = np.random.default_rng(seed)

    def synchronize(self) -> None:
        """Return at once: calls return when they are done."""

    def seconds(self, run: Call, samples: int) -> list[float]:
        """Return the time of each run by the monotonic clock [s]."""
        found = []
        for _ in range(samples):
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
        return found

    def random(self, shape: Sequence[int], dtype: str) -> Array:
        """Return normally distributed numbers; beyond a million, the same million again and again."""
        count = math.prod(shape)
        block: Array = self._rng.standard_normal(min(count, BLOCK), dtype=np.float32).astype(_TYPES[dtype], copy=False)
        return np.resize(block, tuple(shape)) if count > BLOCK else block.reshape(tuple(shape))

    def zeros(self, shape: Sequence[int], dtype: str) -> Array:
        """Return zeros."""
        return np.zeros(tuple(shape), dtype=_TYPES[dtype])

    def gemm(self, sizes: tuple[int, int, int], dtype: str) -> tuple[Call, str]:
        """Multiply into an array that is there already; weights lie as (n, k), as models store them."""
        m, n, k = sizes
        left, right, out = self.random((m, k), dtype), self.random((n, k), dtype).T, self.zeros((m, n), dtype)
        return lambda: np.matmul(left, right, out=out), "numpy.matmul"

    def grouped_gemm(self, rows: Sequence[int], sizes: tuple[int, int], dtype: str) -> tuple[Call, str]:
        """Multiply group by group."""
        n, k = sizes
        calls = [self.gemm((count, n, k), dtype)[0] for count in rows if count]
        return lambda: [call() for call in calls], "numpy.matmul, one group after the other"

    def attention(self, query: Any, key: Any, value: Any, *, causal: bool) -> Array:
        """Return softmax(q k^T / sqrt(width)) v, the scores held in memory."""
        batch, heads, tokens, width = query.shape
        kv_heads, context = key.shape[1], key.shape[2]
        grouped = query.reshape(batch, kv_heads, heads // kv_heads * tokens, width)
        scores = grouped @ key.swapaxes(-1, -2)
        scores *= np.float32(1.0 / math.sqrt(width))
        if causal:
            hidden = np.triu(np.ones((tokens, context), dtype=bool), context - tokens + 1)
            scores.reshape(batch, kv_heads, -1, tokens, context)[..., hidden] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed: Array = (scores @ value).reshape(batch, heads, tokens, width)
        return mixed

    def copy(self, target: Any, source: Any) -> object:
        """Copy an array onto another."""
        np.copyto(target, source)
        return target

    def maximum(self, array: Any) -> object:
        """Read an array once."""
        return array.max()

    def add(self, left: Any, right: Any, out: Any) -> object:
        """Add two arrays into a third."""
        return np.add(left, right, out=out)

    def gated(self, gate: Any, up: Any) -> Array:
        """Return ``silu(gate) * up``."""
        result: Array = np.exp(-gate)
        result += 1.0
        np.divide(gate, result, out=result)
        result *= up
        return result

    def normalized(self, x: Any, weight: Any) -> Array:
        """Return the root-mean-square norm over the last axis."""
        result: Array = x * (1.0 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(1e-6)))
        result *= weight
        return result
