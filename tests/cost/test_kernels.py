"""The equations of a kernel: bounds and invariants."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from effsim.cost.kernels import launched, lowest_static_w, overlap, power_at, sorting_share, throttle, throttle_one, tile_quantization, voltage

seconds = st.floats(0.0, 1e3)
positive = st.floats(1e-6, 1e3)
shares = st.floats(0.0, 1.0)
sizes = st.integers(1, 5_000)


@given(seconds, seconds, shares)
def test_overlap_lies_between_the_larger_part_and_the_sum(compute_s, memory_s, softness):
    time_s, core_s = overlap(compute_s, memory_s, softness)
    assert max(compute_s, memory_s) * (1 - 1e-9) <= time_s <= (compute_s + memory_s) * (1 + 1e-9)
    assert -1e-12 <= core_s <= compute_s * (1 + 1e-9)


@given(positive, positive, st.floats(0.01, 1.0))
def test_the_core_bound_part_is_the_derivative_along_compute(compute_s, memory_s, softness):
    """``a dt/da`` by a central difference."""
    step = 1e-5
    up, down = (overlap(compute_s * factor, memory_s, softness)[0] for factor in (1 + step, 1 - step))
    assert overlap(compute_s, memory_s, softness)[1] == pytest.approx((up - down) / (2 * step), rel=1e-3, abs=1e-6 * (compute_s + memory_s))


@given(positive, positive, shares, shares)
def test_less_overlap_is_never_faster(compute_s, memory_s, one, other):
    soft, hard = sorted((one, other))
    assert overlap(compute_s, memory_s, soft)[0] <= overlap(compute_s, memory_s, hard)[0] * (1 + 1e-12)


def factor(rows, cols=4_096, inner=4_096, groups=1.0, units=132.0):
    return float(tile_quantization(float(rows), groups, float(cols), float(inner), units))


@given(sizes, sizes, sizes, st.integers(1, 300))
def test_quantisation_never_shortens(rows, cols, inner, units):
    assert factor(rows, cols, inner, units=float(units)) >= 1.0 - 1e-9


@given(sizes, sizes, sizes, st.integers(1, 300))
def test_a_row_more_is_never_faster(rows, cols, inner, units):
    now, then = (n * factor(n, cols, inner, units=float(units)) for n in (rows, rows + 1))
    assert now <= then * (1 + 1e-9)


@pytest.mark.parametrize(
    ("rows", "cols", "inner", "expected"),
    [
        (256, 128 * 132, 4_096, 1.0),  # 2 x 132 tiles: two full waves
        (128, 128 * 133, 4_096, 2 * 132 / 133),  # one tile too many: a second wave with a single tile
        (129, 128 * 132, 4_096, 256 / 129),  # one row too many: padded to 256
        (17, 128 * 132, 4_096, 32 / 17),  # padded to a multiple of 16
        (128, 128 * 33, 2_048, 1.0),  # a quarter of the units, K split in 4 of 512
        (128, 128 * 33, 1_024, 2.0),  # K splits in 2 only: half of the units work
        (128, 128, 512, 132.0),  # one tile that cannot be split: one of 132 units works
    ],
)
def test_tiles_and_waves_by_hand(rows, cols, inner, expected):
    assert factor(rows, cols, inner) == pytest.approx(expected)


def test_a_group_pads_each_member():
    """8 experts with 20 rows each are padded to 32 each; 8 · 33 tiles on 132 units are two full waves."""
    assert factor(160, 128 * 33, 4_096, groups=8.0) == pytest.approx(32 / 20)


@given(st.floats(0.15, 1.0), shares)
def test_voltage_falls_with_the_clock_to_its_floor(clock, floor):
    assert floor - 1e-12 <= voltage(clock, floor) <= 1.0 + 1e-12


@st.composite
def iterations(draw):
    """Time, core-bound part, core and other energy of an iteration; idle, static and limiting power; voltage floor."""
    time_s = draw(st.floats(1e-4, 10.0))
    parts = (time_s, time_s * draw(shares), time_s * draw(st.floats(0.0, 800.0)), time_s * draw(st.floats(0.0, 300.0)))
    idle_w = draw(st.floats(10.0, 100.0))
    return parts, (idle_w, idle_w + draw(st.floats(0.0, 150.0)), draw(st.floats(100.0, 800.0))), draw(st.floats(0.3, 0.9))


def power_of(parts, found):
    time_s, static_j, core_j = found
    return (static_j + core_j + parts[3]) / time_s


@given(iterations())
def test_the_limit_binds_exactly_or_not_at_all(case):
    parts, watts, floor = case
    full_w = power_at(1.0, parts, watts[0], watts[1], floor)[3]
    slowest_w = power_at(0.15, parts, watts[0], watts[1], floor)[3]
    found = throttle_one(parts, watts, floor, 0.15)
    if full_w <= watts[2]:
        assert found[0] == parts[0]
    elif slowest_w <= watts[2]:
        assert power_of(parts, found) == pytest.approx(watts[2], rel=1e-5)
        assert power_of(parts, found) <= watts[2] * (1 + 1e-9)
    elif lowest_static_w(watts, floor, 0.15) < watts[2]:  # pauses stretch the time
        assert power_of(parts, found) == pytest.approx(watts[2], rel=1e-5)
        assert found[0] > parts[0]
    else:  # a limit below static power
        assert power_of(parts, found) == pytest.approx(slowest_w, rel=1e-5)


@given(iterations(), st.floats(0.3, 1.0))
def test_a_lower_limit_is_never_faster_and_never_draws_more(case, share):
    parts, (idle_w, static_w, limit_w), floor = case
    assume(lowest_static_w(case[1], floor, 0.15) < limit_w * share)  # a limit below cannot be met: the estimate refuses it
    high = throttle_one(parts, (idle_w, static_w, limit_w), floor, 0.15)
    low = throttle_one(parts, (idle_w, static_w, limit_w * share), floor, 0.15)
    assert low[0] >= high[0] * (1 - 1e-9)
    assert power_of(parts, low) <= power_of(parts, high) * (1 + 1e-6)


@given(iterations())
def test_power_rises_with_the_clock(case):
    """So that bisection finds the one clock at which the limit is met."""
    parts, (idle_w, static_w, _), floor = case
    watts = [power_at(clock, parts, idle_w, static_w, floor)[3] for clock in np.linspace(0.15, 1.0, 12)]
    assert all(low <= high * (1 + 1e-9) for low, high in itertools.pairwise(watts))


@given(st.lists(iterations(), min_size=1, max_size=6))
def test_arrays_and_floats_agree(cases):
    _, watts, floor = cases[0]
    columns = tuple(np.array(column) for column in zip(*(parts for parts, _, _ in cases), strict=True))
    together = throttle(columns, watts, floor, 0.15)
    for index, (parts, _, _) in enumerate(cases):
        alone = throttle_one(parts, watts, floor, 0.15)
        assert [column[index] for column in together] == pytest.approx(list(alone), rel=1e-12)


def test_half_the_clock_by_hand():
    """10 s of which 4 s are the core's: 14 s. Voltage 0.5 + 0.5 · 0.5 = 0.75 of full, squared 0.5625: core energy 100 J to 56.25 J, static power
    50 W + 100 W · 0.5625 = 106.25 W for 14 s; other energy stays at 200 J.
    """
    time_s, static_j, core_j, power_w = power_at(0.5, (10.0, 4.0, 100.0, 200.0), 50.0, 150.0, 0.5)
    assert (time_s, static_j, core_j) == (14.0, 106.25 * 14.0, 56.25)
    assert power_w == pytest.approx((106.25 * 14.0 + 56.25 + 200.0) / 14.0)


@pytest.mark.parametrize("rows", [1.0, 128.0, 129.0, 1_000.0])
def test_sorting_more_rows_never_takes_less(rows):
    assert rows * sorting_share(rows) <= (rows + 1.0) * sorting_share(rows + 1.0)
    assert sorting_share(rows) <= 1.0


def test_an_iteration_takes_at_least_its_kernels_and_its_launches():
    for kernels_s, launches_s in ((1.0, 0.0), (1.0, 0.9), (1.0, 1.0), (0.2, 1.0)):
        assert max(kernels_s, launches_s) <= launched(kernels_s, launches_s) <= kernels_s + launches_s
