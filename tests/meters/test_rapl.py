"""RAPL against powercap trees as kernels show them."""

import os
import time
from pathlib import Path

import pytest

from effsim.meters.live import rapl
from effsim.meters.window import Monitor

INTEL = {
    "intel-rapl:0": ("package-0", 1_000_000),
    "intel-rapl:0:0": ("core", 400_000),
    "intel-rapl:0:1": ("dram", 200_000),
    "intel-rapl:1": ("package-1", 2_000_000),
    "intel-rapl:1:0": ("core", 900_000),
    "intel-rapl:1:1": ("dram", 300_000),
    "intel-rapl:2": ("psys", 9_000_000),
    "intel-rapl-mmio:0": ("package-0", 1_000_000),
}
AMD = {"intel-rapl:0": ("package-0", 5), "intel-rapl:0:0": ("core", 1), "intel-rapl:1": ("package-1", 6), "intel-rapl:1:0": ("core", 2)}
DIES = {"intel-rapl:0": ("package-0-die-0", 1), "intel-rapl:1": ("package-0-die-1", 2), "intel-rapl:0:0": ("dram", 3)}


def scopes(meter):
    return {channel.device: channel.scope for channel in meter.channels}


def test_each_domain_counts_once(powercap):
    meter = rapl.Live(powercap(INTEL))
    assert scopes(meter) == {
        "package-0": "processor",
        "package-0-dram": "memory",
        "package-1": "processor",
        "package-1-dram": "memory",
        "psys": "platform",
    }
    assert not meter.obstacles
    assert {reading.channel: reading.count for reading in meter.read()}["rapl/package-1-dram/energy"] == 300_000


def test_amd(powercap):
    assert scopes(rapl.Live(powercap(AMD))) == {"package-0": "processor", "package-1": "processor"}


def test_two_dies_of_a_package(powercap):
    assert scopes(rapl.Live(powercap(DIES))) == {"package-0-die-0": "processor", "package-0-die-1": "processor", "package-0-die-0-dram": "memory"}


def test_equal_names_are_told_apart(powercap):
    assert set(scopes(rapl.Live(powercap({"intel-rapl:0": ("package-0", 1), "intel-rapl:1": ("package-0", 2)})))) == {"package-0-0", "package-0-1"}


def test_ten_domains_are_in_order(powercap):
    meter = rapl.Live(powercap({f"intel-rapl:{index}": (f"package-{index}", index) for index in range(12)}))
    assert [channel.device for channel in meter.channels] == [f"package-{index}" for index in range(12)]


def test_the_sum_is_packages_and_memory_across_a_wrap(powercap):
    range_uj = 65_532_610_987
    root = powercap({**INTEL, "intel-rapl:0": ("package-0", range_uj - 10_000_000)}, range_uj)
    with Monitor([rapl.Live(root)], sample_period_s=None) as monitor:
        monitor.begin_window("w")
        powercap({"intel-rapl:0": ("package-0", 20_000_000), "intel-rapl:1": ("package-1", 12_000_000), "intel-rapl:0:1": ("dram", 5_200_000)}, range_uj)
        powercap({"intel-rapl:2": ("psys", 99_000_000)}, range_uj)
        time.sleep(0.1)  # 30 J in no time would be no wrap but a reset
        result = monitor.end_window("w")
    assert result.energy_j == pytest.approx(30.0 + 10.0 + 5.0)
    assert result.energy_of("platform") == pytest.approx(90.0)
    assert "started again at 0 once" in result.by_device["package-0"].flags[0]


def test_counters_of_root_are_denied_with_the_exact_remedy(powercap, monkeypatch):
    root = powercap(INTEL)
    readable = Path.read_text

    def refuse(path, *arguments, **settings):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return readable(path, *arguments, **settings)

    monkeypatch.setattr(Path, "read_text", refuse)
    meter = rapl.Live(root)
    assert not meter.channels
    assert {obstacle.state for obstacle in meter.obstacles} == {"denied"}
    assert [obstacle.device for obstacle in meter.obstacles] == ["package-0", "package-0-dram", "package-1", "package-1-dram", "psys"]
    remedy = meter.obstacles[0].remedy
    assert f"chmod a+r {root}/*/energy_uj" in remedy
    assert "/etc/udev/rules.d/" in remedy
    assert "sudo" not in remedy
    assert "password" not in remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads files of any mode")
def test_a_real_file_without_permission(powercap):
    root = powercap(AMD)
    (root / "intel-rapl:0" / "energy_uj").chmod(0)
    meter = rapl.Live(root)
    assert scopes(meter) == {"package-1": "processor"}
    assert meter.obstacles[0].state == "denied"


def test_a_counter_that_goes_away_gives_readings_without_count(powercap):
    root = powercap(AMD)
    meter = rapl.Live(root)
    (root / "intel-rapl:0" / "energy_uj").unlink()
    first, second = meter.read()
    assert first.count is None
    assert "No such file" in first.reason
    assert second.count == 6


def test_nonsense_in_a_counter_is_an_obstacle(powercap):
    root = powercap(AMD)
    (root / "intel-rapl:0" / "energy_uj").write_text("many\n")
    meter = rapl.Live(root)
    assert [obstacle.state for obstacle in meter.obstacles] == ["failed"]


def test_no_powercap(tmp_path):
    meter = rapl.Live(tmp_path / "none")
    assert not meter.channels
    assert "modprobe intel_rapl_msr" in str(meter.obstacles[0])
