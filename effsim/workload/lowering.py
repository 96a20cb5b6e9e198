"""From model, parallelism and precision to the table of operations of a phase."""

import dataclasses
import functools
from collections.abc import Collection
from typing import Literal, get_args

from effsim.errors import SpecError
from effsim.specs.model import Mlp, Model, Transformer
from effsim.workload import precision as formats
from effsim.workload.architectures import mlp, transformer
from effsim.workload.layers.common import Lowering
from effsim.workload.operations import CacheLayer, Operation, OpTable, Parallelism, build_table
from effsim.workload.parameters import parameter_count

AttentionKind = Literal["tiled", "naive"]


@dataclasses.dataclass(frozen=True, slots=True)
class Numerics:
    """Formats of weights and KV cache, by name, and the dtypes that the device multiplies.

    ``attention`` is ``tiled`` (scores stay on chip) or ``naive`` (written to memory), so that the gain of tiling can be shown.
    ``sparsity`` is that of the weights.
    """

    precision: str
    kv_precision: str
    dtypes: frozenset[str]
    attention: AttentionKind = "tiled"
    sparsity: str = "none"

    def __post_init__(self) -> None:
        """Check the kind of attention.

        Raises:
            SpecError: Neither tiled nor naive.
        """
        if self.attention not in get_args(AttentionKind):
            raise SpecError(f"attention: expected {' or '.join(get_args(AttentionKind))}, got {self.attention!r}")


def numerics(model: Model, precision: str | None, kv_precision: str | None, dtypes: Collection[str]) -> Numerics:
    """Return the number formats in force: as asked for, else the model's own; the cache is 16 bits wide unless asked otherwise.

    Raises:
        SpecError: An unknown precision.
    """
    name = formats.normalize(precision or model.native_precision)
    kept = formats.normalize(kv_precision) if kv_precision else formats.cache_precision(name)
    return Numerics(name, kept, frozenset(dtypes))


def lower(model: Model, parallelism: Parallelism, settings: Numerics, phase: Literal["serve", "train"] = "serve") -> OpTable:
    """Return the operations of one forward pass on one tensor rank, over all pipeline stages.

    Counts are linear in the features of :mod:`effsim.workload.features`; prefill, decode and mixed iterations differ only in
    those. Weight bytes are those of the device that holds most.

    Raises:
        SpecError: Heads, experts or widths do not divide over the ranks.
    """
    return _lower(_Key(model), parallelism, settings, phase)


def check_split(model: Model, parallelism: Parallelism) -> None:
    """Check what the layers themselves do not see.

    Raises:
        SpecError: More stages than layers, or a plain network split by anything but data.
    """
    if isinstance(model, Mlp):
        if parallelism.accelerators > parallelism.data:
            raise SpecError("parallelism: a plain dense network is split by data only")
    elif parallelism.pipeline > model.num_layers:
        raise SpecError(f"pipeline_parallel: {parallelism.pipeline} stages for {model.num_layers} layers")


class _Key:
    """A model as a cache key, by identity: specs are immutable and loaded once."""

    __slots__ = ("model",)

    def __init__(self, model: Model) -> None:
        self.model = model

    def __hash__(self) -> int:
        return id(self.model)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.model is self.model


@functools.lru_cache(maxsize=256)
def _lower(key: _Key, parallelism: Parallelism, settings: Numerics, phase: Literal["serve", "train"]) -> OpTable:
    model = key.model
    fmt = formats.sparse_format(formats.format_on(settings.precision, settings.dtypes), settings.sparsity, settings.dtypes)
    base = formats.base_format(settings.precision)
    part = model.quantized_part if isinstance(model, Transformer) else "linear"
    low = Lowering(
        hidden=model.hidden_size if isinstance(model, Transformer) else model.layer_sizes[0],
        parallelism=parallelism,
        linear=fmt if part == "linear" else base,
        ffn=base if part == "experts" else fmt,
        experts=fmt,
        base=base,
        kv_bytes=formats.kv_bytes(settings.kv_precision),
        phase=phase,
        attention=settings.attention,
        causal=not isinstance(model, Transformer) or model.causal,
    )
    check_split(model, parallelism)
    if isinstance(model, Mlp):
        ops, cache = mlp.operations(low, model), tuple[CacheLayer, ...]()
    else:
        ops, cache = transformer.operations(low, model), transformer.cache_layers(low, model)
    return build_table(ops, parallelism, weight_bytes=_stage_bytes(ops, parallelism.pipeline), parameters=float(parameter_count(model).total), cache=cache)


def stage_weight_bytes(table: OpTable, stages: int) -> float:
    """Return the weights of the heaviest of some pipeline stages, from a table lowered without stages [bytes]."""
    return _stage_bytes(list(table.operations), stages)


def _stage_bytes(ops: list[Operation], stages: int) -> float:
    """Layers spread over stages; embedding and head sit on the first and last: the heavier of the two counts."""
    ends = {"embedding": 0.0, "logits": 0.0}
    layers = 0.0
    for op in ops:
        if op.name in ends:
            ends[op.name] += op.weight_bytes
        else:
            layers += op.weight_bytes * op.count
    return layers + sum(ends.values()) if stages == 1 else layers / stages + max(ends.values())
