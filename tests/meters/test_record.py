"""Recording, replay of what was recorded, the table, the commands."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from effsim.cli import app
from effsim.errors import MeterUnavailableError, SpecError
from effsim.meters import command
from effsim.meters.base import Obstacle
from effsim.meters.live import replay
from effsim.meters.logs import load
from effsim.meters.record import record, watched
from effsim.meters.recording import header, line
from effsim.meters.registry import REPLAY_VARIABLE
from effsim.meters.survey import cells, survey
from effsim.meters.window import Monitor

ROOT = Path(__file__).parents[2]
RUN = CliRunner()


@pytest.fixture
def ticking(doubles):
    """Return a meter on the machine's clock: a counter that moves every 20 ms at 500 W, and power."""
    start_s = time.monotonic()

    class Ticking(doubles.Meter):
        def read(self, names=None):
            self.counts["nvml/gpu0/energy"] = 10_000 * int((time.monotonic() - start_s) / 0.02)
            self.counts["nvml/gpu0/power"] = 500_000
            return super().read(names)

    return Ticking(time.monotonic, replace(doubles.COUNTER, period_s=0.02), doubles.POWER)


@pytest.fixture
def recording(tmp_path, doubles):
    """Return a recording of 100 s at 300 W by the counter and 320 W by polled power."""
    from effsim.meters.base import Reading

    rows = [header((doubles.COUNTER, doubles.POWER), 1.7e9)]
    for t_s in range(101):
        rows += [line(Reading("nvml/gpu0/energy", 50.0 + t_s, 300_000 * t_s)), line(Reading("nvml/gpu0/power", 50.0 + t_s, 320_000))]
    path = tmp_path / "recording.jsonl"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_what_is_recorded_can_be_read_again(ticking, tmp_path):
    path = tmp_path / "r.jsonl"
    kept = record(path, [ticking], duration_s=0.4, period_s=0.02)
    recording = load(path)
    assert kept == len(recording.readings) >= 20
    assert recording.end_s - recording.begin_s == pytest.approx(0.4, abs=0.15)
    assert recording.epoch_s + recording.end_s == pytest.approx(time.time(), abs=2.0)
    counter, power = recording.energies()
    assert counter.value_j == pytest.approx(500.0 * counter.time_s, rel=0.15)
    assert power.value_j == pytest.approx(500.0 * power.time_s, rel=1e-6)
    assert not list(tmp_path.glob("*.partial"))


def test_a_recording_is_not_written_over(ticking, tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("mine")
    with pytest.raises(SpecError, match="exists already"):
        record(path, [ticking], 0.1)
    assert path.read_text() == "mine"
    (tmp_path / "s.jsonl.partial").write_text("another")
    with pytest.raises(SpecError, match="another recording runs"):
        record(tmp_path / "s.jsonl", [ticking], 0.1)


def test_nothing_to_record_or_watch_says_why(doubles, tmp_path):
    meter = doubles.Meter(doubles.Clock(), obstacles=[Obstacle("", "no NVIDIA driver", "install it")])
    for act in (lambda: record(tmp_path / "r", [meter]), lambda: next(watched([meter]))):
        with pytest.raises(MeterUnavailableError, match=r"no NVIDIA driver \(install it\)"):
            act()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("duration_s", "period_s"), [(0.0, 0.1), (1.0, 0.0), (-1.0, 0.1)])
def test_times_are_positive(ticking, tmp_path, duration_s, period_s):
    with pytest.raises(SpecError, match="positive"):
        record(tmp_path / "r", [ticking], duration_s, period_s)


def test_an_unwritable_place(ticking, tmp_path):
    with pytest.raises(SpecError, match="cannot be written"):
        record(tmp_path / "none" / "r", [ticking], 0.1)


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_recording_keeps_what_it_has(recording, tmp_path, kill):
    path = tmp_path / "out.jsonl"
    arguments = [sys.executable, "-m", "effsim.meters", "record", str(path), "--period", "0.01"]
    environment = {**os.environ, REPLAY_VARIABLE: str(recording), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)
    partial = path.with_name("out.jsonl.partial")
    deadline_s = time.monotonic() + 20.0
    while not (partial.exists() and partial.stat().st_size > 5000) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    process.send_signal(kill)
    told, _ = process.communicate(timeout=20)
    kept = load(path if kill == signal.SIGINT else partial)
    assert len(kept.readings) > 10
    if kill == signal.SIGINT:
        assert process.returncode == 0
        assert told == f"{len(kept.readings)} readings in {path}\n"
        assert not partial.exists()


def test_replay_gives_what_had_been_recorded_by_then(recording, doubles):
    clock = doubles.Clock(0.0)
    meter = replay.Live(recording, clock)
    with Monitor([meter], sample_period_s=None, clock=clock) as monitor:
        monitor.begin_window("w")
        for _ in range(80):
            clock.t_s += 0.5
            monitor.sample()
        result = monitor.end_window("w")
        assert result.energy_j == pytest.approx(300.0 * 40.0)
        (comparison,) = result.comparisons
        assert comparison.difference_ratio == pytest.approx(20.0 / 300.0)
        clock.t_s = 101.0
        assert {reading.reason for reading in meter.read()} == {"the recording has ended"}


