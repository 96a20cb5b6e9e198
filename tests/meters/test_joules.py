"""Joules from counts, against closed forms: wraps, resets, gaps, missing readings; sums of parts; shifts in time."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.errors import SpecError
from effsim.meters.base import Channel, Reading
from effsim.meters.joules import Energy, Track, between, integrate

RANGE_UJ = 262_143_328_850
COUNTER = Channel("nvml/gpu0/energy", "gpu0", "accelerator", "energy", 1e-3, period_s=0.1, max_power_w=700.0)
PACKAGE = Channel("rapl/package-0/energy", "package-0", "processor", "energy", 1e-6, wraps_at=RANGE_UJ, period_s=0.001, max_power_w=2000.0)
POWER = Channel("wall/power", "wall", "server", "power", 1.0)


def readings(channel, *pairs):
    return [Reading(channel.name, t_s, count, "" if count is not None else "bus error") for t_s, count in pairs]


def whole(channel, *pairs, **settings):
    return integrate(channel, readings(channel, *pairs), pairs[0][0], pairs[-1][0], **settings)


def test_a_counter_is_a_difference():
    energy = whole(COUNTER, (0.0, 1000), (10.0, 3_001_000))
    assert energy.value_j == pytest.approx(3000.0)
    assert energy.power_w == pytest.approx(300.0)
    assert (energy.method, energy.provenance, energy.scope) == ("counter", "measured", "accelerator")


def test_the_interval_of_a_counter_is_the_age_of_its_two_counts():
    energy = whole(COUNTER, (0.0, 0), (10.0, 3_000_000))
    # Two ages uniform over 0.1 s at 300 W: a triangle of half-base 30 J, of which 90 % lies within 30 (1 - sqrt(0.1)).
    assert energy.high_j - energy.value_j == pytest.approx(30.0 * (1 - math.sqrt(0.1)), abs=0.01)
    assert energy.value_j - energy.low_j == pytest.approx(energy.high_j - energy.value_j)


def test_accuracy_widens_the_interval_with_the_energy():
    rough = Channel("x", "x", "server", "power", 1.0, accuracy_ratio=0.03, accuracy_w=4.0)
    energy = whole(rough, (0.0, 100.0), (1.0, 100.0), (2.0, 100.0))
    assert energy.high_j - 200.0 == pytest.approx(math.hypot(0.03 * 200.0, 4.0 * 2.0, 1.0 * 2.0))


def test_power_is_a_trapezoid():
    assert whole(POWER, (0.0, 100.0), (2.0, 300.0), (3.0, 100.0)).value_j == pytest.approx(400.0 + 200.0)


def test_a_part_of_a_ramp_is_cut_where_the_window_ends():
    ramp = readings(POWER, (0.0, 0.0), (2.0, 100.0))
    assert [integrate(POWER, ramp, *window).value_j for window in ((0.0, 1.0), (1.0, 2.0), (0.5, 1.0))] == pytest.approx([25.0, 75.0, 18.75])


def test_the_interval_of_power_is_the_spread_between_its_readings():
    energy = whole(Channel("x", "x", "server", "power", 1e-9), (0.0, 100e9), (2.0, 300e9))
    assert energy.high_j - energy.value_j == pytest.approx(1.6449 * 200.0 * 2.0 / math.sqrt(12.0), rel=1e-4)


def test_a_counter_that_starts_again_at_0_is_followed():
    energy = whole(PACKAGE, (0.0, RANGE_UJ - 50_000_000), (1.0, 150_000_000))
    assert energy.value_j == pytest.approx(200.0)
    assert energy.flags == ("the counter started again at 0 once",)


def test_several_wraps_are_followed_when_each_is_seen():
    energy = whole(PACKAGE, *((t * 100.0, (t * 100 * 1500 * 1_000_000) % RANGE_UJ) for t in range(11)))
    assert energy.value_j == pytest.approx(1500.0 * 1000.0)
    assert "5 times" in energy.flags[0]


def test_wraps_that_nobody_can_have_seen_leave_the_energy_blank_between_bounds():
    energy = whole(PACKAGE, (0.0, 0), (300.0, 100_000_000))
    assert energy.value_j is None
    assert "too seldom" in energy.reason
    assert energy.low_j == pytest.approx(100.0)
    range_j = RANGE_UJ * 1e-6
    most = math.floor((2000.0 * 300.001 - 100.0) / range_j)
    assert energy.high_j == pytest.approx(100.0 + most * range_j)


def test_a_counter_that_falls_without_a_wrap_was_reset():
    energy = whole(COUNTER, (0.0, 5_000_000), (10.0, 1000))
    assert (energy.value_j, energy.low_j) == (None, None)
    assert "reset" in energy.reason


def test_a_fall_that_no_wrap_explains_was_a_reset():
    energy = whole(PACKAGE, (0.0, 5_000_000), (1.0, 1000))  # a wrap would be 262 kJ in a second
    assert energy.value_j is None
    assert "reset" in energy.reason


def test_a_short_window_says_nothing_by_its_counter_but_what_the_limit_bounds():
    energy = whole(COUNTER, (0.0, 1000), (0.05, 1000))
    assert energy.value_j is None
    assert (energy.low_j, energy.high_j) == (0.0, pytest.approx(35.0))
    assert "shorter" in energy.reason
    assert "50 ms" in energy.flags[0]


def test_a_window_of_few_updates_is_as_wide_as_the_limit_allows():
    long, short = whole(COUNTER, (0.0, 0), (10.0, 1_000_000)), whole(COUNTER, (0.0, 0), (0.2, 20_000))
    assert long.high_j - long.value_j < 10.0
    assert short.high_j - short.value_j == pytest.approx(700.0 * 0.1 * (1 - math.sqrt(0.1)), rel=1e-3)


def test_a_short_window_by_power_is_stated_and_wide():
    mean = Channel("p", "gpu0", "accelerator", "power", 1e-3, averaging_s=1.0, max_power_w=700.0)
    energy = whole(mean, (0.0, 100_000), (0.5, 300_000))
    assert energy.value_j == pytest.approx(100.0)
    assert (energy.low_j, energy.high_j) == (0.0, pytest.approx(350.0))
    assert "shorter" in energy.flags[0]


def test_the_lag_of_an_averaged_power_is_in_its_interval():
    momentary, mean = (Channel("p", "gpu0", "accelerator", "power", 1e-3, averaging_s=lag_s) for lag_s in (0.0, 1.0))
    pairs = [(0.1 * step, 100_000 if step < 50 else 500_000) for step in range(101)]
    narrow, wide = whole(momentary, *pairs), whole(mean, *pairs)
    assert wide.value_j == narrow.value_j
    assert wide.high_j - wide.value_j >= 0.5 * 400.0


def test_a_gap_is_flagged_and_its_energy_is_in_the_interval():
    pairs = [(float(t), 100.0) for t in (*range(91), *range(98, 101))]
    energy = whole(POWER, *pairs)
    assert energy.value_j == pytest.approx(10_000.0)
    assert "8 s without readings" in energy.flags[0]
    assert energy.high_j - energy.value_j >= 800.0
    assert energy.value_j - energy.low_j >= 800.0


def test_a_window_that_is_mostly_gap_stays_blank():
    energy = whole(POWER, (0.0, 100.0), (1.0, 100.0), (9.0, 100.0), (10.0, 100.0))
    assert energy.value_j is None
    assert "8 s of 10 s lie in gaps" in energy.reason


def test_missing_readings_are_counted_and_bridged():
    energy = whole(POWER, (0.0, 100.0), (1.0, None), (2.0, 200.0))
    assert energy.value_j == pytest.approx(300.0)
    assert energy.flags == ("1 of 2 readings failed",)


@pytest.mark.parametrize(("pairs", "reason"), [(((0.0, None), (1.0, 5), (2.0, 9)), "starts later"), (((0.0, 5), (1.0, 9), (2.0, None)), "does not reach")])
def test_a_missing_end_leaves_the_energy_blank(pairs, reason):
    energy = whole(COUNTER, *pairs)
    assert energy.value_j is None
    assert reason in energy.reason


def test_a_live_window_whose_first_reading_failed_says_why():
    track = Track(COUNTER)
    first, last = (track.push(reading) for reading in readings(COUNTER, (0.0, None), (5.0, 100)))
    assert between(COUNTER, first, last).reason == "no reading at the start: bus error"


@pytest.mark.parametrize("count", [math.nan, math.inf, -1])
def test_what_is_no_count_is_missing(count):
    assert whole(COUNTER, (0.0, 0), (1.0, count), (2.0, 100_000)).flags == ("1 of 2 readings failed",)


def test_readings_out_of_order_are_refused():
    with pytest.raises(SpecError, match="not in order of time"):
        whole(COUNTER, (1.0, 5), (0.5, 6), (2.0, 7))


def test_a_window_that_ends_before_it_starts_is_refused():
    with pytest.raises(SpecError, match="ends before it starts"):
        integrate(COUNTER, [], 2.0, 1.0)


def test_a_counter_that_wraps_needs_a_bound_of_power():
    with pytest.raises(ValueError, match="needs max_power_w"):
        Channel("x", "x", "processor", "energy", 1e-6, wraps_at=10)


def test_an_undocumented_period_is_said_to_be_assumed():
    assert "0.1 s is assumed" in whole(Channel("x", "x", "processor", "energy", 1.0), (0.0, 0), (9.0, 9)).flags[0]


def test_idle_is_taken_off_over_the_length_of_the_window():
    net = whole(POWER, (0.0, 100.0), (2.0, 100.0)).above_idle(40.0)
    assert net.value_j == pytest.approx(120.0)
    assert "40 W of idle power" in net.flags[-1]


def test_idle_of_a_blank_energy_stays_blank():
    blank = Energy("x", "x", "server", "counter", None, None, None, 1.0, reason="reset")
    assert blank.above_idle(40.0) == blank


counts = st.lists(st.tuples(st.floats(0.05, 4.0), st.integers(0, 600)), min_size=3, max_size=30)


def walk(channel, steps, start_s=0.0, start_count=0):
    """Return readings after steps of (time, mean power): counters that wrap where the channel does, or power itself."""
    t_s, total, found = start_s, start_count, []
    for dt_s, power in [(0.0, steps[0][1]), *steps]:
        t_s, total = t_s + dt_s, total + round(dt_s * power / channel.unit_size)
        count = power if channel.quantity == "power" else total % channel.wraps_at if channel.wraps_at else total
        found.append(Reading(channel.name, t_s, count))
    return found


@given(steps=counts, cuts=st.lists(st.floats(0.0, 1.0), max_size=4), channel=st.sampled_from([COUNTER, PACKAGE, POWER]), start=st.integers(0, RANGE_UJ - 1))
def test_the_energy_of_a_window_is_that_of_its_parts(steps, cuts, channel, start):
    found = walk(channel, steps, start_count=start if channel is PACKAGE else 0)
    end_s = found[-1].t_s
    edges = [0.0, *sorted(cut * end_s for cut in cuts), end_s]
    total = integrate(channel, found, 0.0, end_s)
    parts = [integrate(channel, found, low_s, high_s) for low_s, high_s in pairwise(edges)]
    lasting = [part for part in parts if part.time_s > 0.1]
    if len(lasting) == len(parts) and total.value_j is not None:
        assert math.isclose(sum(part.value_j for part in parts), total.value_j, rel_tol=1e-9, abs_tol=1e-6)


@given(steps=counts, shift_s=st.floats(-1e5, 1e5), channel=st.sampled_from([COUNTER, PACKAGE, POWER]))
def test_a_shift_in_time_changes_nothing(steps, shift_s, channel):
    here, there = walk(channel, steps), walk(channel, steps, start_s=shift_s)
    first, second = (integrate(channel, one, one[0].t_s, one[-1].t_s) for one in (here, there))
    assert (first.value_j is None) == (second.value_j is None)
    if first.value_j is not None:
        assert second.value_j == pytest.approx(first.value_j, rel=1e-6, abs=1e-6)
        assert second.high_j == pytest.approx(first.high_j, rel=1e-6, abs=1e-6)


@given(steps=counts, start=st.integers(0, RANGE_UJ - 1))
def test_where_a_counter_stands_changes_nothing(steps, start):
    plain, moved = (integrate(PACKAGE, found, 0.0, found[-1].t_s) for found in (walk(PACKAGE, steps), walk(PACKAGE, steps, start_count=start)))
    assert moved.value_j == pytest.approx(plain.value_j, abs=1e-6)


@given(steps=counts, channel=st.sampled_from([COUNTER, PACKAGE, POWER]))
def test_an_interval_holds_its_value_and_nothing_below_zero(steps, channel):
    found = walk(channel, steps)
    energy = integrate(channel, found, 0.0, found[-1].t_s)
    if energy.value_j is not None:
        assert 0.0 <= energy.low_j <= energy.value_j <= energy.high_j


@given(power_w=st.floats(50.0, 600.0), phase=st.floats(0.0, 0.1), begin=st.floats(0.0, 0.1), time_s=st.floats(0.6, 5.0))
def test_the_interval_of_a_stale_counter_holds_what_was_used(power_w, phase, begin, time_s):
    """A counter that moves every 0.1 s at constant power: the truth is never farther off than one period."""

    def count(t_s):
        return int(1e3 * power_w * (math.floor((t_s - phase) / 0.1) * 0.1 + 10.0))

    energy = whole(COUNTER, (begin, count(begin)), (begin + time_s, count(begin + time_s)))
    assert abs(energy.value_j - power_w * time_s) <= 0.1 * power_w + 0.01
