"""Windows: nested, side by side, several devices, meters that disagree, failures; the thread that polls."""

import threading
import time
from dataclasses import replace

import pytest

import effsim
from effsim.errors import MeterUnavailableError, SpecError, UnknownNameError
from effsim.meters.base import Obstacle
from effsim.meters.window import Monitor, measure


@pytest.fixture
def bench(doubles):
    """Return a clock, a meter of one GPU (counter and power) and one package, and a monitor without a thread."""
    clock = doubles.Clock()
    meter = doubles.Meter(clock, doubles.POWER, doubles.COUNTER, doubles.PACKAGE)
    return clock, meter, Monitor([meter], sample_period_s=None, clock=clock)


def run(clock, meter, monitor, time_s, gpu_w, package_w=0.0, step_s=1.0):
    """Let time pass under a constant load, with power read once a step."""
    for _ in range(round(time_s / step_s)):
        clock.t_s += step_s
        meter.counts["nvml/gpu0/energy"] += round(gpu_w * step_s * 1e3)
        meter.counts["rapl/package-0/energy"] += round(package_w * step_s * 1e6)
        meter.counts["nvml/gpu0/power"] = round(gpu_w * 1e3)
        monitor.sample()


def test_a_window_adds_up_devices_and_takes_each_once(bench):
    clock, meter, monitor = bench
    meter.counts["nvml/gpu0/power"] = 300_000
    monitor.begin_window("step")
    run(clock, meter, monitor, 10, gpu_w=300.0, package_w=100.0)
    result = monitor.end_window("step")
    assert result.energy_j == pytest.approx(4000.0)
    assert result.power_w == pytest.approx(400.0)
    assert result.time_s == pytest.approx(10.0)
    assert {device: energy.channel for device, energy in result.by_device.items()} == {
        "gpu0": "nvml/gpu0/energy",  # preferred to the power beside it
        "package-0": "rapl/package-0/energy",
    }
    assert result.scopes == ("accelerator", "processor")
    assert result.energy_of("accelerator") == pytest.approx(3000.0)
    assert result.energy_of("memory") is None
    low_j, high_j = result.interval_j
    assert low_j < 4000.0 < high_j


def test_the_counter_and_the_power_beside_it_are_both_reported_and_compared(bench):
    clock, meter, monitor = bench
    meter.counts["nvml/gpu0/power"] = 327_000
    monitor.begin_window("idle")
    for _ in range(50):
        clock.t_s += 0.1
        meter.counts["nvml/gpu0/energy"] += 3_740
        monitor.sample()
    result = monitor.end_window("idle")
    (comparison,) = result.comparisons
    assert (comparison.first, comparison.second) == ("nvml/gpu0/energy", "nvml/gpu0/power")
    assert comparison.difference_ratio == pytest.approx(327.0 / 37.4 - 1.0)
    assert comparison.disagree
    assert any("they disagree" in flag and "+774" in flag for flag in result.flags)
    assert result.energy_j == pytest.approx(187.0)


def test_meters_that_agree_are_compared_too(bench):
    clock, meter, monitor = bench
    meter.counts["nvml/gpu0/power"] = 300_000
    monitor.begin_window("w")
    run(clock, meter, monitor, 10, gpu_w=300.0)
    (comparison,) = monitor.end_window("w").comparisons
    assert not comparison.disagree
    assert comparison.difference_ratio == pytest.approx(0.0)


def test_nested_and_overlapping_windows_add_up(bench):
    clock, meter, monitor = bench
    monitor.begin_window("all")
    monitor.begin_window("first")
    run(clock, meter, monitor, 5, gpu_w=100.0)
    monitor.begin_window("overlap")
    run(clock, meter, monitor, 5, gpu_w=200.0)
    first = monitor.end_window("first")
    monitor.begin_window("rest")
    run(clock, meter, monitor, 5, gpu_w=400.0)
    overlap, rest, total = (monitor.end_window(name) for name in ("overlap", "rest", "all"))
    assert [each.energy_of("accelerator") for each in (first, overlap, rest, total)] == pytest.approx([1500.0, 3000.0, 2000.0, 3500.0])
    assert total.energy_of("accelerator") == pytest.approx(first.energy_of("accelerator") + rest.energy_of("accelerator"))


def test_idle_is_taken_off_channel_by_channel(bench):
    clock, meter, monitor = bench
    meter.counts["nvml/gpu0/power"] = 70_000
    monitor.begin_window("idle")
    run(clock, meter, monitor, 20, gpu_w=70.0, package_w=30.0)
    idle = monitor.end_window("idle")
    monitor.begin_window("busy")
    run(clock, meter, monitor, 10, gpu_w=500.0, package_w=80.0)
    net = monitor.end_window("busy").above_idle(idle)
    assert net.energy_j == pytest.approx(4300.0 + 500.0)