def test_a_window_beyond_the_recording_is_blank(recording, doubles):
    clock = doubles.Clock(0.0)
    with Monitor([replay.Live(recording, clock)], sample_period_s=None, clock=clock) as monitor:
        monitor.begin_window("w")
        clock.t_s = 200.0
        result = monitor.end_window("w")
    assert result.energy_j is None
    assert "the recording has ended" in result.reason


def test_the_table_measures_the_period(ticking, doubles):
    blocked = doubles.Meter(doubles.Clock(), obstacles=[Obstacle("package-0", "readable by root only", "as root: chmod", "denied")])
    counter, power, denied = survey([ticking, blocked], look_s=0.4)
    assert counter.period_s == pytest.approx(0.02, rel=0.4)
    assert counter.power_w == pytest.approx(500.0, rel=0.25)
    assert (counter.reads, counter.resolution, counter.unit, counter.scope) == ("energy counter", 1e-3, "J", "accelerator")
    assert (power.period_s, power.power_w) == (None, 500.0)
    assert (denied.state, denied.remedy) == ("denied", "readable by root only; as root: chmod")
    assert cells(power)[4] == "(100 ms documented)"


def test_a_channel_that_never_answers_has_failed(doubles):
    meter = doubles.Meter(time.monotonic, doubles.COUNTER)
    meter.counts["nvml/gpu0/energy"] = "the GPU has fallen off the bus"
    (row,) = survey([meter], look_s=0.01)
    assert (row.state, row.remedy, row.power_w) == ("failed", "the GPU has fallen off the bus", None)


def test_watching(ticking):
    looks = list(watched([ticking], period_s=0.2, rounds=3))
    assert [row[0] for row in looks[0]] == ["nvml/gpu0/energy", "nvml/gpu0/power"]
    assert looks[0][0][3] == ""  # nothing yet
    assert float(looks[2][0][3]) == pytest.approx(200.0, rel=0.2)
    assert float(looks[2][1][4]) == 500.0


@pytest.fixture
def replayed(recording, monkeypatch):
    monkeypatch.setenv(REPLAY_VARIABLE, str(recording))
    return recording


@pytest.mark.parametrize("run", [lambda *given: RUN.invoke(app, ["meters", *given]), None], ids=["typer", "plain"])
class TestCommands:
    """The same commands with Typer and Rich, and without."""

    @pytest.fixture
    def call(self, run, capsys):
        def plain(*given):
            code = command.main(list(given))
            out = capsys.readouterr()
            return code, out.out, out.err

        def typed(*given):
            result = run(*given)
            return result.exit_code, result.stdout, result.stderr

        return typed if run else plain

    def test_table_and_json(self, call, replayed):
        code, text, _ = call("--look", "0.01")
        assert code == 0
        assert "replay" in text
        assert "accelerator" in text
        rows = json.loads(call("--json", "--look", "0.01")[1], parse_constant=pytest.fail)
        assert [row["reads"] for row in rows] == ["energy counter", "power"]
        assert rows[0]["period_s"] is None

    def test_the_machine_without_meters(self, call, monkeypatch):
        monkeypatch.delenv(REPLAY_VARIABLE, raising=False)
        code, text, _ = call("--look", "0.01", "--meter", "replay")
        assert code == 0
        assert "set EFFSIM_REPLAY to the path of one" in text

    def test_energy(self, call, replayed):
        code, text, _ = call("energy", str(replayed))
        assert code == 0
        assert "30000" in text
        assert "+6.7% of nvml/gpu0/energy" in text
        document = json.loads(call("energy", str(replayed), "--begin", "10", "--end", "20", "--json")[1], parse_constant=pytest.fail)
        assert [round(channel["value_j"], 3) for channel in document["channels"]] == [3000.0, 3200.0]

    def test_record(self, call, replayed, tmp_path):
        path = tmp_path / "again.jsonl"
        code, text, _ = call("record", str(path), "--duration", "0.1", "--period", "0.02")
        assert code == 0
        assert "readings in" in text
        assert len(load(path).channels) == 2

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (("--meter", "nvlm"), "did you mean 'nvml'?"),
            (("energy", "absent.csv"), "absent.csv: no such file"),
            (("--meter", "replay", "record", "x.jsonl"), "EFFSIM_REPLAY"),
        ],
    )
    def test_bad_input_is_one_line_and_code_2(self, call, run, given, message, monkeypatch, tmp_path):
        monkeypatch.delenv(REPLAY_VARIABLE, raising=False)
        monkeypatch.chdir(tmp_path)
        if run and "record" in given:
            given = ("record", "x.jsonl", "--meter", "replay")
        code, _, err = call(*given)
        assert code == 2
        assert err.count("\n") == 1
        assert message in err
        assert not list(tmp_path.iterdir())
