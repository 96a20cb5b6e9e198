"""A small decoder-only transformer with random weights, from token embeddings to the next token: whole prompts, and one token at a time."""

from dataclasses import dataclass
from typing import Any

from effsim.bench.case import Case, Work
from effsim.bench.devices.base import ITEM_BYTES, Device

KERNELS_BY_LAYER = ("rms_norm", "qkv", "attention", "output", "rms_norm", "gate_up", "silu_mul", "down")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a model with grouped-query attention and a gated feed-forward part; rotary embedding is left out, adding a few percent at most."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int

    @property
    def weights(self) -> int:
        """Elements multiplied by each token: layers and the logits' matrix."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.ffn) + self.hidden * self.vocabulary


LARGE = Sizes(16, 2048, 32, 8, 64, 8192, 32_768)
"""Layers and widths of Llama-3.2-1B (Meta, config.json), with a smaller vocabulary."""
SMALL = Sizes(4, 256, 8, 2, 32, 1024, 4096)


def cases(device: Device, quick: bool) -> list[Case]:
    """Return decoding at a small and a larger batch, and prompts."""
    sizes = LARGE if device.large else SMALL
    decode = ((1, 1024), (32, 1024), (128, 1024)) if device.large else ((1, 128), (8, 128))
    prefill = ((1, 2048), (8, 512)) if device.large else ((1, 128), (4, 64))
    found = [decode_case(sizes, shape, device.native) for shape in (decode[:2] if quick else decode)]
    return [*found[:1], *(prefill_case(sizes, shape, device.native) for shape in (prefill[:1] if quick else prefill)), *found[1:]]


def _shape(sizes: Sizes, batch: int, context: int) -> dict[str, int | str]:
    names = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocabulary")
    return {"batch": batch, "context": context, **{name: getattr(sizes, name) for name in names}}


def decode_case(sizes: Sizes, shape: tuple[int, int], dtype: str) -> Case:
    """Return one step for each sequence of a batch: weights once, the cache of ``context`` tokens each."""
    batch, context = shape
    cached = 2.0 * batch * context * sizes.kv_heads * sizes.head_dim * sizes.layers * ITEM_BYTES[dtype]
    flop = 2.0 * batch * sizes.weights + 4.0 * batch * context * sizes.heads * sizes.head_dim * sizes.layers
    return Case("transformer_decode", _shape(sizes, batch, context), dtype, flop=flop, bytes=sizes.weights * ITEM_BYTES[dtype] + cached)


def prefill_case(sizes: Sizes, shape: tuple[int, int], dtype: str) -> Case:
    """Return prompts of ``context`` tokens, logits for the last token of each."""
    batch, context = shape
    body = sizes.weights - sizes.hidden * sizes.vocabulary
    pairs = context * (context + 1) / 2.0
    flop = 2.0 * batch * (context * body + sizes.hidden * sizes.vocabulary) + 4.0 * batch * pairs * sizes.heads * sizes.head_dim * sizes.layers
    return Case("transformer_prefill", _shape(sizes, batch, context), dtype, flop=flop, bytes=float(sizes.weights * ITEM_BYTES[dtype]))


def prepare(case: Case, device: Device) -> Work:
    """Make the model, and for decoding a full cache whose last place each step writes anew."""
    sizes = Sizes(*(case.whole(name) for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocabulary")))
    model = _Model(sizes, device, case.dtype)
    batch, context = case.whole("batch"), case.whole("context")
    if case.kind == "transformer_prefill":
        prompt = device.random((batch, context, sizes.hidden), case.dtype)
        return Work(lambda: model.prefill(prompt), f"{device.facts.library}, {len(KERNELS_BY_LAYER)} kernels or more per layer")
    token = device.random((batch, 1, sizes.hidden), case.dtype)
    cache = [tuple(device.random((batch, sizes.kv_heads, context, sizes.head_dim), case.dtype) for _ in range(2)) for _ in range(sizes.layers)]
    return Work(lambda: model.decode(token, cache), f"{device.facts.library}, {len(KERNELS_BY_LAYER)} kernels or more per layer")


class _Model:
    def __init__(self, sizes: Sizes, device: Device, dtype: str) -> None:
        self.sizes, self.device = sizes, device
        inner, shared = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
        scale = sizes.hidden**-0.5

        def weights(rows: int, cols: int) -> Any:
            matrix = device.random((cols, rows), dtype)
            matrix *= scale
            return matrix.T

        self.layers = [
            {
                "qkv": weights(sizes.hidden, inner + 2 * shared),
                "output": weights(inner, sizes.hidden),
                "gate_up": weights(sizes.hidden, 2 * sizes.ffn),
                "down": weights(sizes.ffn, sizes.hidden),
            }
            for _ in range(sizes.layers)
        ]
        self.norm = device.random((sizes.hidden,), dtype)
        self.logits = weights(sizes.hidden, sizes.vocabulary)

    def prefill(self, hidden: Any) -> Any:
        for layer in self.layers:
            query, key, value = self._heads(hidden, layer)
            hidden = self._rest(hidden, self.device.attention(query, key, value, causal=True), layer)
        return self._next(hidden)

    def decode(self, hidden: Any, cache: list[Any]) -> Any:
        for layer, (keys, values) in zip(self.layers, cache, strict=True):
            query, key, value = self._heads(hidden, layer)
            keys[:, :, -1:] = key
            values[:, :, -1:] = value
            hidden = self._rest(hidden, self.device.attention(query, keys, values, causal=False), layer)
        return self._next(hidden)

    def _heads(self, hidden: Any, layer: dict[str, Any]) -> tuple[Any, Any, Any]:
        sizes = self.sizes
        batch, tokens = hidden.shape[:2]
        mixed = self.device.normalized(hidden, self.norm) @ layer["qkv"]
        each = mixed.reshape(batch, tokens, sizes.heads + 2 * sizes.kv_heads, sizes.head_dim).swapaxes(1, 2)
        return each[:, : sizes.heads], each[:, sizes.heads : sizes.heads + sizes.kv_heads], each[:, sizes.heads + sizes.kv_heads :]

    def _rest(self, hidden: Any, attended: Any, layer: dict[str, Any]) -> Any:
        batch, tokens = hidden.shape[:2]
        hidden = hidden + attended.swapaxes(1, 2).reshape(batch, tokens, -1) @ layer["output"]
        both = self.device.normalized(hidden, self.norm) @ layer["gate_up"]
        gate, up = both[..., : self.sizes.ffn], both[..., self.sizes.ffn :]
        return hidden + self.device.gated(gate, up) @ layer["down"]

    def _next(self, hidden: Any) -> Any:
        return (self.device.normalized(hidden[:, -1], self.norm) @ self.logits).argmax(-1)
