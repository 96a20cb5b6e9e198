"""Smaller networks from a trained one: weights set to zero, neurons removed, weights rounded to eight bits."""

from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from effsim.errors import SpecError
from effsim.experiments.classifier import Array, Network

LARGEST_INT8: Final = 127


def prune_magnitude(network: Network, fraction: float) -> Network:
    """Return the network with the smallest weights of each layer set to zero; its shapes stay.

    Args:
        network: To prune.
        fraction: Of each layer's weights, 0 up to 1.

    Raises:
        SpecError: Outside [0, 1).
    """
    _check(fraction)
    pruned = []
    for matrix in network.weights:
        count = round(matrix.size * fraction)
        kept = matrix.copy()
        kept.ravel()[np.argsort(np.abs(matrix), axis=None, kind="stable")[:count]] = 0.0
        pruned.append(kept)
    return replace(network, weights=tuple(pruned))


def prune_neurons(network: Network, fraction: float) -> Network:
    """Return the network without the hidden neurons of the smallest weights, hence with smaller shapes.

    A neuron counts by the product of the norms of its incoming and its outgoing weights.

    Args:
        network: With one hidden layer.
        fraction: Of its hidden neurons, 0 up to 1; at least one stays.

    Raises:
        SpecError: Outside [0, 1).
    """
    _check(fraction)
    before, after = network.weights
    size = max(1, round(len(before) * (1.0 - fraction)))
    importance = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=0)
    kept = np.sort(np.argsort(importance, kind="stable")[len(before) - size :])
    return Network((before[kept].copy(), after[:, kept].copy()), (network.biases[0][kept].copy(), network.biases[1].copy()))


def _check(fraction: float) -> None:
    if not 0.0 <= fraction < 1.0:
        raise SpecError(f"fraction: must lie in [0, 1), got {fraction:g}")


class Quantized:
    """A network whose weights are whole numbers of eight bits with a scale per output; they are widened at each call.

    NumPy has no fast product of whole numbers, so the arithmetic stays in fp32: memory is saved, not time.

    Args:
        network: To quantise.
    """

    def __init__(self, network: Network) -> None:
        self.scales = tuple(np.abs(matrix).max(axis=1, keepdims=True) / np.float32(LARGEST_INT8) for matrix in network.weights)
        safe = [np.where(scale > 0.0, scale, 1.0) for scale in self.scales]
        self.whole: tuple[npt.NDArray[np.int8], ...] = tuple(
            np.rint(matrix / scale).astype(np.int8) for matrix, scale in zip(network.weights, safe, strict=True)
        )
        self.biases = network.biases

    def widened(self) -> Network:
        """Return the fp32 network that it stands for."""
        pairs = zip(self.whole, self.scales, strict=True)
        return Network(tuple(whole.astype(np.float32) * scale for whole, scale in pairs), self.biases)

    def logits(self, x: Any) -> Any:
        """Return the scores of the classes."""
        return self.widened().logits(x)

    @property
    def size_bytes(self) -> int:
        """Of weights, scales and biases."""
        return sum(part.nbytes for part in (*self.whole, *self.scales, *self.biases))


class Compressed:
    """A network whose weights are stored as compressed sparse rows: the zeros are neither kept nor multiplied.

    Args:
        network: Pruned.
    """

    def __init__(self, network: Network) -> None:
        self.weights = tuple(sparse.csr_array(matrix) for matrix in network.weights)
        self.biases = network.biases

    def logits(self, x: Array) -> Any:
        """Return the scores of the classes."""
        found = x.T
        for index, (matrix, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            found = matrix @ found + bias[:, None]
            if index < len(self.weights) - 1:
                found = np.maximum(found, 0.0)
        return found.T

    @property
    def size_bytes(self) -> int:
        """Of values, indices and biases."""
        return sum(part.nbytes for matrix in self.weights for part in (matrix.data, matrix.indices, matrix.indptr)) + sum(bias.nbytes for bias in self.biases)
