"""From the forward operations of a micro-batch to its backward and recomputed ones, and what must be kept between them."""

import dataclasses
from typing import Final

import numpy as np

from effsim.catalog import suggest
from effsim.errors import SpecError, shown
from effsim.workload.adapters import is_adapter
from effsim.workload.features import ONE, PREFILL_TOKENS, TOKENS, Feature
from effsim.workload.layers.common import scaled
from effsim.workload.operations import Array, Linear, Operation, OpTable, build_table

Recompute = str
MODES: Final = ("none", "selective", "alternate", "minimal", "minimal_flash", "full")
MODULES: Final = ("core_attn", "layernorm", "mla_up_proj", "mlp", "moe", "moe_act", "shared_experts")
"""Parts that Megatron Core recomputes one by one (``--recompute-modules``, user guide, 2025); joined by ``+``, as ``layernorm+moe_act``."""

LONG_INNER = 8192  # K of a weight gradient is the token count, always long enough to split
_ENDS = {"embedding", "logits", "cross_entropy"}
_FIRST = {"attention.qkv", "attention.down", "mamba.input", "delta_net.input"}
_LAST = {"ffn.down", "moe.down", "moe.combine"}
_WIDEST = {"attention.qkv", "attention.down", "mamba.input", "delta_net.input", "ffn.up", "logits", "layer_0"}
_FROM_RESIDUAL = {*_WIDEST, "moe.router"}
"""Products whose input is the normalised residual stream, gathered from the sequence shards that are kept."""
_SAME_INPUT = {"attention.head_gate", "indexer.key", "moe.latent_down", "moe.shared_up", "moe.shared_gate"}
"""Products that read the same input once more."""


def backward(table: OpTable, *, frozen: bool = False, gradient_bytes: float = 4.0) -> OpTable:
    """Return the backward pass of a forward table.

    A product gives two of its own size, for its input and for its weight (whose gradient is added to a sum); tiled attention
    five products for two (scores are recomputed on chip; Dao, arXiv:2307.08691); elementwise work twice; collectives as many again, but
    twice the bytes round a ring of context ranks: keys and values, and beside them their gradients (Liu et al., arXiv:2310.01889).
    Where products take operands of few bits, the gradient of each output is quantised, too.

    Args:
        table: Of the forward pass.
        frozen: Only adapters are trained: other weights have no gradient.
        gradient_bytes: Of a weight's gradient in the sum [bytes].
    """
    found: list[Operation] = []
    products = {op.name: op for op in reversed(table.operations) if op.kind in {"gemm", "grouped_gemm"}}
    for op in table.operations:
        if op.kind in {"gemm", "grouped_gemm"}:
            found.append(_input_gradient(op))
            if not frozen or is_adapter(op):
                found.append(_weight_gradient(op, gradient_bytes))
        elif frozen and op.kind == "embedding":
            continue
        elif op.name.endswith(".cast"):
            product = products[op.name.removesuffix(".cast")]
            found.append(_times(op, product.cols / product.inner))
        else:
            factor = 2.5 if op.kind == "prefill_attention" else 1.0 if op.kind == "collective" else 2.0
            found.append(_times(op, factor) if op.name != "attention.ring" else _ring_gradient(op))
    return build_table(found, table.parallelism, weight_bytes=table.weight_bytes, parameters=table.parameters)


def _times(op: Operation, factor: float) -> Operation:
    return dataclasses.replace(op, name=f"{op.name}.backward", flop=scaled(op.flop, factor), read=scaled(op.read, factor), write=scaled(op.write, factor))


def _ring_gradient(op: Operation) -> Operation:
    return dataclasses.replace(op, name=f"{op.name}.backward", payload=scaled(op.payload, 2.0))


def _input_gradient(op: Operation) -> Operation:
    return dataclasses.replace(op, name=f"{op.name}.input_gradient", cols=op.inner, inner=op.cols, weight_bytes=0.0)


def _weight_gradient(op: Operation, gradient_bytes: float) -> Operation:
    """Return the weight's gradient: the input K x M by the output's gradient M x N, read with the running sum and written back."""
    held: Linear = op.groups if op.groups else {ONE: 1.0}
    activations = {feature: c + op.write.get(feature, 0.0) for feature, c in op.read.items() if feature not in held and feature.kind != "one"}
    accumulated = scaled(held, gradient_bytes * op.cols * op.inner)
    return dataclasses.replace(
        op,
        name=f"{op.name}.weight_gradient",
        read={**activations, **{f: c + activations.get(f, 0.0) for f, c in accumulated.items()}},
        write=accumulated,
        rows=scaled(held, float(op.inner)),
        inner=LONG_INNER,
        weight_bytes=0.0,
        dequantize_flop=0.0,
    )


