"""A dense classifier with one hidden layer, trained from scratch in NumPy: ReLU, softmax, cross-entropy, Adam."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effsim.errors import MissingExtraError, SpecError

Array = npt.NDArray[np.float32]

IMAGE_SIDE: Final = 28
TEST_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Data:
    """Images as rows of numbers between 0 and 1, and their classes.

    Args:
        train_x: Shape (sample, input).
        train_y: Shape (sample,).
        test_x: Likewise, unseen in training.
        test_y: Likewise.
        source: What a reader must know of them.
    """

    train_x: Array
    train_y: npt.NDArray[np.int64]
    test_x: Array
    test_y: npt.NDArray[np.int64]
    source: str


@dataclass(frozen=True, slots=True)
class Network:
    """Weights as (output, input), as PyTorch stores them, and biases.

    Args:
        weights: Of each layer.
        biases: Likewise.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Inputs, hidden neurons, classes."""
        return (self.weights[0].shape[1], *(matrix.shape[0] for matrix in self.weights))

    @property
    def parameters(self) -> int:
        """Weights and biases that are kept, zeros included."""
        return sum(part.size for part in (*self.weights, *self.biases))

    def logits(self, x: Any) -> Any:
        """Return the scores of the classes, shape (sample, class)."""
        for matrix, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ matrix.T + bias, 0.0)
        return x @ self.weights[-1].T + self.biases[-1]


def digits(seed: int) -> Data:
    """Return the handwritten digits that scikit-learn ships: 1,797 images of 8 x 8, here enlarged to 28 x 28.

    Each pixel becomes 3 x 3, with a margin of 2: 784 inputs, as the article's network has. They hold no more than the 64 numbers
    they came from, and are far fewer than the 70,000 images of MNIST.

    Args:
        seed: Of the split; a fifth is kept for testing.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        bunch = import_module("sklearn.datasets").load_digits()
    except ModuleNotFoundError:
        raise MissingExtraError("scikit-learn", "experiments", "the data of the experiment") from None
    large = np.pad(np.kron(bunch.images, np.ones((1, 3, 3))), ((0, 0), (2, 2), (2, 2))) / 16.0
    x = large.reshape(len(large), IMAGE_SIDE * IMAGE_SIDE).astype(np.float32)
    return split(x, bunch.target.astype(np.int64), seed, "scikit-learn digits, 1,797 images of 8 x 8 enlarged to 28 x 28")


def split(x: Array, y: npt.NDArray[np.int64], seed: int, source: str) -> Data:
    """Return samples in random order, the last fifth for testing."""
    order = np.random.default_rng(seed).permutation(len(x))
    cut = round(len(x) * (1.0 - TEST_SHARE))
    return Data(x[order[:cut]], y[order[:cut]], x[order[cut:]], y[order[cut:]], source)


def initial(layer_sizes: tuple[int, ...], seed: int) -> Network:
    """Return a network with He's initialisation (He et al., arXiv:1502.01852): variance 2 over the inputs, biases 0."""
    rng = np.random.default_rng(seed)
    pairs = list(pairwise(layer_sizes))
    weights = tuple((rng.standard_normal((wide, deep)) * np.sqrt(2.0 / deep)).astype(np.float32) for deep, wide in pairs)
    return Network(weights, tuple(np.zeros(wide, dtype=np.float32) for _, wide in pairs))


def accuracy(network: Network, x: Array, y: npt.NDArray[np.int64]) -> float:
    """Return the share of samples whose highest score is that of their class."""
    return float(np.mean(network.logits(x).argmax(axis=1) == y))


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Args:
        epochs: Passes over the samples.
        batch: Samples in a step.
        learning_rate: Of Adam (Kingma, Ba, arXiv:1412.6980), with beta 0.9 and 0.999.
        seed: Of the order of the samples.
    """

    epochs: int = 5
    batch: int = 32
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            SpecError: Below 1, or a learning rate that is not above 0.
        """
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0.0:
            raise SpecError(f"learning_rate: must be above 0, got {self.learning_rate}")


def trained(network: Network, data: Data, recipe: Recipe) -> Network:
    """Return the network after training; weights that are exactly 0 stay 0, so that what was pruned stays pruned."""
    masks = [matrix != 0.0 for matrix in network.weights]
    values = [part.astype(np.float64) for part in (*network.weights, *network.biases)]
    first, second = [np.zeros_like(part) for part in values], [np.zeros_like(part) for part in values]
    layers = len(network.weights)
    for step, picked in enumerate(_batches(len(data.train_x), recipe), start=1):
        slopes = gradients(_network(values, layers), data.train_x[picked], data.train_y[picked])
        for index, slope in enumerate(slopes):
            first[index] += 0.1 * (slope - first[index])
            second[index] += 0.001 * (slope * slope - second[index])
            rate = recipe.learning_rate * np.sqrt(1.0 - 0.999**step) / (1.0 - 0.9**step)
            values[index] -= rate * first[index] / (np.sqrt(second[index]) + 1e-8)
            if index < layers:
                values[index] *= masks[index]
    return _network(values, layers)


def _batches(samples: int, recipe: Recipe) -> Iterator[npt.NDArray[np.int64]]:
    rng = np.random.default_rng(recipe.seed)
    for _ in range(recipe.epochs):
        order = rng.permutation(samples)
        yield from (order[start : start + recipe.batch] for start in range(0, samples, recipe.batch))


def _network(values: list[Any], layers: int) -> Network:
    parts = [part.astype(np.float32) for part in values]
    return Network(tuple(parts[:layers]), tuple(parts[layers:]))


def gradients(network: Network, x: Array, y: npt.NDArray[np.int64]) -> list[Any]:
    """Return the slopes of the mean cross-entropy with respect to each weight matrix, then each bias."""
    inputs = [x]
    for matrix, bias in zip(network.weights[:-1], network.biases[:-1], strict=True):
        inputs.append(np.maximum(inputs[-1] @ matrix.T + bias, 0.0))
    scores = inputs[-1] @ network.weights[-1].T + network.biases[-1]
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(y)), y] -= 1.0
    error = shares / len(y)
    of_weights, of_biases = [], []
    for index in range(len(network.weights) - 1, -1, -1):
        of_weights.append(error.T @ inputs[index])
        of_biases.append(error.sum(axis=0))
        error = (error @ network.weights[index]) * (inputs[index] > 0.0)
    return [*of_weights[::-1], *of_biases[::-1]]
