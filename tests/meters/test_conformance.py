"""What every meter of the folder keeps, found without being named here."""

import json

import pytest

from effsim.errors import SpecError, UnknownNameError
from effsim.meters.base import Meter
from effsim.meters.joules import Track, between
from effsim.meters.live import rapl, zeus
from effsim.meters.recording import header, line
from effsim.meters.registry import REPLAY_VARIABLE, meter_class, names, open_meters
from effsim.meters.window import Monitor

PREPARED = {"nvml", "rapl", "replay", "zeus"}


@pytest.fixture(params=names())
def meter(request, fake_nvml, powercap, doubles, monkeypatch, tmp_path):
    """Return each meter on a machine that has what it reads; a new meter is tested on this machine as it is."""
    fake_nvml(doubles.Gpu(energy_mj=1, mig=[1, 1], mig_uuids=("MIG-1",)), doubles.Gpu(energy_mj=2))
    monkeypatch.setattr(rapl, "POWERCAP", powercap({"intel-rapl:0": ("package-0", 1), "intel-rapl:0:0": ("dram", 2)}))

    class Gpus:
        def __len__(self):
            return 1

        def __getattr__(self, name):
            answers = {"get_name": "AMD Instinct MI300X", "get_power_management_limit_constraints": (0, 750_000), "get_instant_power_usage": 5}
            answers |= {"supports_get_total_energy_consumption": True, "get_total_energy_consumption": 7}
            return lambda *_: answers[name]

    monkeypatch.setattr(zeus, "zeus_gpu", type("gpu", (), {"amdsmi_is_available": staticmethod(lambda: True), "get_gpus": staticmethod(Gpus)}))
    monkeypatch.setattr(zeus, "zeus_soc", type("soc", (), {"get_soc": staticmethod(lambda: None)}))
    path = tmp_path / "recording.jsonl"
    rows = [{"channel": "nvml/gpu0/energy", "t_s": t_s, "count": 1000 * t_s} for t_s in range(100)]
    path.write_text("\n".join([header((doubles.COUNTER,), 0.0), *map(json.dumps, rows)]) + "\n")
    monkeypatch.setenv(REPLAY_VARIABLE, str(path))
    opened = meter_class(request.param)()
    if request.param in PREPARED:
        assert opened.channels
    yield opened
    opened.close()


@pytest.fixture(params=names())
def bare(request, monkeypatch, tmp_path):
    """Return each meter on a machine that has nothing."""
    from effsim.meters.live import nvml

    monkeypatch.setattr(nvml, "pynvml", None)
    monkeypatch.setattr(zeus, "zeus_gpu", None)
    monkeypatch.setattr(rapl, "POWERCAP", tmp_path)
    monkeypatch.delenv(REPLAY_VARIABLE, raising=False)
    opened = meter_class(request.param)()
    yield opened
    opened.close()


def test_it_is_a_meter_with_a_title(meter):
    assert isinstance(meter, Meter)
    assert meter.title


def test_channels_have_names_of_their_own(meter):
    found = [channel.name for channel in meter.channels]
    assert len(found) == len(set(found))
    assert all(channel.device and channel.unit_size > 0.0 for channel in meter.channels)


def test_a_device_prefers_one_channel(meter):
    for device in {channel.device for channel in meter.channels}:
        own = [channel.preference for channel in meter.channels if channel.device == device]
        assert len(own) == len(set(own))


def test_each_look_gives_one_reading_per_channel_in_order_of_time(meter):
    first, second = meter.read(), meter.read()
    expected = {channel.name for channel in meter.channels}
    for look in (first, second):
        assert {reading.channel for reading in look} == expected
        assert len(look) == len(expected)
    assert all(later.t_s >= earlier.t_s for earlier, later in zip(first, second, strict=True))


def test_a_look_may_be_at_some_channels_only(meter):
    one = meter.channels[0].name if meter.channels else "none"
    assert {reading.channel for reading in meter.read(frozenset({one}))} == ({one} if meter.channels else set())
    assert not meter.read(frozenset())


def test_counts_are_raw_and_survive_a_recording(meter):
    for reading in meter.read():
        assert reading.count is None or reading.count >= 0
        json.loads(line(reading))
    json.loads(header(meter.channels, None))


def test_a_window_runs_through_it(meter):
    tracks = {channel.name: Track(channel) for channel in meter.channels}
    first, last = ({reading.channel: tracks[reading.channel].push(reading) for reading in meter.read()} for _ in range(2))
    for name, track in tracks.items():
        energy = between(track.channel, first[name], last[name])
        assert energy.value_j is not None or energy.reason
    with Monitor([meter], sample_period_s=None) as monitor, monitor.window("w") as window:
        pass
    assert window.energy_j is not None or window.reason


def test_without_anything_to_read_it_says_what_and_why(bare):
    assert not bare.channels
    assert not bare.read()
    for obstacle in bare.obstacles:
        assert obstacle.reason
        assert obstacle.state in {"absent", "denied", "failed"}
        assert "password" not in str(obstacle)
    assert bare.obstacles


def test_unknown_names_have_a_near_one():
    with pytest.raises(UnknownNameError, match=r"unknown meter 'nvlm'; did you mean 'nvml'\? allowed: nvml, rapl, replay, zeus"):
        meter_class("nvlm")


def test_a_recording_to_play_replaces_the_machine(monkeypatch, tmp_path, doubles):
    path = tmp_path / "r.jsonl"
    path.write_text(f'{header((doubles.COUNTER,), 0.0)}\n{{"channel": "nvml/gpu0/energy", "t_s": 0, "count": 1}}\n')
    monkeypatch.setenv(REPLAY_VARIABLE, str(path))
    assert [meter.title for meter in open_meters()] == ["replay"]
    monkeypatch.setenv(REPLAY_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(SpecError, match="no such file"):
        open_meters()
    monkeypatch.delenv(REPLAY_VARIABLE)
    assert "replay" not in [meter.title for meter in open_meters()]
