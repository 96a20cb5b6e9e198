import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.workload.features import (
    DECODE_SEQS,
    LOGIT_ROWS,
    ONE,
    PREFILL_TOKENS,
    SEQS,
    TOKENS,
    Feature,
    Iteration,
    distinct_experts,
    feature_matrix,
    join,
    keys_up_to,
)

positions = st.integers(0, 400)
limits = st.integers(1, 60)


def keys_read(position, window=0, chunk=0):
    """Keys that the causal query at a position (from 1) reads, counted one by one."""
    return sum(1 for key in range(1, position + 1) if (not window or key > position - window) and (not chunk or (key - 1) // chunk == (position - 1) // chunk))


def value(feature, **iteration):
    return float(feature_matrix((feature,), Iteration(**iteration))[0, 0])


@given(positions)
def test_keys_up_to_without_a_limit(position):
    assert keys_up_to(float(position)) == sum(keys_read(p) for p in range(1, position + 1))


@given(positions, limits)
def test_keys_up_to_in_a_window(position, window):
    assert keys_up_to(float(position), window=window) == sum(keys_read(p, window=window) for p in range(1, position + 1))


@given(positions, limits)
def test_keys_up_to_in_chunks(position, chunk):
    assert keys_up_to(float(position), chunk=chunk) == sum(keys_read(p, chunk=chunk) for p in range(1, position + 1))


@pytest.mark.parametrize("limit", [{}, {"window": 16}, {"chunk": 16}])
@given(before=st.integers(0, 100), new=st.integers(1, 50), seqs=st.integers(1, 4))
def test_pairs_of_a_prompt_chunk(limit, before, new, seqs):
    expected = seqs * sum(keys_read(p, **limit) for p in range(before + 1, before + new + 1))
    assert value(Feature("prefill_pairs", **limit), prefill_seqs=seqs, prefill_tokens=new, prefill_before=before) == expected


@pytest.mark.parametrize("limit", [{}, {"window": 16}, {"chunk": 16}])
@given(start=st.integers(1, 100), length=st.integers(1, 50), seqs=st.integers(1, 4))
def test_keys_of_decoding_sequences_are_the_mean_over_their_positions(limit, start, length, seqs):
    mean = sum(keys_read(p, **limit) for p in range(start, start + length)) / length
    assert value(Feature("decode_keys", **limit), decode_seqs=seqs, decode_from=start, decode_to=start + length - 1) == pytest.approx(seqs * mean)


def test_bidirectional_attention_has_all_pairs():
    assert value(Feature("prefill_pairs", causal=False), prefill_seqs=2, prefill_tokens=10) == 2 * 10 * 10


def test_keys_of_a_chunk_are_its_own_and_the_cached_that_it_may_see():
    chunk = {"prefill_seqs": 1, "prefill_tokens": 10, "prefill_before": 100}
    assert value(Feature("prefill_keys"), **chunk) == 110
    assert value(Feature("prefill_keys", window=16), **chunk) == 10 + 16
    assert value(Feature("prefill_keys", chunk=64), **chunk) == 10 + 100 % 64


def test_counts():
    mixed = {"decode_seqs": 5, "prefill_seqs": 2, "prefill_tokens": 30, "completed_prefills": 1}
    found = [value(feature, **mixed) for feature in (ONE, TOKENS, PREFILL_TOKENS, DECODE_SEQS, SEQS, LOGIT_ROWS)]
    assert found == [1, 5 + 60, 60, 5, 7, 6]


def test_an_unknown_feature_is_a_programming_error():
    with pytest.raises(ValueError, match="no such feature"):
        value(Feature("typo"))


@given(st.integers(1, 300), st.integers(2, 64), st.data())
def test_distinct_experts_lies_between_its_bounds(tokens, experts, data):
    """At least top_k (some token chose that many), at most all experts and all choices; more tokens touch more."""
    top_k = data.draw(st.integers(1, experts))
    touched = distinct_experts(float(tokens), experts, top_k, float(experts))
    assert top_k * (1 - 1e-12) <= touched <= min(experts, tokens * top_k) * (1 + 1e-12)
    assert touched <= distinct_experts(tokens + 1.0, experts, top_k, float(experts)) * (1 + 1e-12)


@pytest.mark.parametrize(("tokens", "experts", "top_k"), [(1, 8, 2), (4, 8, 2), (16, 64, 6), (64, 256, 8)])
def test_distinct_experts_against_sampling(tokens, experts, top_k):
    """1,000 draws of top_k distinct experts per token; the mean lies within four standard errors."""
    random = np.random.default_rng(5)
    chosen = np.argsort(random.random((1_000, tokens, experts)), axis=-1)[..., :top_k]
    touched = np.array([np.unique(draw).size for draw in chosen])
    reach = 4.0 * touched.std() / math.sqrt(touched.size)
    assert distinct_experts(float(tokens), experts, top_k, float(experts)) == pytest.approx(touched.mean(), abs=max(reach, 1e-9))


def test_a_device_with_a_share_of_the_experts_sees_the_tokens_of_all_ranks():
    """4 ranks with 16 tokens each, 2 of 8 experts here: 2 (1 - (3/4)^64)."""
    here = Feature("distinct_experts", experts=8, top_k=2, local=2.0, spread=4)
    assert value(here, decode_seqs=16) == pytest.approx(2 * (1 - 0.75**64))


def test_joined_iterations_stand_side_by_side():
    two = join([Iteration(decode_seqs=np.array([1.0, 2.0])), Iteration(prefill_seqs=1.0, prefill_tokens=7.0)], 2)
    assert feature_matrix((TOKENS,), two).tolist() == [[1.0, 2.0, 7.0, 7.0]]


@pytest.mark.parametrize(("tokens", "experts", "top_k", "ranks"), [(8, 128, 8, 8), (8, 16, 1, 4), (64, 128, 8, 4)])
def test_the_fullest_rank_is_that_of_draws(tokens, experts, top_k, ranks):
    """2,000 draws of tokens that choose distinct experts evenly: the normal approximation holds to 8 %."""
    random = np.random.default_rng(1)
    most = []
    for _ in range(2_000):
        chosen = np.argsort(random.random((tokens, experts)), axis=1)[:, :top_k]
        touched = np.zeros(experts, bool)
        touched[chosen.ravel()] = True
        most.append(touched.reshape(ranks, -1).sum(axis=1).max())
    assert float(distinct_experts(float(tokens), experts, top_k, experts / ranks)) == pytest.approx(np.mean(most), rel=0.08)
