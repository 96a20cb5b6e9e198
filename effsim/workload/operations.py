"""Operations and the table that an architecture is lowered to."""

import dataclasses
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from effsim.errors import SpecError, shown
from effsim.workload.features import Feature

Array = npt.NDArray[np.float64]
Linear = Mapping[Feature, float]
Kind = Literal[
    "gemm", "grouped_gemm", "prefill_attention", "decode_attention", "scan", "elementwise", "embedding", "sampling", "optimizer", "transfer", "collective"
]
Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send"]
Axis = Literal["tensor", "expert", "data", "context", "pipeline", "host", "pool"]


@dataclasses.dataclass(frozen=True, slots=True)
class Parallelism:
    """How a model is split over accelerators. ``expert`` divides ``tensor · data`` and adds no accelerators of its own."""

    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    data: int = 1
    context: int = 1
    sequence: bool = False

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            SpecError: A size below 1, or experts that do not divide the ranks.
        """
        for name in ("tensor", "pipeline", "expert", "data", "context"):
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, numbers.Integral) or size < 1:
                raise SpecError(f"{name}_parallel: must be a whole number of at least 1, got {shown(size)}")
            object.__setattr__(self, name, int(size))
        if (self.tensor * self.data) % self.expert:
            raise SpecError(f"expert_parallel: {self.expert} must divide tensor_parallel x data_parallel = {self.tensor * self.data}")

    @property
    def accelerators(self) -> int:
        """Accelerators in all."""
        return self.tensor * self.pipeline * self.data * self.context


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """One kernel, or a few that always go together, on one device of each pipeline stage.

    Args:
        name: ``"attention.qkv"`` ...
        kind: What sort of kernel; efficiencies belong to kinds.
        count: Times per iteration, over all pipeline stages.
        flop: Multiplies and adds counted apart [FLOP], linear in the features.
        read: From device memory [bytes].
        write: To device memory [bytes].
        dtype: Of the arithmetic.
        rows: M of a GEMM, summed over its group; ``cols`` N and ``inner`` K; of attention, a head's value and key widths, ``rows`` of
            decode attention the key-value heads of its sequences.
        groups: GEMMs in the group, e.g. experts touched; empty for one.
        kernels: Launches.
        weight_bytes: Held in memory by one occurrence [bytes].
        weight_elements: Weights that one occurrence reads and multiplies, per group member.
        dequantize_flop: Vector work per stored weight [FLOP].
        collective: Pattern, for kind ``collective``; ``payload`` is what each device contributes [bytes].
        axis: The ranks that take part.
        copies: Of a token in an all-to-all: the experts that it goes to.
    """

    name: str
    kind: Kind
    count: float
    flop: Linear
    read: Linear
    write: Linear
    dtype: str = "fp32"
    rows: Linear = dataclasses.field(default_factory=dict)
    cols: int = 1
    inner: int = 1
    groups: Linear = dataclasses.field(default_factory=dict)
    kernels: float = 1.0
    weight_bytes: float = 0.0
    weight_elements: float = 0.0
    dequantize_flop: float = 0.0
    collective: Collective | None = None
    axis: Axis | None = None
    payload: Linear = dataclasses.field(default_factory=dict)
    copies: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class CacheLayer:
    """What layers of one kind keep per sequence on one device, over all its layers of the stage with most.

    Args:
        bytes_per_token: Keys and values [bytes/token].
        max_tokens: Window or chunk beyond which nothing more is kept; 0: no limit.
        bytes_per_sequence: Recurrent state [bytes].
    """

    bytes_per_token: float = 0.0
    max_tokens: int = 0
    bytes_per_sequence: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class OpTable:
    """Coefficients of all operations of a phase, shape (operation, feature), GEMMs first and collectives last."""

    operations: tuple[Operation, ...]
    features: tuple[Feature, ...]
    flop: Array
    read: Array
    write: Array
    rows: Array
    groups: Array
    payload: Array
    num_gemms: int
    num_collectives: int
    parallelism: Parallelism
    weight_bytes: float
    parameters: float
    cache: tuple[CacheLayer, ...] = ()

    @property
    def count(self) -> Array:
        """Occurrences per iteration, shape (operation,)."""
        return self.column("count")

    def column(self, name: str) -> Array:
        """Return a numeric attribute of the operations, shape (operation,)."""
        return np.array([getattr(op, name) for op in self.operations], dtype=float)


_ORDER = {"gemm": 0, "grouped_gemm": 0, "collective": 2, "transfer": 2}


def build_table(
    operations: Iterable[Operation], parallelism: Parallelism, *, weight_bytes: float = 0.0, parameters: float = 0.0, cache: tuple[CacheLayer, ...] = ()
) -> OpTable:
    """Return the table of a list of operations.

    Args:
        operations: In the order in which they run.
        parallelism: That they were lowered for.
        weight_bytes: Held by the device of the pipeline stage with most [bytes].
        parameters: Of the whole model that these operations touch.
        cache: What serving keeps per sequence.
    """
    ordered = tuple(sorted((op for op in operations if op.count), key=lambda op: _ORDER.get(op.kind, 1)))
    parts = ("flop", "read", "write", "rows", "groups", "payload")
    features = tuple(sorted({f for op in ordered for part in parts for f in getattr(op, part)}))
    index = {feature: i for i, feature in enumerate(features)}
    matrices: dict[str, Any] = {part: np.zeros((len(ordered), len(features))) for part in parts}
    for row, op in enumerate(ordered):
        for part in parts:
            for feature, coefficient in getattr(op, part).items():
                matrices[part][row, index[feature]] = coefficient
    return OpTable(
        operations=ordered,
        features=features,
        num_gemms=sum(_ORDER.get(op.kind, 1) == 0 for op in ordered),
        num_collectives=sum(op.kind in {"collective", "transfer"} for op in ordered),
        parallelism=parallelism,
        weight_bytes=weight_bytes,
        parameters=parameters,
        cache=cache,
        **matrices,
    )


def total(table: OpTable, features: Array) -> tuple[Array, Array, Array]:
    """Return FLOPs, bytes read and bytes written of each iteration on one device of each stage, shape (iteration,)."""
    count = table.count
    return count @ (table.flop @ features), count @ (table.read @ features), count @ (table.write @ features)