def test_idle_that_was_not_measured_leaves_the_difference_blank(bench):
    clock, meter, monitor = bench
    monitor.begin_window("busy")
    run(clock, meter, monitor, 10, gpu_w=500.0)
    busy = monitor.end_window("busy")
    net = busy.above_idle(replace(busy, energies=()))
    assert net.energy_j is None
    assert "idle power is not known" in net.reason


def test_where_the_counter_fails_power_stands_in_and_says_so(bench):
    clock, meter, monitor = bench
    meter.counts.update({"nvml/gpu0/power": 300_000, "nvml/gpu0/energy": "the GPU has fallen off the bus"})
    monitor.begin_window("w")
    for _ in range(10):
        clock.t_s += 1.0
        monitor.sample()
    result = monitor.end_window("w")
    assert result.by_device["gpu0"].channel == "nvml/gpu0/power"
    assert result.energy_of("accelerator") == pytest.approx(3000.0)
    assert any("in place of nvml/gpu0/energy" in flag and "fallen off the bus" in flag for flag in result.flags)


def test_a_device_without_any_figure_blanks_the_sum_and_is_named(bench):
    clock, meter, monitor = bench
    meter.counts["rapl/package-0/energy"] = "permission denied"
    monitor.begin_window("w")
    clock.t_s += 10.0
    meter.counts["nvml/gpu0/energy"] += 1_000_000
    result = monitor.end_window("w")
    assert result.energy_j is None
    assert result.interval_j is None
    assert "rapl/package-0/energy: no reading at the start: permission denied" in result.reason
    assert result.energy_of("accelerator") == pytest.approx(1000.0)
    assert result.to_dict()["energy_j"] is None


def test_wholes_are_reported_but_not_added_to_their_parts(doubles):
    clock = doubles.Clock()
    psys = replace(doubles.PACKAGE, name="rapl/psys/energy", device="psys", scope="platform")
    wall = replace(doubles.POWER, name="wall/power", device="wall", scope="server", unit_size=1.0)
    meter = doubles.Meter(clock, doubles.PACKAGE, psys, wall)
    meter.counts["wall/power"] = 150.0
    monitor = Monitor([meter], sample_period_s=None, clock=clock)
    monitor.begin_window("w")
    for _ in range(10):
        clock.t_s += 1.0
        meter.counts["rapl/package-0/energy"] += 50_000_000
        meter.counts["rapl/psys/energy"] += 90_000_000
        monitor.sample()
    result = monitor.end_window("w")
    assert result.energy_j == pytest.approx(500.0)
    assert result.energy_of("platform") == pytest.approx(900.0)
    assert result.energy_of("server") == pytest.approx(1500.0)
    assert not result.comparisons


def test_a_whole_below_its_parts_is_reported_with_its_size(doubles):
    clock = doubles.Clock()
    psys = replace(doubles.PACKAGE, name="rapl/psys/energy", device="psys", scope="platform")
    meter = doubles.Meter(clock, doubles.PACKAGE, psys)
    monitor = Monitor([meter], sample_period_s=None, clock=clock)
    monitor.begin_window("w")
    clock.t_s += 10.0
    meter.counts.update({"rapl/package-0/energy": 1_000_000_000, "rapl/psys/energy": 600_000_000})
    (comparison,) = monitor.end_window("w").comparisons
    assert comparison.disagree
    assert comparison.difference_ratio == pytest.approx(-0.4)


def test_only_a_wall_meter_gives_the_energy_of_the_server(doubles):
    clock = doubles.Clock()
    meter = doubles.Meter(clock, replace(doubles.POWER, name="wall/power", device="wall", scope="server", unit_size=1.0))
    meter.counts["wall/power"] = 400
    with Monitor([meter], sample_period_s=None, clock=clock) as monitor:
        monitor.begin_window("w")
        clock.t_s += 3.0
        result = monitor.end_window("w")
    assert (result.energy_j, result.scopes) == (pytest.approx(1200.0), ("server",))
    assert meter.closed


def test_a_window_shorter_than_the_counter_is_flagged_and_wide(bench):
    clock, meter, monitor = bench
    meter.counts["nvml/gpu0/power"] = 200_000
    monitor.begin_window("kernel")
    clock.t_s += 0.02
    result = monitor.end_window("kernel")
    gpu = result.by_device["gpu0"]
    assert gpu.value_j == pytest.approx(4.0)  # the power that was read last
    assert (gpu.low_j, gpu.high_j) == (0.0, pytest.approx(14.0))  # up to the limit of 700 W
    assert any("update period" in flag for flag in gpu.flags)


def test_what_may_not_be_read_is_named_beside_the_sum(doubles):
    clock = doubles.Clock()
    obstacles = [Obstacle("package-0", "readable by root only", "as root: chmod", "denied"), Obstacle("", "no such meter")]
    meter = doubles.Meter(clock, doubles.COUNTER, obstacles=obstacles)
    monitor = Monitor([meter], sample_period_s=None, clock=clock)
    monitor.begin_window("w")
    clock.t_s += 10.0
    assert monitor.end_window("w").flags == ("not counted: package-0: readable by root only (as root: chmod)",)


