"""What steady state is made of: passes that only decode, and passes that carry newcomers' prompts.

As requests finish, others take their places: ``batch / output_tokens`` newcomers per pass in the mean. They come in groups of
:data:`NEWCOMERS_TOGETHER`, groups are Poisson, prompt lengths log-normal: the tokens of a pass are compound Poisson. The mean time per
token is that of the mixture; the median of inter-token latencies is the latency of a pass with the median of tokens.
"""

import functools
import math
from typing import Any, Final, NamedTuple

import numpy as np

from effsim.workload.features import Iteration

PROMPT_CV: Final = 1.15
"""Standard deviation of prompt lengths over their mean: 1.15 in conversations, 0.86 in code completion (Azure LLM inference traces, 2023)."""


NEWCOMERS_TOGETHER: Final = 1.3
"""Newcomers that enter a pass together where any do: client and scheduler answer once per pass (assumed; passes with prefill are rarer for it)."""


@functools.cache
def _arrival_table() -> tuple[Any, Any]:
    """Return newcomers per pass and the median of what they bring, in mean prompts: compound Poisson, log-normal lengths.

    By discrete Fourier transform of the distribution on a grid of 1/64 mean prompts.
    """
    rates = np.concatenate([[0.0], np.geomspace(math.log(2.0) * 1.0001, 64.0, 60)])
    cells, width = 1 << 14, 1.0 / 64.0
    spread = math.sqrt(math.log1p(PROMPT_CV**2))
    edges = (np.arange(cells) + 0.5) * width
    below = np.array([0.5 * (1.0 + math.erf((math.log(edge) + 0.5 * spread**2) / (spread * math.sqrt(2.0)))) for edge in edges])
    shape = np.fft.rfft(np.diff(below, prepend=0.0))
    medians = [0.0]
    for rate in rates[1:]:
        cumulative = np.cumsum(np.fft.irfft(np.exp(rate * (shape - 1.0)), cells))
        medians.append(float(np.searchsorted(cumulative, 0.5)) * width)
    return np.concatenate([[0.0, math.log(2.0)], rates[1:]]), np.concatenate([[0.0, 0.0], medians[1:]])


def median_arrivals(rate: Any) -> Any:
    """Return the median of the prompt tokens that arrive in a pass, in mean prompts, for so many newcomers per pass in the mean.

    Zero up to log 2 newcomers, as then most passes have none; near the mean for many.

    >>> float(median_arrivals(0.5)), 9.0 < float(median_arrivals(10.0)) < 10.0
    (0.0, True)
    """
    rates, medians = _arrival_table()
    return np.where(rate > rates[-1], rate, np.interp(rate, rates, medians))


class Load(NamedTuple):
    """Loads to evaluate, shape (load,): requests decoding together, prompt and output tokens, tokens per iteration at most."""

    batch: Any
    prompt_tokens: Any
    output_tokens: Any
    max_num_batched_tokens: Any


class Pace(NamedTuple):
    """How prompts enter a batch, shape (load,).

    Args:
        micro: Micro-batches that the pipeline's stages work on at once.
        rate: Newcomers per pass, in the mean.
        per_pass: Prompt tokens that a pass has room for beside the decoding requests.
        share: Of passes that carry prefill: ``1 - exp(-rate / together)``, more where the token budget spreads prompts over more passes.
        chunks: Passes that one prompt takes.
    """

    micro: Any
    rate: Any
    per_pass: Any
    share: Any
    chunks: Any


def pace(load: Load, stages: int, computed_share: float) -> Pace:
    """Return how prompts enter a batch on a pipeline of ``stages``; ``computed_share`` of them is not in the prefix cache."""
    b, p, o, most = load
    micro = np.minimum(stages, b)
    rate = b / o / micro
    per_pass = np.maximum(most - b / micro, 1.0)
    share = np.minimum(np.maximum(-np.expm1(-rate / NEWCOMERS_TOGETHER), rate * p * computed_share / per_pass), 1.0)
    return Pace(micro, rate, per_pass, share, np.ceil(p / np.maximum(most - (b - 1.0) / micro, 1.0)))


def _with_prefill(seqs: Any, prompt: tuple[Any, float], tokens: Any, running: dict[str, Any]) -> Iteration:
    """Return an iteration with so many prompt tokens; of each prompt a share is computed, in equal chunks, behind the rest of it."""
    whole, computed = prompt
    fresh = whole * computed
    chunk = np.minimum(fresh, np.maximum(tokens, 1.0))
    count, before = tokens / chunk, whole - fresh + (fresh - chunk) / 2
    return Iteration(seqs, **running, prefill_seqs=count, prefill_tokens=chunk, prefill_before=before, completed_prefills=count * chunk / fresh)


def cases(load: Load, stages: int, computed_share: float) -> dict[str, Iteration]:
    """Return the iterations that steady state is made of; ``computed_share`` of newcomers' prompts is not in the prefix cache.

    ``decode``: no newcomer. ``mixed``: the mean of those with newcomers. ``median``: with the median of prompt tokens.
    ``first``: one request's prompt among the others' decoding, in as many equal chunks as the token budget asks for.
    """
    b, p, o, _ = load
    micro, rate, per_pass, share, chunks = pace(load, stages, computed_share)
    tokens = np.minimum(rate * p * computed_share / share, per_pass)
    median = np.minimum(NEWCOMERS_TOGETHER * median_arrivals(rate / NEWCOMERS_TOGETHER) * p * computed_share, per_pass)
    running = {"decode_from": p + 1.0, "decode_to": p + o}
    return {
        "decode": Iteration(b / micro, **running),
        "mixed": _with_prefill(b / micro, (p, computed_share), tokens, running),
        "median": _with_prefill(b / micro, (p, computed_share), median, running),
        "first": Iteration(
            (b - 1.0) / micro, **running, prefill_seqs=1.0, prefill_tokens=p / chunks, prefill_before=(p - p / chunks) / 2, completed_prefills=1.0 / chunks
        ),
    }
