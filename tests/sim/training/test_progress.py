"""The jump over many cycles equals a walk in small steps."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.sim.training.progress import Progress

CYCLES = {"work_s": st.floats(50, 500), "interval_s": st.floats(10, 50), "blocking_s": st.floats(0, 5), "lag_s": st.floats(0, 4), "rate": st.floats(0.3, 1)}


def after(pieces_s, work_s, interval_s, blocking_s, lag_s, rate):
    run, now_s, gained_s, blocked_s = Progress(work_s, interval_s, blocking_s, lag_s), 0.0, 0.0, 0.0
    for piece_s in pieces_s:
        gained, blocked = run.advance(now_s, piece_s, rate)
        now_s, gained_s, blocked_s = now_s + piece_s, gained_s + gained, blocked_s + blocked
    return run, gained_s, blocked_s


@given(**CYCLES, share=st.floats(0.01, 0.999), pieces=st.integers(2, 30))
def test_one_jump_equals_many_small_ones(share, pieces, **given_):
    whole_s = Progress(**{key: value for key, value in given_.items() if key != "rate"}).time_left_s(given_["rate"]) * share
    one, gained_s, blocked_s = after([whole_s], **given_)
    many, gained_many_s, blocked_many_s = after([whole_s / pieces] * pieces, **given_)
    assert gained_s == pytest.approx(gained_many_s, abs=1e-6)
    assert blocked_s == pytest.approx(blocked_many_s, abs=1e-6)
    assert gained_s / given_["rate"] + blocked_s == pytest.approx(whole_s)
    if one.saves == many.saves:  # rounding may put the end of a save on either side of the last moment
        assert one.saved_s == pytest.approx(many.saved_s, abs=1e-6)


@given(**CYCLES)
def test_the_time_left_ends_the_work(rate, **given_):
    run = Progress(**given_)
    left_s = run.time_left_s(rate)
    run.advance(0.0, left_s, rate)
    assert run.done_s == pytest.approx(run.work_s, rel=1e-9)
    before_the_end = math.ceil(run.work_s / run.interval_s - 1e-9) - 1
    assert run.saves in ({before_the_end} if run.blocking_s > 1e-6 else {before_the_end, before_the_end + 1})  # one that costs nothing may end with the work


@given(**CYCLES, share=st.floats(0.01, 0.999))
def test_a_failure_loses_at_most_one_cycle_and_what_is_still_being_written(rate, share, **given_):
    run = Progress(**given_)
    end_s = run.time_left_s(rate) * share
    run.advance(0.0, end_s, rate)
    done_s = run.done_s
    lost_s = run.roll_back(end_s)
    assert 0.0 <= lost_s <= given_["interval_s"] + given_["lag_s"] * rate + 1e-6
    assert run.done_s == pytest.approx(done_s - lost_s)
    assert run.done_s / given_["interval_s"] == pytest.approx(round(run.done_s / given_["interval_s"]), abs=1e-6)


def test_an_unfinished_asynchronous_save_does_not_count():
    run = Progress(work_s=100.0, interval_s=30.0, blocking_s=1.0, lag_s=10.0)
    run.advance(0.0, 31.0 + 9.0, 1.0)
    assert run.roll_back(40.0) == pytest.approx(39.0)
    run = Progress(work_s=100.0, interval_s=30.0, blocking_s=1.0, lag_s=10.0)
    run.advance(0.0, 31.0 + 10.5, 1.0)
    assert run.roll_back(41.5) == pytest.approx(10.5)
    run = Progress(work_s=100.0, interval_s=30.0, blocking_s=1.0, lag_s=10.0)
    run.advance(0.0, 31.0 + 9.0, 1.0)
    assert run.roll_back(45.0) == pytest.approx(9.0), "written while the job stood still"