def check_recompute(recompute: Recompute) -> frozenset[str]:
    """Return the modules that a choice of recomputation names; empty for the modes of :data:`MODES` but ``selective``.

    Raises:
        SpecError: Neither a mode nor modules joined by ``+``.

    >>> sorted(check_recompute("moe_act+layernorm")), sorted(check_recompute("selective")), sorted(check_recompute("full"))
    (['layernorm', 'moe_act'], ['core_attn'], [])
    """
    allowed = f"allowed: {', '.join(MODES)}, or of {', '.join(MODULES)} some joined by +"
    if not isinstance(recompute, str):
        raise SpecError(f"recompute: expected a name, got {shown(recompute)}; {allowed}")
    if recompute in MODES:
        return frozenset({"core_attn"} if recompute == "selective" else ())
    parts = recompute.split("+")
    for part in parts:
        if part not in MODULES:
            raise SpecError(f"recompute: unknown {part!r}; {suggest(part, (*MODES, *MODULES))}{allowed}")
    return frozenset(parts)


def recomputed(table: OpTable, mode: Recompute, *, last_product: bool = True) -> OpTable | None:
    """Return what backward runs again of the forward pass, or nothing.

    Args:
        table: Of the forward pass.
        mode: ``none``; ``selective``: attention scores (Korthikanti et al., arXiv:2205.05198, section 5); ``alternate``: every
            second product of a layer and all elementwise work, attention kept (torchtitan, ``selective_ac_option = "op"``, 2024 to
            2025); query, key, value, gate and up count as products of their own, experts as half of theirs. Results of
            reduce-scatters are kept, those of all-gathers are not;
            ``minimal``: all but the products, whose outputs are kept (MaxText's policy of this name, JAX's
            ``checkpoint_dots_with_no_batch_dims``); ``minimal_flash``: that with attention kept, too; ``full``: every layer;
            or modules, see :data:`MODULES`.
        last_product: Whether ``full`` repeats the last product of a layer, whose output nothing needs: checkpoints by module do,
            compilers and early-stopping checkpoints do not.
    """
    modules = check_recompute(mode)
    if mode == "none":
        return None
    second = _second_products(table) if mode == "alternate" else {}
    again = [(op, _of_modules(op, modules) if modules else second.get(op.name, _of_mode(op, mode, last_product=last_product))) for op in table.operations]
    ops = [dataclasses.replace(op, name=f"{op.name}.recomputed", count=op.count * times) for op, times in again if times]
    return build_table(ops, table.parallelism) if ops else None


_OF_MODE: Final = {
    "alternate": {"grouped_gemm": 0.5, "elementwise": 1.0},
    "minimal": {"elementwise": 1.0, "prefill_attention": 1.0, "scan": 1.0},
    "minimal_flash": {"elementwise": 1.0},
}
"""Times that an operation of a kind runs again."""


def _second_products(table: OpTable) -> dict[str, float]:
    """Return, for each product of a layer, the share of its columns that belongs to every second product of the layer."""
    inner = {op.name: op.inner for op in table.operations}
    shares: dict[str, float] = {}
    place = 0
    for op in table.operations:
        if op.kind != "gemm" or op.name in _ENDS or op.name in shares:
            continue
        place = 0 if op.name in _FIRST else place
        columns = _separate(op, inner)
        shares[op.name] = sum(width for number, width in enumerate(columns, place + 1) if number % 2 == 0) / op.cols
        place += len(columns)
    return shares


def _separate(op: Operation, inner: dict[str, int]) -> list[float]:
    """Return the columns of the products that an engine without fused weights runs in place of one."""
    query = float(inner.get("attention.output", op.cols))
    if op.name == "attention.qkv" and op.cols > query:
        return [query, (op.cols - query) / 2.0, (op.cols - query) / 2.0]
    if op.name in {"ffn.up", "moe.shared_up"} and op.cols == 2 * inner.get(f"{op.name.removesuffix('up')}down", 0):
        return [op.cols / 2.0, op.cols / 2.0]
    return [float(op.cols)]


def _of_mode(op: Operation, mode: Recompute, *, last_product: bool) -> float:
    if op.name in _ENDS or op.name.startswith(("embedding", "pipeline")):
        return 0.0
    if mode == "alternate" and op.name.endswith(".all_gather"):
        return 1.0
    if mode in _OF_MODE:
        return _OF_MODE[mode].get(op.kind, 0.0)
    return 0.0 if op.name in _LAST and not last_product else 1.0


_RUN_AGAIN: Final = {
    "layernorm": ("norm",),
    "mla_up_proj": ("attention.query_up", "attention.kv_up", "attention.rotary"),
    "mlp": ("ffn.",),
    "moe": ("moe.",),
    "moe_act": ("moe.activation",),
    "shared_experts": ("moe.shared_",),
}
"""Names, or beginnings of names, of what a module runs again."""