def test_names_of_windows(bench):
    _, _, monitor = bench
    monitor.begin_window("a")
    with pytest.raises(SpecError, match="'a' is already open"):
        monitor.begin_window("a")
    with pytest.raises(UnknownNameError, match="no window 'b' is open; open: 'a'"):
        monitor.end_window("b")
    monitor.end_window("a")
    with pytest.raises(UnknownNameError, match="open: none"):
        monitor.end_window("a")
    monitor.close()
    monitor.close()
    with pytest.raises(SpecError, match="closed"):
        monitor.begin_window("a")


def test_figures_wait_for_the_end_of_the_block(bench):
    _, _, monitor = bench
    with monitor.window("w") as window, pytest.raises(SpecError, match="'w' is still open"):
        _ = window.energy_j
    assert window.time_s == 0.0


def test_a_window_ends_when_its_block_fails(bench):
    clock, meter, monitor = bench

    def work():
        run(clock, meter, monitor, 1, gpu_w=100.0)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"), monitor.window("w") as window:
        work()
    assert window.by_device["gpu0"].value_j == pytest.approx(100.0)
    monitor.begin_window("w")


def test_queued_work_is_waited_for_at_both_ends(bench):
    _, _, monitor = bench
    calls = []
    with monitor.window("w", sync=lambda: calls.append(1)):
        assert len(calls) == 1
    assert len(calls) == 2


def test_measure_without_any_meter_is_blank_and_says_what_helps(doubles):
    absent = doubles.Meter(doubles.Clock(), obstacles=[Obstacle("", "no NVIDIA driver", "install it")])
    with measure("w", meters=[absent]) as window:
        pass
    assert (window.energy_j, window.interval_j, window.power_w) == (None, None, None)
    assert window.reason == "no meter: no NVIDIA driver (install it)"
    assert window.time_s >= 0.0
    with pytest.raises(MeterUnavailableError, match="no NVIDIA driver"), measure("w", meters=[absent], required=True):
        pass


def test_measure_is_a_public_name():
    assert effsim.measure is measure


class Live:
    """A GPU at constant power on the machine's clock."""

    def __init__(self, power_w):
        self.power_w, self.start_s, self.looks = power_w, time.monotonic(), 0

    def counts(self):
        self.looks += 1
        return int((time.monotonic() - self.start_s) * self.power_w * 1e3), int(self.power_w * 1e3)


@pytest.fixture
def running(doubles):
    live = Live(250.0)
    fast = replace(doubles.COUNTER, period_s=0.001)

    class Running(doubles.Meter):
        def read(self, names=None):
            self.counts["nvml/gpu0/energy"], self.counts["nvml/gpu0/power"] = live.counts()
            return super().read(names)

    return live, Running(time.monotonic, fast, replace(doubles.POWER, period_s=0.001))


def test_power_is_polled_while_a_window_is_open_and_not_after(running):
    live, meter = running
    with Monitor([meter], sample_period_s=0.01) as monitor:
        with monitor.window("w") as window:
            time.sleep(0.3)
        looks = live.looks
        assert looks > 6
        time.sleep(0.1)
        assert live.looks <= looks + 1
    counter, power = window.measurement.energies
    assert counter.value_j == pytest.approx(250.0 * window.time_s, rel=0.1)
    assert power.value_j == pytest.approx(counter.value_j, rel=0.1)
    assert not any(thread.name == "effsim-meters" for thread in threading.enumerate())


def test_windows_of_several_threads(running):
    _, meter = running
    results = {}
    with Monitor([meter], sample_period_s=0.01) as monitor:

        def work(name):
            with monitor.window(name) as window:
                time.sleep(0.1)
            results[name] = window.energy_j

        threads = [threading.Thread(target=work, args=(f"w{index}",)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 4
    assert all(energy_j == pytest.approx(25.0, rel=0.6) for energy_j in results.values())


def test_what_fails_in_the_thread_is_raised_where_the_window_ends(doubles):
    class Broken(doubles.Meter):
        looks = 0

        def read(self, names=None):
            self.looks += 1
            if self.looks == 2:  # between the ends of the window
                raise RuntimeError("a bug in a meter")
            return super().read(names)

    meter = Broken(time.monotonic, doubles.POWER)
    with Monitor([meter], sample_period_s=0.005) as monitor:
        monitor.begin_window("w")
        time.sleep(0.05)
        with pytest.raises(RuntimeError, match="a bug in a meter"):
            monitor.end_window("w")


@pytest.mark.parametrize("period_s", [0.0, -1.0, float("nan")])
def test_a_period_is_positive(doubles, period_s):
    with pytest.raises(SpecError, match="sample_period_s"):
        Monitor([doubles.Meter(doubles.Clock())], sample_period_s=period_s)
