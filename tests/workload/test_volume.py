"""More or fewer requests in the same span."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.errors import SpecError
from effsim.workload.traces import HashIds, Trace, with_volume


def trace_of(count, *, sessions=False):
    random = np.random.default_rng(count)
    arrival_s = np.sort(random.uniform(0, 1000, count))
    columns = {"session": random.integers(-1, max(count // 3, 1), count)} if sessions else {}
    hash_ids = HashIds(np.arange(count + 1), random.integers(0, 50, count), 16)
    return Trace("t", "test", arrival_s, random.integers(1, 99, count), random.integers(1, 99, count), hash_ids=hash_ids, **columns)


@given(count=st.integers(1, 80), copies=st.integers(1, 6), sessions=st.booleans(), seed=st.integers(0, 99))
def test_whole_copies_have_each_request_so_many_times(count, copies, sessions, seed):
    whole = trace_of(count, sessions=sessions)
    found = with_volume(whole, float(copies), np.random.default_rng(seed))
    assert len(found) == copies * count
    assert np.sort(found.prompt_tokens).tolist() == np.sort(np.tile(whole.prompt_tokens, copies)).tolist()
    assert (np.diff(found.arrival_s) >= 0.0).all()
    if not sessions:
        assert found.duration_s <= whole.duration_s * count / max(count - 1, 1) + 1e-9


@given(count=st.integers(2, 60), seed=st.integers(0, 99), scale=st.floats(1.0, 3.0))
def test_turns_stay_together_and_in_order(count, seed, scale):
    whole = trace_of(count, sessions=True)
    found = with_volume(whole, scale, np.random.default_rng(seed))
    turns = {tuple(whole.prompt_tokens[whole.session == one]) for one in np.unique(whole.session[whole.session >= 0])}
    for one in np.unique(found.session[found.session >= 0]):
        assert tuple(found.prompt_tokens[found.session == one]) in turns


def test_copies_share_no_blocks_with_each_other():
    whole = trace_of(50)
    found = with_volume(whole, 3.0, np.random.default_rng(0))
    per_copy = [set((found.hash_ids.ids[found.hash_ids.ids // 50 == copy] % 50).tolist()) for copy in range(3)]
    assert per_copy == [set(whole.hash_ids.ids.tolist())] * 3


def test_thinning_keeps_the_share_and_the_course():
    whole = trace_of(40_000)
    found = with_volume(whole, 0.25, np.random.default_rng(1))
    assert len(found) == pytest.approx(10_000, abs=350)  # four standard deviations
    assert np.isin(found.arrival_s, whole.arrival_s).all()
    assert len(with_volume(whole, 2.5, np.random.default_rng(1))) == pytest.approx(100_000, abs=400)


def test_copies_are_shifted_but_the_course_of_hours_stays():
    day = Trace("t", "test", np.concatenate((np.full(1000, 3600.0 * 5), np.full(10, 3600.0 * 20))), np.ones(1010), np.ones(1010))
    found = with_volume(day, 4.0, np.random.default_rng(1))
    assert (found.arrival_s == 3600.0 * 5).sum() == 1000  # only the first copy's burst falls there
    assert ((found.arrival_s >= 3600.0 * 5) & (found.arrival_s < 3600.0 * 5 + 300.0)).sum() == 4000


def test_one_is_the_trace_itself_and_equal_seeds_are_equal():
    whole = trace_of(30)
    assert (with_volume(whole, 1.0, np.random.default_rng(5)).arrival_s == whole.arrival_s).all()
    one, other = (with_volume(whole, 2.7, np.random.default_rng(5)) for _ in range(2))
    assert (one.arrival_s == other.arrival_s).all()


@pytest.mark.parametrize(("scale", "message"), [(0.0, "above 0"), (float("nan"), "above 0"), (1e7, "at most 20,000,000"), (1e-9, "leaves none of 30 requests")])
def test_scales_that_cannot_be_are_refused(scale, message):
    with pytest.raises(SpecError, match=message):
        with_volume(trace_of(30), scale, np.random.default_rng(0))
