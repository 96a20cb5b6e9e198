"""The small network learns, by gradients that are right, and prunes and quantises as it says."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.errors import SpecError
from effsim.experiments.classifier import Recipe, accuracy, digits, gradients, initial, split, trained
from effsim.experiments.compression import Compressed, Quantized, prune_magnitude, prune_neurons

RNG = np.random.default_rng(0)


def blobs(classes=4, inputs=20, samples=400):
    """Clouds far apart: any network that learns separates them."""
    y = RNG.integers(0, classes, samples)
    x = RNG.standard_normal((classes, inputs))[y] * 3.0 + RNG.standard_normal((samples, inputs))
    return split(x.astype(np.float32), y.astype(np.int64), 0, "clouds")


def test_gradients_are_finite_differences():
    network = dataclasses.replace(initial((6, 5, 3), 0))
    x, y = RNG.standard_normal((7, 6)), RNG.integers(0, 3, 7)
    parts = [part.astype(float) for part in (*network.weights, *network.biases)]

    def made():
        return dataclasses.replace(network, weights=tuple(parts[:2]), biases=tuple(parts[2:]))

    def loss():
        scores = made().logits(x)
        return np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(7), y])

    for part, slope in zip(parts, gradients(made(), x, y), strict=True):
        for place in [tuple(index) for index in np.argwhere(np.ones(part.shape))[::3]]:
            before = part[place]
            part[place] = before + 1e-6
            up = loss()
            part[place] = before - 1e-6
            down = loss()
            part[place] = before
            assert slope[place] == pytest.approx((up - down) / 2e-6, abs=1e-6)


def test_training_learns_and_repeats():
    data = blobs()
    start = initial((20, 16, 4), 1)
    first, again = trained(start, data, Recipe(epochs=10)), trained(start, data, Recipe(epochs=10))
    assert accuracy(first, data.test_x, data.test_y) > 0.95 > accuracy(start, data.test_x, data.test_y)
    assert all((a == b).all() for a, b in zip(first.weights, again.weights, strict=True))
    other = trained(start, data, Recipe(epochs=10, seed=1))
    assert any((a != b).any() for a, b in zip(first.weights, other.weights, strict=True))


def test_what_is_pruned_stays_pruned():
    data = blobs()
    pruned = prune_magnitude(initial((20, 16, 4), 1), 0.7)
    again = trained(pruned, data, Recipe(epochs=3))
    for before, after in zip(pruned.weights, again.weights, strict=True):
        assert (after[before == 0.0] == 0.0).all()
        assert (after != before).any()


@given(st.floats(0.0, 0.999), st.integers(0, 5))
def test_magnitude_pruning_takes_the_smallest(fraction, seed):
    network = initial((9, 7, 3), seed)
    for before, after in zip(network.weights, prune_magnitude(network, fraction).weights, strict=True):
        gone = after == 0.0
        assert gone.sum() == round(before.size * fraction)
        assert (after[~gone] == before[~gone]).all()
        if gone.any() and not gone.all():
            assert np.abs(before[gone]).max() <= np.abs(before[~gone]).min()


@given(st.floats(0.0, 0.999))
def test_removing_neurons_is_setting_them_to_zero(fraction):
    network, x = initial((9, 7, 3), 2), RNG.standard_normal((4, 9)).astype(np.float32)
    small = prune_neurons(network, fraction)
    assert small.layer_sizes == (9, max(1, round(7 * (1 - fraction))), 3)
    kept = [np.flatnonzero((network.weights[0] == row).all(axis=1))[0] for row in small.weights[0]]
    silent = network.weights[1] * np.isin(np.arange(7), kept)
    np.testing.assert_allclose(small.logits(x), dataclasses.replace(network, weights=(network.weights[0], silent)).logits(x), rtol=1e-4, atol=1e-5)


def test_a_neuron_that_nothing_listens_to_goes_first():
    network = initial((9, 7, 3), 4)
    first, last = (matrix.copy() for matrix in network.weights)
    first[5] *= 100.0
    last[:, 5] = 0.0
    small = prune_neurons(dataclasses.replace(network, weights=(first, last)), 0.1)
    assert (small.weights[0] == np.delete(first, 5, axis=0)).all()


def test_eight_bits_err_by_half_a_step_at_most():
    network = initial((30, 20, 5), 3)
    whole = Quantized(network)
    for matrix, wide, scale in zip(network.weights, whole.widened().weights, whole.scales, strict=True):
        assert (np.abs(matrix - wide) <= 0.5001 * scale).all()
        assert np.abs(wide).max() == pytest.approx(np.abs(matrix).max())
    assert whole.size_bytes == 30 * 20 + 20 * 5 + 4 * (20 + 5) + 4 * (20 + 5)


def test_sparse_rows_give_the_same_answer_in_less_space():
    network, x = prune_magnitude(initial((300, 50, 5), 3), 0.95), RNG.standard_normal((8, 300)).astype(np.float32)
    stored = Compressed(network)
    np.testing.assert_allclose(stored.logits(x), network.logits(x), rtol=1e-4, atol=1e-5)
    assert stored.size_bytes < 0.2 * 4 * network.parameters


@pytest.mark.parametrize("act", [prune_magnitude, prune_neurons])
@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fractions_outside_the_range_are_refused(act, fraction):
    with pytest.raises(SpecError, match=r"fraction: must lie in \[0, 1\)"):
        act(initial((4, 3, 2), 0), fraction)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch": 0}, {"learning_rate": 0.0}])
def test_recipes_that_train_nothing_are_refused(wrong):
    with pytest.raises(SpecError, match=next(iter(wrong))):
        Recipe(**wrong)


def test_the_digits_are_those_of_the_package():
    pytest.importorskip("sklearn")
    data = digits(0)
    assert data.train_x.shape == (1438, 784)
    assert data.test_x.shape == (359, 784)
    assert (data.train_x.min(), data.train_x.max()) == (0.0, 1.0)
    assert set(data.test_y) == set(range(10))
    assert (data.train_x.reshape(-1, 28, 28)[:, 2:26:3, 2:26:3] == data.train_x.reshape(-1, 28, 28)[:, 4:26:3, 4:26:3]).all()