_DROPPED: Final = {
    "layernorm": ("attention.qkv", "attention.down", "mamba.input", "delta_net.input", "ffn.up", "moe.up", "moe.router"),
    "mla_up_proj": ("attention.prefill",),
    "mlp": ("ffn.activation", "ffn.down"),
    "moe": ("moe.up", "moe.activation", "moe.down"),
    "moe_act": ("moe.down",),
    "shared_experts": ("moe.shared_activation", "moe.shared_down"),
}
"""Operations whose inputs a module brings back instead of keeping them. The experts' inputs are dispatched copies of the norm's output:
``layernorm`` brings back what goes into the dispatch, not those."""


def _of_modules(op: Operation, modules: frozenset[str]) -> float:
    if "core_attn" in modules and op.kind == "prefill_attention":
        return 1.0
    name = op.name
    for module in modules:
        for start in _RUN_AGAIN.get(module, ()):
            if name == start or (start.endswith((".", "_")) and name.startswith(start)):
                return 1.0
    return 0.0


def activation_bytes(table: OpTable, features: Array, mode: Recompute, layers: int, *, frozen: bool = False) -> Array:
    """Return what one micro-batch keeps for its backward pass over all stages on one tensor rank [bytes], shape (iteration,).

    Kept: the inputs of products (shared under sequence parallelism where they are the residual stream), of norms and activations,
    and queries, keys and values of attention; with full recomputation only each layer's input. For a GPT block this sums to the
    34 s·b·h bytes of Korthikanti et al., arXiv:2205.05198, equation 1, less two dropout masks; attention that is not tiled keeps the
    5 a·s²·b bytes of its scores, too, unless it is recomputed. A frozen product keeps nothing: its input is for the gradient that it
    does not have; its adapters keep theirs.
    """
    modules = check_recompute(mode)
    tensor = table.parallelism.tensor if table.parallelism.sequence else 1
    index = {feature: place for place, feature in enumerate(table.features)}
    tokens = features[index[TOKENS]] if TOKENS in index else features[index[PREFILL_TOKENS]]
    inputs: Array = layers * _residual_width(table) * 2.0 * tokens / tensor
    if mode == "full":
        return inputs
    if mode in {"minimal", "minimal_flash"}:
        return inputs + _outputs_of_products(table, features, tensor, attention=mode == "minimal_flash")
    dropped = {name for module in modules for name in _DROPPED.get(module, ())} - ({"moe.up"} if "moe" not in modules else set())
    total = np.zeros(features.shape[1])
    for row, op in enumerate(table.operations):
        if op.kind in {"collective", "embedding", "sampling"} or op.name in {"logits", "cross_entropy", "attention.rotary", "moe.combine", *_SAME_INPUT}:
            continue
        if op.name.endswith(".cast") or op.name in dropped:  # of a cast the low-precision copy is kept, by the product
            continue
        if frozen and op.kind in {"gemm", "grouped_gemm"} and not is_adapter(op):
            continue
        scores = 0.0 if "core_attn" in modules else _KEPT_OF_SCORES
        kept = np.array([_kept(f, c, op, scores) for f, c in zip(table.features, table.read[row], strict=True)])
        share = 0.5 if op.name in {"norm", "final_norm"} else 1.0  # the residual half of its input is kept by nobody
        shared = tensor if op.name.removesuffix(".adapter_down") in _FROM_RESIDUAL else 1
        kept_share = 0.5 if mode == "alternate" and op.kind != "prefill_attention" else 1.0
        total += kept_share * op.count * share * (kept @ features) / shared
    return total


_KEPT_OF_SCORES: Final = 5.0 / 6.0
"""Of the bytes that naive attention reads of a score in training (three times 2): softmax output 2, dropout mask 1, dropout output 2
(Korthikanti et al., arXiv:2205.05198, section 4.1)."""


def _kept(feature: Feature, coefficient: float, op: Operation, scores: float) -> float:
    if feature.kind == "one" or feature in op.groups:
        return 0.0
    return coefficient * scores if feature.kind == "prefill_pairs" else coefficient


def _outputs_of_products(table: OpTable, features: Array, tensor: int, *, attention: bool) -> Array:
    """Return the outputs of products, and of attention, over all layers [bytes]; a layer's last one is kept by nobody."""
    total: Array = np.zeros(features.shape[1])
    for row, op in enumerate(table.operations):
        if op.name in _ENDS or op.name in _LAST or op.kind not in {"gemm", "grouped_gemm", "prefill_attention"}:
            continue
        if op.kind == "prefill_attention" and not attention:
            continue
        linear = np.array([0.0 if f.kind == "prefill_pairs" else c for f, c in zip(table.features, table.write[row], strict=True)])
        total += op.count * (linear @ features) / (tensor if op.name == "attention.output" else 1)
    return total


def _residual_width(table: OpTable) -> int:
    return max(
        (op.inner for op in table.operations if op.name in _WIDEST),
        default=1,
    )
