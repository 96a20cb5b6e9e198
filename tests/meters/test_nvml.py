"""NVML against a driver whose answers the test sets: several GPUs, MIG, refusals, old cards, no driver."""

import inspect
import time

import pytest

from effsim.meters.live import nvml
from effsim.meters.window import Monitor


def channels(meter):
    return {channel.name: channel for channel in meter.channels}


def counts(meter):
    return {reading.channel: reading.count for reading in meter.read()}


def test_counter_and_both_powers_of_each_gpu(fake_nvml, doubles):
    driver = fake_nvml(doubles.Gpu(energy_mj=5000), doubles.Gpu(name="NVIDIA H200", energy_mj=7000, limit_mw=700_000))
    meter = nvml.Live()
    assert counts(meter) == {
        "nvml/gpu0/energy": 5000, "nvml/gpu0/power": 100_000, "nvml/gpu0/power_average": 90_000,
        "nvml/gpu1/energy": 7000, "nvml/gpu1/power": 100_000, "nvml/gpu1/power_average": 90_000,
    }  # fmt: skip
    first = channels(meter)
    assert first["nvml/gpu0/energy"].preference < first["nvml/gpu0/power"].preference < first["nvml/gpu0/power_average"].preference
    assert first["nvml/gpu0/power"].averaging_s == 0.0
    assert first["nvml/gpu0/power_average"].averaging_s == 1.0
    assert (first["nvml/gpu1/energy"].model, first["nvml/gpu1/energy"].max_power_w) == ("NVIDIA H200", 700.0)
    assert not meter.obstacles
    meter.close()
    meter.close()
    assert driver.opened == 0


def test_energies_of_several_gpus_add_up(fake_nvml, doubles):
    absent = doubles.NVMLError(3)
    gpus = [doubles.Gpu(energy_mj=0, instant_mw=absent, average_mw=absent, usage_mw=absent, uuid=f"GPU-{index}") for index in range(8)]
    fake_nvml(*gpus)
    with Monitor([nvml.Live()], sample_period_s=None) as monitor:
        monitor.begin_window("w")
        time.sleep(0.12)  # the counter of a window below its update period says nothing
        for index, gpu in enumerate(gpus):
            gpu.energy_mj = 1000 * (index + 1)
        result = monitor.end_window("w")
    assert {device: energy.value_j for device, energy in result.by_device.items()} == pytest.approx({f"gpu{index}": index + 1.0 for index in range(8)})
    assert result.energy_j == pytest.approx(36.0)
    assert result.scopes == ("accelerator",)


@pytest.mark.parametrize(
    ("code", "state", "words"),
    [
        (12, "absent", "install its driver"),
        (9, "failed", "modprobe nvidia"),
        (4, "denied", "--gpus all"),
        (18, "failed", "restart the machine"),
        (999, "failed", "code 999"),
    ],
)
def test_a_driver_that_does_not_start_says_what_to_do(fake_nvml, doubles, code, state, words):
    fake_nvml(init_error=doubles.NVMLError(code))
    meter = nvml.Live()
    (obstacle,) = meter.obstacles
    assert obstacle.state == state
    assert words in str(obstacle)
    assert not meter.channels
    assert not meter.read()
    meter.close()


def test_without_the_binding_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(nvml, "pynvml", None)
    meter = nvml.Live()
    assert "pip install nvidia-ml-py" in str(meter.obstacles[0])
    meter.close()


def test_no_gpu(fake_nvml):
    fake_nvml()
    assert "finds no GPU" in str(nvml.Live().obstacles[0])


def test_a_card_without_counter_is_polled(fake_nvml, doubles):
    absent = doubles.NVMLError(3)
    fake_nvml(doubles.Gpu(name="Tesla P100", energy_mj=absent, instant_mw=absent, average_mw=absent, usage_mw=55_000, architecture=4))
    meter = nvml.Live()
    assert counts(meter) == {"nvml/gpu0/power": 55_000}
    assert channels(meter)["nvml/gpu0/power"].averaging_s == 0.0
    assert "energy counter: this GPU or driver does not offer it" in str(meter.obstacles[0])


@pytest.mark.parametrize(
    ("name", "architecture", "averaging_s"),
    [("NVIDIA A100-SXM4-80GB", 7, 0.0), ("NVIDIA A30", 7, 0.0), ("NVIDIA A10", 7, 1.0), ("NVIDIA L40S", 8, 1.0), ("Tesla T4", 6, 0.0)],
)
def test_whether_the_plain_power_is_a_mean(fake_nvml, doubles, name, architecture, averaging_s):
    absent = doubles.NVMLError(3)
    fake_nvml(doubles.Gpu(name=name, instant_mw=absent, average_mw=absent, architecture=architecture))
    assert channels(nvml.Live())["nvml/gpu0/power"].averaging_s == averaging_s


