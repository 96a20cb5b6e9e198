"""Costs of iterations that only decode, so that many of them are one closed form.

With ``b`` sequences decoding and ``k`` keys read, each quantity is taken from the step model at knots of the mean context
``k / b``, eight to a doubling, and is linear in ``k`` between them. While the batch does not change, ``k`` grows by the same ``g`` with
each iteration (by ``b``, or more where drafts are accepted), and the sum over ``n`` iterations from ``k`` within a piece
``q0 + q1 (k - k0)`` is

    n q0 + q1 (n (k - k0) + g n (n - 1) / 2)

so that time and energy of a run of iterations, and the iteration in which a given time falls (a quadratic equation), cost a few
multiplications. One iteration at a time over the same pieces gives the same sums.
"""

import math
from typing import Final

from effsim.sim.recorder import Histogram
from effsim.sim.setup import Cost, StepModel

PER_DOUBLING: Final = 8
"""Knots of the mean context; between them the interpolation is off by less than 0.1 % of the iteration."""
DOUBLINGS: Final = 30
_CONTEXTS: Final = tuple(2.0 ** (place / PER_DOUBLING) for place in range(PER_DOUBLING * DOUBLINGS + 1))

Piece = tuple[float, float, float, float, float, float, float, float, float, float, float, float]
"""Keys at the next knot and at this one; value and slope per key of time, static, core, memory and link energy."""


class DecodeCosts:
    """The pieces of one step model, computed when first asked for; it may be shared by replicas."""

    __slots__ = ("_pieces", "step")

    def __init__(self, step: StepModel) -> None:
        self.step = step
        self._pieces: dict[int, list[Piece | None]] = {}

    def piece(self, decoding: int, keys: float) -> Piece:
        """Return the piece in which an iteration of ``decoding`` sequences that read ``keys`` lies."""
        place = int(math.log2(keys / decoding) * PER_DOUBLING)
        row = self._pieces.get(decoding)
        if row is None:
            row = self._pieces[decoding] = [None] * (len(_CONTEXTS) - 1)
        return row[place] or self._build(row, place, decoding)

    def _build(self, row: list[Piece | None], place: int, decoding: int) -> Piece:
        low, high = _CONTEXTS[place] * decoding, _CONTEXTS[place + 1] * decoding
        at, after = self.step.step_at(decoding, low, ()), self.step.step_at(decoding, high, ())
        slopes = [(b - a) / (high - low) for a, b in zip(at, after, strict=True)]
        piece = row[place] = (
            high, low, at[0], slopes[0], at[1], slopes[1], at[2], slopes[2], at[3], slopes[3], at[4], slopes[4],
        )  # fmt: skip
        return piece

    def cost(self, decoding: int, keys: float) -> Cost:
        """Return the cost of one iteration."""
        p = self.piece(decoding, keys)
        x = keys - p[1]
        return p[2] + p[3] * x, p[4] + p[5] * x, p[6] + p[7] * x, p[8] + p[9] * x, p[10] + p[11] * x

    def run(self, decoding: int, keys: float, growth: float, count: int, inter_token: Histogram) -> Cost:
        """Return the summed cost of iterations; count each as one gap per sequence between tokens.

        Args:
            decoding: Sequences.
            keys: That the first iteration reads.
            growth: Keys that each iteration reads more than the one before.
            count: Iterations.
            inter_token: Where the gaps are counted.
        """
        time_s = static_j = core_j = memory_j = link_j = 0.0
        while count > 0:
            p = self.piece(decoding, keys)
            n = count if keys + growth * (count - 1) < p[0] else min(max(1, math.ceil((p[0] - keys) / growth)), count)
            offset = keys - p[1]
            total = n * offset + 0.5 * growth * n * (n - 1)
            time_s += n * p[2] + p[3] * total
            inter_token.add_ramp(p[2] + p[3] * offset, p[3] * growth, n, decoding)
            static_j += n * p[4] + p[5] * total
            core_j += n * p[6] + p[7] * total
            memory_j += n * p[8] + p[9] * total
            link_j += n * p[10] + p[11] * total
            count -= n
            keys += growth * n
        return time_s, static_j, core_j, memory_j, link_j

    def duration_s(self, decoding: int, keys: float, growth: float, count: int) -> float:
        """Return the time of ``count`` iterations."""
        time_s = 0.0
        while count > 0:
            p = self.piece(decoding, keys)
            n = count if keys + growth * (count - 1) < p[0] else min(max(1, math.ceil((p[0] - keys) / growth)), count)
            time_s += n * p[2] + p[3] * (n * (keys - p[1]) + 0.5 * growth * n * (n - 1))
            count -= n
            keys += growth * n
        return time_s

    def count_until(self, decoding: int, keys: float, growth: float, most: int, span_s: float) -> tuple[int, float]:
        """Return the least number of iterations, 1 to ``most``, that last at least ``span_s``, and their time [s]."""
        done, time_s = 0, 0.0
        while True:
            p = self.piece(decoding, keys)
            left = most - done
            n = left if keys + growth * (left - 1) < p[0] else min(max(1, math.ceil((p[0] - keys) / growth)), left)
            first_s, growth_s = p[2] + p[3] * (keys - p[1]), p[3] * growth
            whole_s = n * first_s + 0.5 * growth_s * n * (n - 1)
            if time_s + whole_s < span_s and n < left:
                done, time_s, keys = done + n, time_s + whole_s, keys + growth * n
                continue
            if time_s + whole_s > span_s:
                n = least(first_s, growth_s, n, span_s - time_s)
            return done + n, time_s + n * first_s + 0.5 * growth_s * n * (n - 1)


def least(first_s: float, growth_s: float, most: int, span_s: float) -> int:
    """Return the least n from 1 to ``most`` with ``n first + growth n (n - 1) / 2 >= span``; ``most`` reaches it.

    >>> least(1.0, 0.0, 10, 2.5), least(1.0, 1.0, 10, 3.0), least(1.0, 1.0, 10, 3.1)
    (3, 2, 3)
    """
    half, linear = 0.5 * growth_s, first_s - 0.5 * growth_s
    if span_s <= 0.0:
        return 1
    root = linear * linear + 4.0 * half * span_s
    guess = 2.0 * span_s / (linear + math.sqrt(root)) if root >= 0.0 else float(most)
    n = min(max(1, math.ceil(guess)), most)
    while n > 1 and (n - 1) * (first_s + half * (n - 2)) >= span_s:
        n -= 1
    while n < most and n * (first_s + half * (n - 1)) < span_s:
        n += 1
    return n
