"""Training recipes in 8 and 4 bits: what runs in few bits, what stays in 16, and what it costs to quantise.

All three products of a linear layer (output, input gradient, weight gradient) take quantised operands and accumulate in fp32. Embedding,
output head, router, norms, softmax and the products of attention stay in 16 bits, as the source of each recipe states.
"""

import dataclasses
from collections.abc import Collection
from functools import lru_cache
from typing import Final

from effsim.errors import SpecError
from effsim.workload.features import ONE
from effsim.workload.layers.common import scaled
from effsim.workload.operations import Operation, OpTable, build_table
from effsim.workload.precision import base_format, normalize

WIDE_BYTES: Final = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """How a low-precision format is trained in.

    Args:
        compute: Dtype of the units that multiply.
        copy_bytes: Of a quantised number with its share of the scale [bytes].
        scaling: Granularity of the scales, for people.
        amax_reads: Times that a tensor is read for its largest value before it is quantised; 0 where a block's is found on chip.
        wide_share: Of the linear layers, how many stay in 16 bits.
        gradient_flop: Vector operations for a number of the copies that go into weight gradients, beside scaling [FLOP]. The random Hadamard
            transform is not among them: the kernel that casts does it on the matrix units (Transformer Engine,
            ``row_cast_col_hadamard_transform_cast_fusion``, 2025), 32 FLOP for a number that it reads anyway.
        keeps_wide_weights: Whether a 16-bit copy of the weights stays beside the quantised ones.
        source: Of all this.
    """

    compute: str
    copy_bytes: float
    scaling: str
    amax_reads: float
    wide_share: float
    gradient_flop: float
    keeps_wide_weights: bool
    source: str


_DEEPSEEK: Final = "DeepSeek-V3 Technical Report, arXiv:2412.19437, section 3.3 (2024-12)"
_MXFP8: Final = "NVIDIA, Recipes for Pre-training LLMs with MXFP8, arXiv:2506.08027 (2025-06)"
_NVFP4: Final = "NVIDIA, Pretraining Large Language Models with NVFP4, arXiv:2509.25149 (2025-09)"
_ROUND: Final = 4.0  # a random number where rounding is stochastic; judgement, 2026-11

RECIPES: Final = {
    "fp8": TrainingRecipe("fp8", 1.0 + 4.0 / 128, "fp32 scale per 1 x 128 activations and per 128 x 128 weights", 0.0, 0.0, 0.0, False, _DEEPSEEK),
    "mxfp8": TrainingRecipe("fp8", 1.0 + 1.0 / 32, "8-bit power of two per 32 numbers along the inner dimension", 0.0, 0.0, 0.0, False, _MXFP8),
    "mxfp4": TrainingRecipe("fp4", 0.5 + 1.0 / 32, "8-bit power of two per 32 numbers along the inner dimension", 0.0, 0.15, _ROUND, True, _NVFP4),
    "nvfp4": TrainingRecipe("fp4", 0.5 + 1.0 / 16, "fp8 scale per 16 numbers, fp32 scale per tensor", 1.0, 0.15, _ROUND, True, _NVFP4),
}
"""NVFP4 keeps about 15 % of the linear layers in bf16, transforms the operands of weight gradients and rounds gradients stochastically
(section 4); the same recipe was trained in MXFP4 for comparison (section 5)."""

COPIES: Final = 2.0
"""Of a tensor: scales run along the inner dimension of each product, so that operands are quantised along rows and along columns, and
Hopper's FP8 units take transposed operands only (Transformer Engine user guide, 2025)."""


def check_trainable(precision: str, dtypes: Collection[str], device: str, *, frozen: bool) -> TrainingRecipe | None:
    """Return the recipe of a precision; None where training runs in 16 bits or more, or frozen weights are only stored in few.

    Raises:
        SpecError: The device has no units for it, or nobody trains in it.
    """
    name = normalize(precision)
    if base_format(name).name == name:
        if name not in dtypes:
            raise SpecError(f"precision: {device} has no units for {name}; it computes {_shown(dtypes)}")
        return None
    recipe = RECIPES.get(name)
    if recipe is None:
        if frozen:
            return None
        allowed = ", ".join(("bf16", *(key for key, one in RECIPES.items() if one.compute in dtypes)))
        raise SpecError(
            f"precision: {name} stores weights but has no recipe to train them; on {device}: {allowed}, or trainable=lora with frozen {name} weights"
        )
    if recipe.compute not in dtypes:
        raise SpecError(f"precision: {name} needs units for {recipe.compute}, which {device} lacks; it computes {_shown(dtypes)}")
    return recipe


