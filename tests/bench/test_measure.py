"""Timing and load: against times that are written down and against a clock that is only ever told."""

import dataclasses
import itertools
import time

import pytest

from effsim.bench import measure as measuring
from effsim.bench.case import Case, Work
from effsim.bench.measure import load, measure, timed
from tests.bench.fakes import TINY, Meter, Scripted, instruments


def test_timing_stops_when_the_median_is_known():
    device = Scripted([1e-3])
    median, samples = timed(lambda: None, device, dataclasses.replace(TINY, timing_s=60.0, relative_half_width=0.01))
    assert median.value == pytest.approx(1e-3)
    assert samples == pytest.approx(measuring.SOME_SAMPLES, abs=measuring.BATCH_SAMPLES)


def test_timing_goes_on_while_samples_scatter_and_says_so():
    device = Scripted([1e-3, 3e-3])
    settings = dataclasses.replace(TINY, timing_s=0.02, relative_half_width=0.01)
    row = measure(Case("gemm", {"m": 1}), Work(lambda: None, "nothing"), instruments(device), settings)
    assert row.samples > measuring.SOME_SAMPLES
    assert "wider than the 1% asked for" in row.notes[0]
    assert row.time_low_s <= row.time_s <= row.time_high_s


def test_a_call_is_a_run_divided_by_its_calls():
    device = Scripted([0.01])
    row = measure(Case("gemm", {"m": 1}), Work(lambda: None, "nothing", calls=4), instruments(device), TINY)
    assert row.time_s == pytest.approx(0.01 / 4)
    assert row.calls_per_sample == 4
    assert row.launch == "eager"


def test_short_runs_are_repeated_within_a_sample():
    calls = itertools.count()
    device = Scripted([1e-6])
    row = measure(Case("gemm", {"m": 1}), Work(lambda: next(calls), "nothing"), instruments(device), TINY)
    assert row.calls_per_sample == 200


def test_an_accelerator_is_looked_at_while_it_works():
    log = []

    class Queue(Scripted):
        large = True

        def synchronize(self):
            log.append("wait")

    opened = instruments(Queue([0.01]))
    opened.watch.look = lambda: log.append("look") or {}
    measure(Case("gemm", {"m": 1}), Work(lambda: log.append("run"), "nothing"), opened, TINY)
    assert log[-7:] == ["run"] * 5 + ["look", "wait"]  # 50 ms of it


def test_without_a_meter_energy_is_blank():
    row = measure(Case("gemm", {"m": 1}), Work(lambda: None, "nothing"), instruments(), dataclasses.replace(TINY, window_s=0.01))
    assert (row.energy_j, row.power_w, row.window_s, row.metered) == (None, None, None, ())


def test_energy_of_a_call_is_that_of_the_window_over_its_calls():
    meter = Meter(power_w=50.0, clock=time.perf_counter)
    work = Work(lambda: time.sleep(0.001), "sleep")
    row = measure(Case("gemm", {"m": 1}), work, instruments(meter=meter), dataclasses.replace(TINY, window_s=0.1))
    assert row.window_s >= 0.1
    assert row.power_w == pytest.approx(50.0, rel=0.05)
    assert row.energy_j * row.window_calls == pytest.approx(row.power_w * row.window_s)
    assert row.energy_low_j == pytest.approx(0.9 * row.energy_j)
    assert row.sustained_time_s == pytest.approx(row.window_s / row.window_calls)
    assert row.metered == ("package-0",)


def test_a_blank_energy_keeps_its_reason():
    meter = Meter(power_w=50.0, clock=time.perf_counter, reason="the counter went backwards")
    row = measure(Case("gemm", {"m": 1}), Work(lambda: None, "nothing"), instruments(meter=meter), dataclasses.replace(TINY, window_s=0.01))
    assert row.energy_j is None
    assert "the counter went backwards" in row.notes


def test_idle_waits_and_times_nothing():
    meter = Meter(power_w=20.0, clock=time.perf_counter)
    work = Work(lambda: pytest.fail("idle issues no calls"), "none")
    row = measure(Case("idle", duty_ratio=0.0), work, instruments(meter=meter), dataclasses.replace(TINY, window_s=0.05))
    assert row.time_s is None
    assert row.energy_j is None  # there is no call to divide by
    assert row.power_w == pytest.approx(20.0, rel=0.05)


class Clock:
    """Time that passes only in calls and pauses."""

    def __init__(self, monkeypatch):
        self.now_s = self.busy_s = 0.0
        monkeypatch.setattr(measuring.time, "perf_counter", lambda: self.now_s)
        monkeypatch.setattr(measuring.time, "sleep", self.sleep)

    def sleep(self, time_s):
        self.now_s += time_s

    def call(self):
        self.now_s += 0.003
        self.busy_s += 0.003


@pytest.mark.parametrize("duty", [0.1, 0.25, 0.5, 0.75, 0.9, 1.0])
def test_the_share_of_load_is_kept(duty, monkeypatch):
    clock = Clock(monkeypatch)
    elapsed_s, done = load(clock.call, Scripted([1.0]), (0.003, duty), 2.0)
    assert elapsed_s >= 2.0
    assert done * 0.003 == pytest.approx(clock.busy_s)
    assert clock.busy_s / elapsed_s == pytest.approx(duty, abs=1e-9)


def test_a_call_longer_than_a_period_still_keeps_its_share(monkeypatch):
    clock = Clock(monkeypatch)
    elapsed_s, _ = load(clock.call, Scripted([1.0]), (0.003, 0.001), 5.0)
    assert clock.busy_s / elapsed_s == pytest.approx(0.001)
