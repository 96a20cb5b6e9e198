"""What an iteration holds, as the few numbers in which every count is linear.

The FLOPs and bytes of an operation are linear in: 1, the tokens of the iteration, its sequences, the keys that its queries
read, the experts that its tokens touch. An architecture is therefore lowered once, to a matrix of coefficients; an
iteration, or a hundred thousand of them, is one vector or matrix of features.
"""

import functools
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np


class Feature(NamedTuple):
    """One column of the coefficient matrix; the parameters matter only for the kinds that use them.

    ``window`` and ``chunk`` limit attention (0: no limit); ``experts``, ``top_k``, ``local`` and ``spread`` describe a
    mixture: ``local`` of its experts lie on the device, which sees the tokens of ``spread`` data-parallel ranks.
    """

    kind: str
    window: int = 0
    chunk: int = 0
    causal: bool = True
    experts: int = 0
    top_k: int = 0
    local: float = 0.0
    spread: int = 1


ONE = Feature("one")
TOKENS = Feature("tokens")
PREFILL_TOKENS = Feature("prefill_tokens")
DECODE_SEQS = Feature("decode_seqs")
SEQS = Feature("seqs")
LOGIT_ROWS = Feature("logit_rows")


def keys_up_to(position: Any, window: int = 0, chunk: int = 0) -> Any:
    """Return the sum, over causal queries at positions 1 to ``position``, of the keys that each reads [key].

    Unlimited: ``x (x + 1) / 2``. A window ``w`` caps each query at ``w`` keys; chunks of ``c`` restart the count.

    >>> float(keys_up_to(4.0)), float(keys_up_to(4.0, window=2)), float(keys_up_to(4.0, chunk=2))
    (10.0, 7.0, 6.0)
    """
    if chunk:
        full = np.floor(position / chunk)
        rest = position - full * chunk
        return full * (chunk * (chunk + 1) / 2) + rest * (rest + 1) / 2
    if not window:
        return position * (position + 1) / 2
    inside = np.minimum(position, window)
    return inside * (inside + 1) / 2 + (position - inside) * window


def distinct_experts(tokens: Any, experts: int, top_k: int, local: float) -> Any:
    """Return the expected number of a device's experts that at least one token chooses.

    ``d = local · p``, ``p = 1 - (1 - top_k / experts)^tokens``: tokens choose independently and evenly; uneven routing is a coefficient
    of the cost model, not a count. Where ``R = experts / local`` ranks share the experts, all wait for the one with most:
    ``d + z sqrt(d (1 - p))``, with z the expected largest of R standard normals, ``Phi^-1((R - 0.375) / (R + 0.25))`` (Blom, 1958),
    at most ``local``.

    >>> float(distinct_experts(1.0, 8, 2, 8.0)), round(float(distinct_experts(8.0, 128, 8, 16.0)), 2)
    (2.0, 9.27)
    """
    share = 1.0 - (1.0 - top_k / experts) ** tokens
    if local >= experts:
        return local * share
    largest = _largest_normal(experts / local)
    return np.minimum(local * share + largest * np.sqrt(local * share * (1.0 - share)), local)


@functools.cache
def _largest_normal(ranks: float) -> float:
    return NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25))


class Iteration(NamedTuple):
    """An iteration, or many (arrays that broadcast).

    Args:
        decode_seqs: Sequences that produce one token each.
        decode_from: Each has between ``decode_from`` ...
        decode_to: ... and ``decode_to`` tokens of context, evenly spread, its new token included.
        prefill_seqs: Sequences that have a chunk of their prompt computed.
        prefill_tokens: New tokens of each such chunk.
        prefill_before: Tokens already in the cache before the chunk.
        completed_prefills: Chunks that finish their prompt, hence sample a token.
    """

    decode_seqs: Any = 0.0
    decode_from: Any = 1.0
    decode_to: Any = 1.0
    prefill_seqs: Any = 0.0
    prefill_tokens: Any = 0.0
    prefill_before: Any = 0.0
    completed_prefills: Any = 0.0


def join(iterations: Sequence[Iteration], width: int) -> Iteration:
    """Return several iterations, each of ``width`` cases, side by side as one."""
    joined = np.empty((len(Iteration._fields), len(iterations), width))
    for place, iteration in enumerate(iterations):
        for field, value in enumerate(iteration):
            joined[field, place] = value
    return Iteration(*joined.reshape(len(Iteration._fields), -1))


def feature_matrix(features: tuple[Feature, ...], iteration: Iteration) -> Any:
    """Return the value of each feature in each iteration, shape (feature, iteration)."""
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(part, dtype=float)) for part in iteration))
    it = Iteration(*(array.ravel() for array in arrays))
    values = np.empty((len(features), len(it.decode_seqs)))
    for row, feature in enumerate(features):
        values[row] = _value(feature, it)
    return values


_COUNTS: Final[dict[str, Callable[[Iteration], Any]]] = {
    "one": lambda _: 1.0,
    "tokens": lambda it: it.decode_seqs + it.prefill_seqs * it.prefill_tokens,
    "prefill_tokens": lambda it: it.prefill_seqs * it.prefill_tokens,
    "decode_seqs": lambda it: it.decode_seqs,
    "seqs": lambda it: it.decode_seqs + it.prefill_seqs,
    "logit_rows": lambda it: it.decode_seqs + it.completed_prefills,
}


def _value(feature: Feature, it: Iteration) -> Any:
    if feature.kind in _COUNTS:
        return _COUNTS[feature.kind](it)
    if feature.kind == "distinct_experts":
        return distinct_experts(_COUNTS["tokens"](it) * feature.spread, feature.experts, feature.top_k, feature.local)
    return _attention_value(feature, it)


def _attention_value(feature: Feature, it: Iteration) -> Any:
    window, chunk = feature.window, feature.chunk
    if feature.kind == "decode_keys":
        spread = np.maximum(it.decode_to - it.decode_from + 1.0, 1.0)
        keys = keys_up_to(it.decode_to, window, chunk) - keys_up_to(it.decode_to - spread, window, chunk)
        return it.decode_seqs * keys / spread
    end = it.prefill_before + it.prefill_tokens
    if feature.kind == "prefill_pairs":
        if not feature.causal:
            return it.prefill_seqs * it.prefill_tokens * end
        return it.prefill_seqs * (keys_up_to(end, window, chunk) - keys_up_to(it.prefill_before, window, chunk))
    if feature.kind == "prefill_keys":
        return it.prefill_seqs * (it.prefill_tokens + _cached_keys(it.prefill_before, window, chunk))
    raise ValueError(f"no such feature: {feature}")


def _cached_keys(before: Any, window: int, chunk: int) -> Any:
    if chunk:
        return before % chunk
    return np.minimum(before, window) if window else before
