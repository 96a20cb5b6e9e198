"""Alpha-beta costs against the formulas of Thakur, Rabenseifner and Gropp, IJHPCA 19(1), 2005: a per step, b per byte, n ranks, S bytes."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.cost.collectives import ZERO, Fabric, Level, collective_cost, ranks_of, split_levels
from effsim.errors import SpecError
from effsim.workload.operations import Parallelism

A, RATE = 2e-6, 400e9
FAST, SLOW = Level(A, RATE), Level(1e-5, 50e9)
NODE = Fabric(8, FAST, SLOW)
PATTERNS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")


def time_s(pattern, axis, parallelism, fabric, size):
    cost = collective_cost(pattern, axis, parallelism, fabric)
    return min(a + b * size for a, b in zip(cost.alpha_s, cost.beta_s_per_byte, strict=True))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_one_rank_costs_nothing(pattern):
    assert collective_cost(pattern, "tensor", Parallelism(), NODE) == ZERO


@pytest.mark.parametrize("n", [3, 4, 8])
def test_a_large_all_reduce_is_a_ring(n):
    """Reduce-scatter and all-gather: 2 (n - 1) steps of S / n."""
    size = 1e9
    assert time_s("all_reduce", "tensor", Parallelism(tensor=n), NODE, size) == pytest.approx(2 * (n - 1) * (A + size / n / RATE))
    assert collective_cost("all_reduce", "tensor", Parallelism(tensor=n), NODE).wire_per_byte == pytest.approx(2 * (n - 1) / n)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_a_small_all_reduce_is_one_step(n):
    """Every rank reads the n - 1 other buffers at once."""
    size = 1e3
    assert time_s("all_reduce", "tensor", Parallelism(tensor=n), NODE, size) == pytest.approx(A + (n - 1) * size / RATE)


@pytest.mark.parametrize("pattern", ["all_gather", "reduce_scatter"])
def test_gather_and_scatter_move_all_but_the_own_share(pattern):
    """Buffer S, of which each rank has S / 8: 7 S / 8 pass its link; 7 ring steps, or 2 log2 8 = 6 where a tree is shorter."""
    cost = collective_cost(pattern, "tensor", Parallelism(tensor=8), NODE)
    assert cost.beta_s_per_byte == pytest.approx((7 / 8 / RATE,) * 2)
    assert cost.alpha_s == pytest.approx((6 * A,) * 2)
    assert cost.wire_per_byte == pytest.approx(7 / 8)


def test_an_all_to_all_sends_all_but_the_own_share():
    cost = collective_cost("all_to_all", "expert", Parallelism(data=8, expert=8), NODE)
    assert cost.beta_s_per_byte[0] == pytest.approx(7 / 8 / RATE)


def test_a_switch_that_adds_moves_less_than_the_ring():
    """In NVLink SHARP a rank's link carries S and its share of the sum, (n + 1) / n S, where the ring needs 2 (n - 1) / n."""
    switch = Fabric(8, Level(A, RATE, in_network_reduction=True), None)
    cost = collective_cost("all_reduce", "tensor", Parallelism(tensor=8), switch)
    assert cost.beta_s_per_byte[1] == pytest.approx(9 / 8 / RATE)
    assert cost.beta_s_per_byte[1] < collective_cost("all_reduce", "tensor", Parallelism(tensor=8), NODE).beta_s_per_byte[1]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("domains", [2, 4])
def test_two_equal_levels_move_the_bytes_of_one(pattern, domains):
    """Inside on S, across on S / 8: 2 · 7/8 + 2 (k - 1) / 8k = 2 (8k - 1) / 8k, the flat ring's."""
    ranks = 8 * domains
    split = Parallelism(data=ranks, expert=ranks) if pattern == "all_to_all" else Parallelism(data=ranks)
    axis = "expert" if pattern == "all_to_all" else "data"
    nested = collective_cost(pattern, axis, split, Fabric(8, FAST, FAST))
    flat = collective_cost(pattern, axis, split, Fabric(ranks, FAST, None))
    assert nested.beta_s_per_byte[1] == pytest.approx(flat.beta_s_per_byte[1])
    assert nested.wire_per_byte == pytest.approx(flat.wire_per_byte)


def test_a_hierarchical_all_reduce_by_hand():
    """16 ranks in 2 domains of 8, S = 1 GB: inside 2 · 7/8 S at 400 GB/s, across S / 8 at 50 GB/s, and the steps of each."""
    size = 1e9
    inside, across = 2 * 7 / 8 * size / RATE, size / 8 / 50e9
    steps = 2 * 6 * A + 1e-5  # two domains swap their sums in one step
    assert time_s("all_reduce", "data", Parallelism(data=16), NODE, size) == pytest.approx(inside + across + steps)


