"""Speculative decoding: how many iterations a sequence takes when a draft is checked in each.

In an iteration ``k`` tokens are drafted for each sequence and checked together; those before the first refusal are kept, and one more
comes from the check itself. If each is accepted with probability ``a`` whatever came before, an iteration yields ``i + 1`` tokens with
probability ``a^i (1 - a)``, all ``k + 1`` with ``a^k``; the mean is ``(1 - a^(k+1)) / (1 - a)``. Source: Leviathan, Kalman, Matias, ICML
2023, arXiv:2211.17192, equation 1.
"""

import math
import random
from dataclasses import dataclass

from effsim.errors import SpecError
from effsim.sim.request import InFlight


@dataclass(frozen=True, slots=True)
class Speculation:
    """Drafts of an engine.

    A sequence's number of iterations is drawn from a stream of its own; in between its tokens are taken to come evenly.

    Args:
        draft_tokens: Drafted for each sequence in each iteration.
        acceptance: Probability that a drafted token is kept, given that those before it were.
        seed: Of the streams.

    Raises:
        SpecError: No drafted token, or a probability outside 0 to 1.

    >>> Speculation(3, 0.5).tokens_per_iteration
    1.875
    """

    draft_tokens: int
    acceptance: float
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draft_tokens < 1:
            raise SpecError(f"speculation.draft_tokens: expected at least 1, got {self.draft_tokens}")
        if not 0.0 <= self.acceptance <= 1.0:
            raise SpecError(f"speculation.acceptance: expected 0 to 1, got {self.acceptance:g}")

    @property
    def tokens_per_iteration(self) -> float:
        """Expected tokens of a sequence per iteration: the geometric sum of the acceptances."""
        return sum(self.acceptance**kept for kept in range(self.draft_tokens + 1))

    def start(self, request: InFlight) -> None:
        """Draw how many iterations a request takes for the tokens that are left, if it has not been drawn yet."""
        if request.span:
            return
        request.start, request.steps = request.computed, 0
        request.gain = request.output_tokens - request.generated
        request.span = self.iterations(request.gain, f"{self.seed} {request.id} {request.preemptions}")

    def iterations(self, tokens: int, stream: str) -> int:
        """Return a draw of the number of iterations for so many tokens, the last of which may be cut short.

        >>> Speculation(3, 1.0).iterations(9, "any"), Speculation(3, 0.0).iterations(9, "any")
        (3, 9)
        """
        most, acceptance = self.draft_tokens, self.acceptance
        if acceptance in {0.0, 1.0}:
            return -(-tokens // (most + 1 if acceptance else 1))
        draw = random.Random(stream).random  # noqa: S311 -- a simulation
        done, shrink = 0, 1.0 / math.log(acceptance)
        while tokens > 0:
            tokens -= 1 + min(most, int(math.log(1.0 - draw()) * shrink))
            done += 1
        return done


def tokens_after(request: InFlight, steps: int) -> int:
    """Return the tokens in the cache once a sequence has decoded for so many iterations since its draw."""
    return request.start + request.gain * steps // request.span
