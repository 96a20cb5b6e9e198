"""Requests drawn from the summary statistics of published traces, for where the traces themselves are absent."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from effsim.workload.traces import FloatArray, IntArray, Trace

_DRAWN_AT_ONCE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Statistics:
    """Summary of a trace: arrivals per twelfth, quantiles of prompts, quantiles of outputs given the prompt.

    Args:
        label: What reports call the trace.
        duration_s: From first to last arrival [s].
        arrivals: Requests in each twelfth.
        prompt_shares: Cumulative shares at which ``prompt_tokens`` are given.
        prompt_tokens: Quantiles of the prompt.
        output_shares: Likewise of the output.
        output_tokens: Per row: prompt length from which it holds, quantiles of the output there.
    """

    label: str
    duration_s: float
    arrivals: tuple[int, ...]
    prompt_shares: tuple[float, ...]
    prompt_tokens: tuple[int, ...]
    output_shares: tuple[float, ...]
    output_tokens: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def requests(self) -> int:
        """Requests of the trace."""
        return sum(self.arrivals)


_OUTPUT_SHARES: Final = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
TRACES: Final = {
    "azure_llm_2023_conv.csv": Statistics(
        label="conversation",
        duration_s=3501.72,
        arrivals=(1403, 1384, 1515, 1498, 1808, 2131, 2192, 1897, 1632, 1503, 1275, 1128),
        prompt_shares=(0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8,
                       0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99, 0.995, 0.999, 1),
        prompt_tokens=(2, 29, 91, 181, 207, 372, 387, 396, 403, 414, 703, 984, 1020, 1045, 1071, 1097, 1130, 1189, 1315,
                       1876, 2734, 4073, 4079, 4086, 4098, 4142, 4831, 6179, 14050),
        output_shares=_OUTPUT_SHARES,
        output_tokens=(
            (0, (11, 12, 12, 51, 132, 165, 194, 205, 233, 265)),
            (150, (14, 48, 65, 101, 162, 189, 217, 217, 291, 1000)),
            (250, (7, 50, 62, 81, 93, 106, 129, 144, 175, 436)),
            (450, (10, 40, 50, 75, 93, 113, 131, 164, 395, 739)),
            (800, (27, 56, 80, 105, 394, 415, 445, 499, 602, 921)),
            (1000, (28, 120, 375, 394, 406, 428, 489, 558, 659, 1000)),
            (1200, (24, 50, 65, 105, 169, 368, 414, 438, 594, 954)),
            (1600, (15, 43, 49, 66, 88, 113, 143, 159, 200, 458)),
            (3000, (17, 30, 35, 42, 57, 84, 130, 154, 240, 757)),
        ),
    ),
    "azure_llm_2023_code.csv": Statistics(
        label="code",
        duration_s=3435.95,
        arrivals=(738, 449, 936, 1217, 1186, 827, 973, 822, 569, 383, 203, 515),
        prompt_shares=(0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.95, 0.97, 1),
        prompt_tokens=(3, 17, 75, 147, 385, 770, 1075, 1469, 1909, 2433, 2744, 3192, 3920, 5187, 5959, 7303, 7435, 7437),
        output_shares=(0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.85, 0.9, 0.95, 0.98, 0.99, 0.996, 0.999, 1),
        output_tokens=((0, (6, 7, 9, 11, 13, 16, 24, 39, 55, 90, 170, 251, 401, 825, 1899)),),  # hardly depends on the prompt
    ),
}  # fmt: skip
"""By file name. Computed from Azure Public Dataset, AzureLLMInferenceTrace_conv and _code (2023), CC-BY 4.0; Patel et al., Splitwise, ISCA 2024."""


def synthetic_trace(file_name: str, seed: int, requests: int | None = None) -> Trace:
    """Return requests drawn from the statistics of a published trace.

    Arrivals: a Poisson process whose rate follows the requests in each twelfth of the trace, repeated where more requests
    are asked for. Lengths: quantiles of the prompt, then of the output given the prompt; neighbours are independent.

    Args:
        file_name: A key of :data:`TRACES`.
        seed: Equal seeds give equal traces.
        requests: None: as many as the trace has.
    """
    known = TRACES[file_name]
    count = known.requests if requests is None else requests
    random = tuple(np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3))
    arrival_s, prompts, outputs = np.empty(count), np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    so_far = 0.0
    for first in range(0, count, _DRAWN_AT_ONCE):
        part = slice(first, min(first + _DRAWN_AT_ONCE, count))
        so_far = _draw(known, random, so_far, (arrival_s[part], prompts[part], outputs[part]))
    for values in (arrival_s, prompts, outputs):
        values.flags.writeable = False
    origin = f"synthetic: drawn from statistics of the Azure LLM inference trace 2023 ({known.label}), which was not found"
    return Trace(f"{file_name.removesuffix('.csv')} (synthetic)", origin, arrival_s, prompts, outputs)


def _draw(known: Statistics, random: tuple[np.random.Generator, ...], so_far: float, into: tuple[FloatArray, IntArray, IntArray]) -> float:
    """Draw arrivals, prompts and outputs of one part of the requests; ``so_far`` and what is returned are requests expected by its ends."""
    gap_stream, prompt_stream, output_stream = random
    arrival_s, prompts, outputs = into
    gaps = gap_stream.exponential(size=arrival_s.size)
    gaps[0] += so_far
    expected = np.cumsum(gaps)
    periods, within = np.divmod(expected, known.requests)
    steps = np.concatenate(([0.0], np.cumsum(known.arrivals)))
    arrival_s[:] = periods * known.duration_s + np.interp(within, steps, np.linspace(0.0, known.duration_s, steps.size))
    prompts[:] = np.interp(prompt_stream.random(prompts.size), known.prompt_shares, known.prompt_tokens)
    rows = np.searchsorted([start for start, _ in known.output_tokens], prompts, side="right") - 1
    shares = output_stream.random(prompts.size)
    for row, (_, quantiles) in enumerate(known.output_tokens):
        here = rows == row
        outputs[here] = np.interp(shares[here], known.output_shares, quantiles)
    return float(expected[-1])
