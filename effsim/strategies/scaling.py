"""From published scaling laws: what a difference in loss, size or batch is worth in tokens."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from effsim.strategies.effect import Range

TOKENS_PER_PARAMETER: Final = 20.0  # compute-optimal; Hoffmann et al., arXiv:2203.15556


@dataclass(frozen=True, slots=True)
class LossFit:
    """``L(N, D) = E + A / N^a + B / D^b`` [nats per token], N parameters, D tokens."""

    irreducible: float
    size_factor: float
    data_factor: float
    size_exponent: float
    data_exponent: float

    def loss(self, parameters: float, tokens: float) -> float:
        """Return the loss [nats per token]."""
        return self.irreducible + self.size_term(parameters) + self.data_term(tokens)

    def size_term(self, parameters: float) -> float:
        """Return what a finite model adds [nats per token]."""
        return self.size_factor * float(parameters**-self.size_exponent)

    def data_term(self, tokens: float) -> float:
        """Return what finite data add [nats per token]."""
        return self.data_factor * float(tokens**-self.data_exponent)

    def tokens_for(self, data_term: float) -> float:
        """Return the tokens that leave that data term; infinite where it is not positive."""
        return (self.data_factor / data_term) ** (1.0 / self.data_exponent) if data_term > 0.0 else math.inf


FITS: Final = (
    LossFit(1.69, 406.4, 410.7, 0.34, 0.28),  # Hoffmann et al., arXiv:2203.15556 (2022), equation 10
    LossFit(1.8172, 482.01, 2085.43, 0.3478, 0.3658),  # Besiroglu et al., arXiv:2404.10102 (2024): the same data fitted anew
)
FITS_SOURCE: Final = "Hoffmann et al., arXiv:2203.15556 (2022), and Besiroglu et al., arXiv:2404.10102 (2024)"


def between_fits(factor: Callable[[LossFit], float]) -> Range:
    """Return the least, the geometric mean and the most of a factor over the published fits."""
    low, high = sorted(factor(fit) for fit in FITS)
    return low, math.sqrt(low) * math.sqrt(high), high


def tokens_for_gap(share: float, parameters: float, tokens: float) -> Range:
    """Return the multiple of tokens that makes up for a loss higher by a share of itself.

    >>> tokens_for_gap(0.0, 7e9, 1.4e11) == (1.0, 1.0, 1.0)
    True
    """
    if share == 0.0:
        return 1.0, 1.0, 1.0
    return between_fits(lambda fit: fit.tokens_for(fit.data_term(tokens) - share * fit.loss(parameters, tokens)) / tokens)


def tokens_for_size(changed: float, parameters: float, tokens: float) -> Range:
    """Return the multiple of tokens with which a model of another size reaches the loss of this one.

    >>> tokens_for_size(7e9, 7e9, 1.4e11) == (1.0, 1.0, 1.0)
    True
    """
    if changed == parameters:
        return 1.0, 1.0, 1.0
    return between_fits(lambda fit: fit.tokens_for(fit.data_term(tokens) + fit.size_term(parameters) - fit.size_term(changed)) / tokens)


def critical_batch_tokens(loss: float) -> float:
    """Return the critical batch size at a loss: ``2.1e8 L^-4.8`` [tokens], L [nats per token].

    Source: Kaplan et al., Scaling Laws for Neural Language Models, arXiv:2001.08361 (2020), figure 10: transformers on WebText2.

    >>> round(critical_batch_tokens(2.5) / 1e6, 1)
    2.6
    """
    return 2.1e8 * float(loss**-4.8)


def examples_over_least(batch: float, critical: float) -> float:
    """Return the examples to a loss over their least: ``E / E_min = 1 + B / B_crit``.

    Source: McCandlish et al., An Empirical Model of Large-Batch Training, arXiv:1812.06162 (2018), equation 2.11 and appendix D.
    """
    return 1.0 + batch / critical


def steps_over_least(batch: float, critical: float) -> float:
    """Return the steps to a loss over their least: ``S / S_min = 1 + B_crit / B``; see :func:`examples_over_least`."""
    return 1.0 + critical / batch
