"""Gradients and weights over data-parallel ranks; Rajbhandari et al., arXiv:1910.02054, section 7: volumes in units of the weights."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.cost.collectives import Fabric, Level
from effsim.cost.device import prior_for
from effsim.cost.exchange import Exchange, Exchanged, exchange_gradients, hideable_s
from effsim.specs import loading
from effsim.workload.operations import Parallelism

EXACT = dataclasses.replace(prior_for(loading.accelerator("h100_sxm"), "none").median, link_efficiency=1.0, collective_latency_factor=1.0)
RATE, WEIGHTS = 50e9, 1e9
FLAT = Fabric(1024, Level(0.0, RATE), None)
ONE = np.array([1.0])


def exchange(stage, micro_batches=1.0, **sizes):
    found = exchange_gradients(FLAT, Parallelism(**sizes), EXACT, Exchange(stage, WEIGHTS, WEIGHTS, ONE * micro_batches))
    return float(found.time_s[0]), float(found.wire_bytes[0])


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_single_replica_exchanges_nothing(stage):
    assert exchange(stage, tensor=8, pipeline=2) == (0.0, 0.0)


def test_stage_0_all_reduces_fp32_gradients():
    """Ring over 8: 2 · 7/8 · 4 bytes a weight."""
    volume = 2 * 7 / 8 * 4 * WEIGHTS
    assert exchange(0, data=8) == pytest.approx((volume / RATE, volume))


@pytest.mark.parametrize("stage", [1, 2])
def test_stages_1_and_2_scatter_gradients_and_gather_weights(stage):
    """7/8 · 4 bytes out, 7/8 · 2 bytes in."""
    volume = 7 / 8 * (4 + 2) * WEIGHTS
    assert exchange(stage, data=8) == pytest.approx((volume / RATE, volume))


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_stage_3_gathers_weights_for_each_forward_and_backward(micro_batches):
    """And scatters the gradients of each micro-batch: no rank keeps their whole sum."""
    volume = 7 / 8 * (4 + 2 * 2) * micro_batches * WEIGHTS
    assert exchange(3, micro_batches, data=8) == pytest.approx((volume / RATE, volume))


def test_stage_2_scatters_the_gradients_of_each_micro_batch():
    assert exchange(2, micro_batches=4, data=8)[1] == pytest.approx(7 / 8 * (4 * 4 + 2) * WEIGHTS)
    assert exchange(1, micro_batches=4, data=8)[1] == pytest.approx(7 / 8 * (4 + 2) * WEIGHTS)


def test_context_ranks_hold_the_same_weights_and_take_part():
    assert exchange(1, data=4, context=2) == pytest.approx(exchange(1, data=8))


def test_a_link_half_as_efficient_takes_twice_as_long():
    half = dataclasses.replace(EXACT, link_efficiency=0.5)
    found = exchange_gradients(FLAT, Parallelism(data=8), half, Exchange(1, WEIGHTS, WEIGHTS, ONE))
    assert (float(found.time_s[0]), float(found.wire_bytes[0])) == pytest.approx((2 * exchange(1, data=8)[0], exchange(1, data=8)[1]))


def test_no_gradient_crosses_the_slow_network_more_than_once_per_domain():
    """16 ranks in 2 domains: all-gather and reduce-scatter put 1/8 of the buffer, halved, on the slow links."""
    nested = Fabric(8, Level(0.0, 1e30), Level(0.0, RATE))
    found = exchange_gradients(nested, Parallelism(data=16), EXACT, Exchange(1, WEIGHTS, WEIGHTS, ONE))
    assert float(found.time_s[0]) == pytest.approx(6 * WEIGHTS / 8 / 2 / RATE)
    assert float(found.outer_bytes[0]) == pytest.approx(6 * WEIGHTS / 8 / 2)
    assert float(found.wire_bytes[0]) == pytest.approx(6 * WEIGHTS * 15 / 16)


@pytest.mark.parametrize("group", [2, 4, 8])
def test_groups_within_a_domain_sum_their_gradients_over_the_slow_network(group):
    """Two domains of 8: whatever the group, a domain's fp32 sum crosses once each way, an eighth of it by each rank: 2 · 1/2 · 4 / 8."""
    nested = Fabric(8, Level(0.0, 1e30), Level(0.0, RATE))
    load = Exchange(3, WEIGHTS, WEIGHTS, ONE, shard_group=group)
    found = exchange_gradients(nested, Parallelism(data=16), EXACT, load)
    assert float(found.outer_bytes[0]) == pytest.approx(0.5 * WEIGHTS)
    assert float(found.time_s[0]) == pytest.approx(0.5 * WEIGHTS / RATE)


HIDDEN = [
    (0, False, [4.0, 4.0]),  # 12 s of sums behind the last backward pass of 4 s
    (1, False, [6.0, 6.0]),  # and 5 s of gathering behind the first forward pass of 2 s
    (2, False, [6.0, 14.0]),  # 12 s of scattering behind 4 s or 16 s of backward passes
    (2, True, [6.0, 6.0]),
    (3, False, [6.0, 17.0]),  # 17 s of both behind 6 s or 24 s
]


@pytest.mark.parametrize(("stage", "sums", "expected_s"), HIDDEN)
def test_what_hides_the_exchange_of_one_and_of_four_micro_batches(stage, sums, expected_s):
    """Megatron Core and PyTorch DDP start on gradients in the last backward pass, the first one that leaves whole sums."""
    counts = np.array([1.0, 4.0])
    load = Exchange(stage, WEIGHTS, WEIGHTS, counts, scatters_sums=sums)
    taken = Exchanged(12.0 + 0.0 * counts, (5.0 if stage else 0.0) + 0.0 * counts, counts, counts)
    assert hideable_s(load, taken, (2.0, 4.0), 6.0 * counts).tolist() == expected_s


def test_sums_and_gathered_weights_are_told_apart():
    found = exchange_gradients(FLAT, Parallelism(data=8), EXACT, Exchange(1, WEIGHTS, WEIGHTS, ONE))
    assert float(found.reduced_s[0]) == pytest.approx(7 / 8 * 4 * WEIGHTS / RATE)
    assert float(found.gathered_s[0]) == pytest.approx(7 / 8 * 2 * WEIGHTS / RATE)


def left_by_events(exchange_s, backward_s, stages, chunks):
    """Return how long after the last backward pass the link is done: each chunk's sums start when the pass of its last micro-batch does."""
    each_s = backward_s / chunks
    free_s = 0.0
    end_s = chunks * stages * each_s
    for chunk in range(1, chunks + 1):
        whole_s = chunk * stages * each_s  # end of this chunk's last pass; its layers' sums become whole during the pass
        free_s = max(free_s + exchange_s / chunks, whole_s - each_s + exchange_s / chunks, whole_s)
    return free_s - end_s


@given(exchange_s=st.floats(0.0, 100.0), backward_s=st.floats(0.1, 10.0), stages=st.integers(1, 8), chunks=st.integers(1, 6))
def test_chunks_of_an_interleaved_pipeline_have_their_sums_earlier(exchange_s, backward_s, stages, chunks):
    taken = Exchanged(np.array([exchange_s]), np.zeros(1), np.zeros(1), np.zeros(1))
    hidden_s = hideable_s(Exchange(0, WEIGHTS, WEIGHTS, np.array([64.0])), taken, (1.0, backward_s), 1e9, (stages, chunks))
    assert float(exchange_s - hidden_s[0]) == pytest.approx(left_by_events(exchange_s, backward_s, stages, chunks), abs=1e-9)
