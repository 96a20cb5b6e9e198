"""Arrivals by the hours of a day: the mean is exact, the course is that of the factors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.specs.workload import Arrivals
from effsim.workload.arrivals import arrival_times_s, stream
from effsim.workload.day import DAY_S, day_of

OFFICE = (*[0.2] * 8, *[1.0] * 4, 0.0, *[1.5] * 5, *[0.4] * 6)


def diurnal(**fields):
    return Arrivals.model_validate({"process": "diurnal", **fields})


HOUR = st.floats(0, 23)
FACTORS = st.lists(st.floats(0, 9), min_size=23, max_size=23)
days = st.one_of(
    st.builds(lambda factors, hour: diurnal(rate=3.0, hourly_factors=(*factors, 1.0), start_hour=hour), FACTORS, HOUR),
    st.builds(lambda swing, peak, hour: diurnal(rate=3.0, swing=swing, peak_hour=peak, start_hour=hour), st.floats(0, 1), HOUR, HOUR),
)


@given(arrivals=days, whole_days=st.integers(1, 5))
def test_the_mean_over_whole_days_is_the_rate(arrivals, whole_days):
    assert day_of(arrivals).expected(whole_days * DAY_S) == pytest.approx(3.0 * DAY_S * whole_days, rel=1e-12)


@given(arrivals=days, times_s=st.lists(st.floats(0, 3e5), min_size=1, max_size=20))
def test_times_are_the_inverse_of_the_expected_requests(arrivals, times_s):
    day = day_of(arrivals)
    expected = np.array(sorted(day.expected(time_s) for time_s in times_s))
    found = day.times_s(expected)
    assert [day.expected(time_s) for time_s in found] == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-4)
    assert (np.diff(found) >= 0.0).all()


def test_the_sinusoid_is_that_of_its_formula():
    day = day_of(diurnal(rate=2.0, swing=0.5, peak_hour=15.0, start_hour=9.0))
    for hour in (0.0, 3.0, 6.0, 13.0, 17.5):
        rate = (day.expected(3600 * hour + 60) - day.expected(3600 * hour)) / 60
        assert rate == pytest.approx(2.0 * (1.0 + 0.5 * math.cos(2 * math.pi * (9.0 + hour + 1 / 120 - 15.0) / 24)), rel=1e-5)


def test_arrivals_per_hour_are_poisson_about_the_factors():
    arrivals = diurnal(rate=1.0, hourly_factors=OFFICE)
    times_s = arrival_times_s(arrivals, stream(7, "x"), None, 20 * DAY_S)
    counts = np.histogram(times_s % DAY_S, bins=np.linspace(0.0, DAY_S, 25))[0]
    expected = 20 * 3600.0 * np.array(OFFICE) * 24 / sum(OFFICE)
    assert counts[12] == 0
    busy = expected > 0
    chi_square = ((counts[busy] - expected[busy]) ** 2 / expected[busy]).sum()
    assert chi_square < 49.7  # 0.1 % of chi-square with 23 degrees of freedom


def test_hourly_rates_are_rates_and_the_run_begins_at_its_hour():
    rates = [0.0] * 24
    rates[9] = 0.5
    arrivals = diurnal(hourly_rates=[f"{rate} req/s" for rate in rates], start_hour=8.0)
    times_s = arrival_times_s(arrivals, stream(1, "x"), None, DAY_S)
    assert times_s.size == pytest.approx(1800, abs=170)
    assert (times_s.min() >= 3600.0, times_s.max() <= 7200.0) == (True, True)


def test_bursts_remain_in_a_day():
    arrivals = diurnal(rate=5.0, swing=0.0, burstiness=0.25)
    gaps_s = np.diff(arrival_times_s(arrivals, stream(1, "x"), 100_000, None))
    assert gaps_s.mean() == pytest.approx(0.2, rel=0.03)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(2.0, rel=0.03)


@given(requests=st.none() | st.integers(1, 40), duration_s=st.floats(100, 2e5))
def test_whichever_comes_first_ends_a_day(requests, duration_s):
    times_s = arrival_times_s(diurnal(rate=0.01, hourly_factors=OFFICE), stream(3, "x"), requests, duration_s)
    assert (times_s < duration_s).all()
    assert requests is None or times_s.size <= requests


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 1.0}, "diurnal arrivals take exactly hourly_factors and rate or rate and swing or hourly_rates; given: rate"),
        ({"rate": 1.0, "hourly_factors": [1.0] * 23}, "hourly_factors: expected 24 numbers, one per hour of the day, not all zero; got 23"),
        ({"rate": 1.0, "hourly_factors": [0.0] * 24}, "not all zero"),
        ({"rate": 1.0, "hourly_factors": [1.0] * 24, "peak_hour": 3}, "peak_hour belongs to swing"),
        ({"rate": 1.0, "swing": 1.5}, "less than or equal to 1"),
    ],
)
def test_a_day_that_is_not_determined_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        diurnal(**fields)
