"""The operations that kernels are written in; each device carries them out its own way."""

import gc
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

Call = Callable[[], object]

ITEM_BYTES: Final[dict[str, int]] = {"fp64": 8, "fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}
MAX_BUFFERS: Final = 16
COLD_RATIO: Final = 8.0
"""Traffic between two uses of an operand over the size of the cache: at most an eighth of it is still there."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a run file says of a device.

    Args:
        name: As users ask for it: ``cpu``, ``cuda:0``, ``mps``.
        library: ``numpy`` or ``torch``.
        kind: ``cpu``, ``cuda``, ``rocm`` or ``mps``.
        model: As the driver or the system reports it.
        memory_bytes: Of the device.
        cache_bytes: Last level; 0 where unknown.
        compute_units: Cores, streaming multiprocessors or compute units.
        count: Devices of this kind in the machine.
    """

    name: str
    library: str
    kind: str
    model: str
    memory_bytes: int
    cache_bytes: int
    compute_units: int
    count: int = 1


class Device(ABC):
    """A device and its library. What it cannot do raises, and the case is skipped with the reason."""

    facts: Facts
    dtypes: tuple[str, ...]
    """Of products, each tried once."""
    sample_s: float = 2e-4
    """Least length of a sample: a thousand times the resolution of the clock."""

    @property
    def large(self) -> bool:
        """Whether shapes are those of an accelerator, not those of a CPU."""
        return self.facts.kind in {"cuda", "rocm"}

    @property
    def native(self) -> str:
        """The dtype in which language models run here."""
        return next(name for name in ("bf16", "fp16", "fp32") if name in self.dtypes) if self.facts.kind != "cpu" else "fp32"

    def buffers(self, moved_bytes: float) -> int:
        """Return how many sets of operands must take turns so that the last-level cache holds next to none of a set when its turn comes again."""
        return min(MAX_BUFFERS, max(1, math.ceil(COLD_RATIO * self.facts.cache_bytes / max(moved_bytes, 1.0))))

    def has_room(self, wanted_bytes: float) -> bool:
        """Return whether operands fit into half of the memory."""
        return wanted_bytes <= 0.5 * self.facts.memory_bytes

    def release(self) -> None:
        """Give memory back that earlier cases held."""
        gc.collect()

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the device has done what was asked of it."""

    @abstractmethod
    def seconds(self, run: Call, samples: int) -> list[float]:
        """Return the time of each of so many runs, by the device's own clock where it has one [s]."""

    def recorded(self, run: Call, times: int) -> Call | None:
        """Return a call that replays ``times`` runs without Python in between, or ``None`` where the device knows no such thing."""
        del run, times
        return None

    @abstractmethod
    def random(self, shape: Sequence[int], dtype: str) -> Any:
        """Return normally distributed numbers of variance 1; whole numbers between -127 and 127 for ``int8``."""

    @abstractmethod
    def zeros(self, shape: Sequence[int], dtype: str) -> Any:
        """Return zeros."""

    @abstractmethod
    def gemm(self, sizes: tuple[int, int, int], dtype: str) -> tuple[Call, str]:
        """Return a call that multiplies (m, k) by (k, n), sizes being m, n, k, and what it uses."""

    @abstractmethod
    def grouped_gemm(self, rows: Sequence[int], sizes: tuple[int, int], dtype: str) -> tuple[Call, str]:
        """Return a call that multiplies groups of rows, each by a (k, n) matrix of its own, sizes being n, k, and what it uses."""

    @abstractmethod
    def attention(self, query: Any, key: Any, value: Any, *, causal: bool) -> Any:
        """Return attention over (batch, heads, tokens, width); key and value may have fewer heads."""

    @abstractmethod
    def copy(self, target: Any, source: Any) -> object:
        """Copy an array onto another."""

    @abstractmethod
    def maximum(self, array: Any) -> object:
        """Read an array once: its maximum, left on the device."""

    @abstractmethod
    def add(self, left: Any, right: Any, out: Any) -> object:
        """Add two arrays into a third."""

    @abstractmethod
    def gated(self, gate: Any, up: Any) -> Any:
        """Return ``silu(gate) * up``."""

    @abstractmethod
    def normalized(self, x: Any, weight: Any) -> Any:
        """Return the root-mean-square norm over the last axis."""

    def flex_attention(self) -> Callable[..., Any]:
        """Return attention that is compiled for its mask.

        Raises:
            NotImplementedError: The library has none here.
        """
        raise NotImplementedError(f"{self.facts.library} has no flex attention on {self.facts.name}")

    def all_reduce(self, elements: int, dtype: str, devices: int) -> tuple[Call, str]:
        """Return a call that sums an array over so many devices.

        Raises:
            NotImplementedError: The library has no collective within one process.
        """
        raise NotImplementedError(f"{self.facts.library} has no all-reduce within one process here ({elements} {dtype} over {devices})")