@given(st.sampled_from(PATTERNS), st.integers(0, 7), st.floats(0.0, 1e10))
def test_more_bytes_or_ranks_never_take_less_time(pattern, exponent, size):
    axis = "expert" if pattern == "all_to_all" else "data"
    splits = [Parallelism(data=2**n, expert=2**n if axis == "expert" else 1) for n in (exponent, exponent + 1)]
    few, many = (time_s(pattern, axis, split, NODE, size) for split in splits)
    assert few <= many * (1 + 1e-9)
    assert few <= time_s(pattern, axis, splits[0], NODE, size * 1.5) * (1 + 1e-9)


@given(st.sampled_from(PATTERNS), st.integers(1, 6), st.floats(1.0, 1e10), st.floats(1.0, 8.0))
def test_a_faster_network_is_never_slower(pattern, exponent, size, faster):
    axis = "expert" if pattern == "all_to_all" else "data"
    split = Parallelism(data=2**exponent, expert=2**exponent if axis == "expert" else 1)
    better = Fabric(8, Level(A, RATE * faster), Level(1e-5, 50e9 * faster))
    assert time_s(pattern, axis, split, better, size) <= time_s(pattern, axis, split, NODE, size) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("axis", "parallelism", "domain", "expected"),
    [
        ("tensor", Parallelism(tensor=8), 8, (8, 1)),
        ("tensor", Parallelism(tensor=16), 8, (8, 2)),
        ("data", Parallelism(tensor=4, data=16), 8, (2, 8)),  # two replicas a node
        ("data", Parallelism(tensor=8, data=4), 8, (1, 4)),  # a replica fills the node
        ("data", Parallelism(tensor=2, context=2, data=4), 8, (2, 2)),
        ("context", Parallelism(tensor=2, context=8), 8, (4, 2)),
        ("expert", Parallelism(tensor=2, data=8, expert=16), 8, (8, 2)),
        ("data", Parallelism(data=12), 8, (6, 2)),  # 8 does not divide 12: the largest share that does
        ("tensor", Parallelism(tensor=2), 1, (1, 2)),
    ],
)
def test_where_the_ranks_of_an_axis_lie(axis, parallelism, domain, expected):
    assert split_levels(axis, parallelism, domain) == expected


@given(st.sampled_from(["tensor", "context", "data", "expert"]), *[st.integers(1, 6)] * 3, st.integers(1, 72))
def test_domains_hold_all_ranks_and_no_more_than_fit(axis, tensor, context, data, domain):
    split = Parallelism(tensor=tensor, context=context, data=data, expert=tensor * data)
    inside, across = split_levels(axis, split, domain)
    assert inside * across == ranks_of(axis, split)
    assert inside <= max(domain, 1)


def test_a_pipeline_inside_one_domain_uses_its_network():
    within = collective_cost("send", "pipeline", Parallelism(tensor=2, pipeline=4), NODE)
    beyond = collective_cost("send", "pipeline", Parallelism(tensor=8, pipeline=4), NODE)
    assert (within.alpha_s[0], within.beta_s_per_byte[0]) == (A, 1 / RATE)
    assert (beyond.alpha_s[0], beyond.beta_s_per_byte[0]) == (1e-5, 1 / 50e9)


def test_ranks_beyond_the_network_are_refused():
    with pytest.raises(SpecError, match=r"tensor_parallel: 16 ranks reach beyond the 8 accelerators.*node="):
        collective_cost("all_reduce", "tensor", Parallelism(tensor=16), Fabric(8, FAST, None))
    with pytest.raises(SpecError, match=r"pipeline: no link is known"):
        collective_cost("send", "pipeline", Parallelism(pipeline=2), Fabric(1, None, None))


def test_the_host_has_its_own_link():
    host = Level(5e-6, 64e9)
    assert collective_cost("send", "host", Parallelism(), Fabric(8, FAST, SLOW, host)).beta_s_per_byte[0] == 1 / 64e9
    assert math.isclose(collective_cost("send", "pool", Parallelism(), NODE).beta_s_per_byte[0], 1 / 50e9)


def test_routed_tokens_cross_to_another_domain_once():
    """Eight copies among four domains: 3 (1 - (3/4)^8) = 2.70 leave instead of 8 x 3/4 = 6, and are forwarded over the inner links."""
    slow = Level(0.0, 1e9)
    plain = Fabric(8, Level(0.0, 1e15), slow)
    once = dataclasses.replace(plain, once_per_domain=True)
    ranks = Parallelism(data=32, expert=32)
    by_copy, by_domain = (collective_cost("all_to_all", "expert", ranks, fabric, copies=8).beta_s_per_byte[1] for fabric in (plain, once))
    assert by_copy * 1e9 == pytest.approx(24 / 32, rel=1e-4)
    assert by_domain * 1e9 == pytest.approx(3 * (1 - 0.75**8) / 8, rel=1e-4)
    single = collective_cost("all_to_all", "expert", ranks, once, copies=1).beta_s_per_byte[1]
    assert single == pytest.approx(collective_cost("all_to_all", "expert", ranks, plain, copies=1).beta_s_per_byte[1], rel=1e-4)