def _shown(dtypes: Collection[str]) -> str:
    return ", ".join(sorted(dtype for dtype in dtypes if ":" not in dtype))


def is_quantized(op: Operation, recipe: TrainingRecipe) -> bool:
    """Return whether an operation is a product with quantised operands."""
    return op.kind in {"gemm", "grouped_gemm"} and op.dtype == recipe.compute


@lru_cache(maxsize=256)
def with_recipe(table: OpTable, recipe: TrainingRecipe, *, frozen: bool = False) -> OpTable:
    """Return a forward table as the recipe runs it: both copies quantised, some layers in 16 bits.

    Args:
        table: Lowered for training in the recipe's format.
        recipe: The recipe.
        frozen: No weight has a gradient, so that no second copy is needed.
    """
    found: list[Operation] = []
    wide: list[Operation] = []
    for op in table.operations:
        if op.name.endswith(".cast"):
            found.append(dataclasses.replace(_cast(op, recipe, frozen=frozen), count=op.count * (1.0 - recipe.wide_share)))
        elif is_quantized(op, recipe) and recipe.wide_share:
            found.append(dataclasses.replace(op, count=op.count * (1.0 - recipe.wide_share)))
            wide.append(dataclasses.replace(_widened(op), count=op.count * recipe.wide_share))
        else:
            found.append(op)
    return build_table([*found, *wide], table.parallelism, weight_bytes=table.weight_bytes, parameters=table.parameters, cache=table.cache)


def _cast(op: Operation, recipe: TrainingRecipe, *, frozen: bool) -> Operation:
    """Return the kernel that quantises: reads 16 bits once or twice, writes one copy or two."""
    copies = 1.0 if frozen else COPIES
    flop = op.flop if frozen else {feature: c + c / _CAST_FLOP * recipe.gradient_flop for feature, c in op.flop.items()}
    return dataclasses.replace(op, flop=flop, read=scaled(op.read, 1.0 + recipe.amax_reads), write=scaled(op.write, copies))


_CAST_FLOP: Final = 3.0  # of layers.common.cast, per number


def _widened(op: Operation) -> Operation:
    """Return a quantised product in bf16: operands of 2 bytes."""
    weights = set(op.groups) or {ONE}
    stored = WIDE_BYTES * op.inner * op.cols
    read = {feature: stored if feature in weights else op.rows.get(feature, 0.0) * op.inner * WIDE_BYTES for feature in op.read}
    held = op.weight_bytes / max(op.read[next(iter(weights))], 1.0) * stored
    return dataclasses.replace(op, dtype="bf16", read=read, weight_bytes=held)


def quantize_weights(recipe: TrainingRecipe, numbers: float) -> Operation:
    """Return the kernel that quantises the weights once per step, for all its micro-batches.

    Args:
        recipe: The recipe.
        numbers: Weights of the device that are multiplied in few bits.

    >>> quantize_weights(RECIPES["mxfp8"], 1e9).write[ONE] / 1e9
    2.0625
    """
    read = numbers * WIDE_BYTES * (1.0 + recipe.amax_reads)
    return Operation("quantize_weights", "elementwise", 1.0, {ONE: 3.0 * numbers}, {ONE: read}, {ONE: COPIES * recipe.copy_bytes * numbers})


def quantized_share(table: OpTable, recipe: TrainingRecipe | None) -> float:
    """Return how many of the weights that a table holds are multiplied in few bits."""
    if recipe is None:
        return 0.0
    total = held = 0.0
    for op in table.operations:
        if op.weight_bytes:
            low = is_quantized(op, recipe)
            numbers = op.count * op.weight_bytes / (recipe.copy_bytes if low else WIDE_BYTES)
            total, held = total + numbers, held + numbers * low
    return held / total