def test_a_refused_counter_is_denied_with_its_remedy(fake_nvml, doubles):
    fake_nvml(doubles.Gpu(energy_mj=doubles.NVMLError(4)))
    meter = nvml.Live()
    (obstacle,) = meter.obstacles
    assert (obstacle.device, obstacle.state) == ("gpu0", "denied")
    assert "nvml/gpu0/power" in channels(meter)


def test_a_lost_gpu_leaves_the_others(fake_nvml, doubles):
    fake_nvml(doubles.NVMLError(15), doubles.Gpu(energy_mj=1))
    meter = nvml.Live()
    assert "nvml/gpu1/energy" in channels(meter)
    assert str(meter.obstacles[0]) == "gpu0: the GPU has fallen off the bus (restart the machine)"


def test_a_gpu_lost_while_measuring_gives_readings_without_count(fake_nvml, doubles):
    gpu = doubles.Gpu(energy_mj=1)
    fake_nvml(gpu)
    meter = nvml.Live()
    gpu.energy_mj = doubles.NVMLError(15)
    reading = next(reading for reading in meter.read() if reading.channel == "nvml/gpu0/energy")
    assert reading.count is None
    assert "fallen off the bus" in reading.reason


def test_mig_counts_the_whole_card_and_says_who_shares_it(fake_nvml, doubles):
    fake_nvml(doubles.Gpu(energy_mj=1, mig=[1, 1], mig_uuids=("MIG-1", "MIG-2", "MIG-3")))
    (note,) = {channel.note for channel in nvml.Live().channels}
    assert "which 3 instances share" in note


def test_mig_that_is_off_needs_no_note(fake_nvml, doubles):
    fake_nvml(doubles.Gpu(mig=[0, 0]))
    assert {channel.note for channel in nvml.Live().channels} == {""}


@pytest.mark.parametrize(
    ("visible", "devices"),
    [("1", {"gpu1"}), ("GPU-bb", {"gpu1"}), ("MIG-7", {"gpu2"}), ("0,2", {"gpu0", "gpu2"}), ("", set()), ("2,-1,0", {"gpu2"}), ("GPU-", set()), ("9", set())],
)
def test_only_visible_gpus_are_read(fake_nvml, doubles, monkeypatch, visible, devices):
    fake_nvml(doubles.Gpu(uuid="GPU-aa1"), doubles.Gpu(uuid="GPU-bb2"), doubles.Gpu(uuid="GPU-cc3", mig=[1, 1], mig_uuids=("MIG-7",)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    meter = nvml.Live()
    assert {channel.device for channel in meter.channels} == devices
    hidden = {obstacle.device for obstacle in meter.obstacles if "CUDA_VISIBLE_DEVICES" in obstacle.reason}
    assert hidden == {"gpu0", "gpu1", "gpu2"} - devices


def test_numbers_of_unlike_gpus_are_doubted(fake_nvml, doubles, monkeypatch):
    fake_nvml(doubles.Gpu(name="A"), doubles.Gpu(name="B"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert "PCI_BUS_ID" in nvml.Live().channels[0].note
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert nvml.Live().channels[0].note == ""


def test_only_the_named_channels_are_read(fake_nvml, doubles):
    looks = []
    fake_nvml(doubles.Gpu(energy_mj=lambda: looks.append(1) or 3))
    meter = nvml.Live()
    looks.clear()
    assert [reading.channel for reading in meter.read(frozenset({"nvml/gpu0/power"}))] == ["nvml/gpu0/power"]
    assert not looks


def test_names_as_bytes(fake_nvml, doubles):
    fake_nvml(doubles.Gpu(name=b"Tesla V100"))
    assert nvml.Live().channels[0].model == "Tesla V100"


def test_the_double_has_the_signatures_of_the_binding(fake_nvml):
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    driver = fake_nvml()
    for name in (name for name in dir(driver) if name.startswith("nvml")):
        assert list(inspect.signature(getattr(driver, name)).parameters) == list(inspect.signature(inspect.unwrap(getattr(pynvml, name))).parameters), name
    assert (pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_FI_DEV_POWER_INSTANT) == (nvml.FIELD_AVERAGE, nvml.FIELD_INSTANT)
    named = ("NOT_SUPPORTED", "NO_PERMISSION", "DRIVER_NOT_LOADED", "LIBRARY_NOT_FOUND", "GPU_IS_LOST")
    assert [getattr(pynvml, f"NVML_ERROR_{name}") for name in named] == [getattr(nvml, name) for name in named]
    assert pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH == nvml.VERSION_MISMATCH
