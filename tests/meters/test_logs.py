"""Logs of other programs: each read by one format, joules by hand, mistakes by line."""

import contextlib
import json
import re
from importlib import import_module

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effsim.errors import SpecError
from effsim.meters.logs import formats, load
from effsim.meters.logs.rows import LogOptions
from effsim.meters.measurement import as_dict
from effsim.meters.recording import header, line, read_recording

UTC = LogOptions(utc_offset_s=0.0)

NVIDIA_SMI = """timestamp, index, name, power.draw [W], utilization.gpu [%]
2026/11/23 21:37:39.000, 0, NVIDIA H100 80GB HBM3, 100.00 W, 5 %
2026/11/23 21:37:39.001, 1, NVIDIA H100 80GB HBM3, 70.00 W, 0 %
2026/11/23 21:37:40.000, 0, NVIDIA H100 80GB HBM3, 300.00 W, 99 %
2026/11/23 21:37:40.001, 1, NVIDIA H100 80GB HBM3, 70.00 W, 0 %
2026/11/23 21:37:41.000, 0, NVIDIA H100 80GB HBM3, 300.00 W, 99 %
2026/11/23 21:37:41.001, 1, NVIDIA H100 80GB HBM3, [N/A], 0 %
"""
DCGM = """#Entity   POWER     TOTEC      SMCLK
ID         W         mJ         MHz
GPU 0     100.0     1000000     1410
GPU 1     70.0      2000000     210
GPU 0     300.0     1200000     1410
GPU 1     70.0      2070000     210
#Entity   POWER     TOTEC      SMCLK
ID         W         mJ         MHz
GPU 0     300.0     1500000     1410
GPU 1     N/A       2140000     210
"""
PTDAEMON = """Time,28-12-2020 15:21:14.000,Watts,200.00,Volts,228.57,Amps,0.20643,PF,0.4864,Mark,run_1
Time,28-12-2020 15:21:15.000,Watts,400.00,Volts,228.57,Amps,0.20643,PF,0.4864,Mark,run_1
Time,28-12-2020 15:21:16.000,Watts,-1.00,Volts,228.57,Amps,0.20643,PF,0.4864,Mark,run_1
Time,28-12-2020 15:21:17.000,Watts,400.00,Volts,228.57,Amps,0.20643,PF,0.4864,Mark,run_1
"""
WALL = "timestamp,power_w\n2026-11-23T21:37:39Z,200\n2026-11-23T21:37:40Z,400\n2026-11-23T21:37:42Z,400\n"


@pytest.fixture
def recorded(doubles):
    rows = ['{"channel": "nvml/gpu0/energy", "t_s": 5.0, "count": 1000}', '{"channel": "nvml/gpu0/energy", "t_s": 15.0, "count": 2001000}']
    return "\n".join([header((doubles.COUNTER,), 1.7e9), *rows]) + "\n"


@pytest.fixture
def samples(recorded):
    return {"nvidia_smi": NVIDIA_SMI, "dcgm": DCGM, "ptdaemon": PTDAEMON, "wall_csv": WALL, "json_lines": recorded}


@pytest.fixture
def write(tmp_path):
    def put(text, name="log.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return put


@pytest.mark.parametrize("name", formats())
def test_each_format_knows_its_own_and_no_other(name, samples):

    module = import_module(f"effsim.meters.logs.{name}")
    assert module.TITLE
    assert {other for other, text in samples.items() if module.recognises(text.splitlines(keepends=True)[:20])} == {name}, "add a sample of a new format above"


@pytest.mark.parametrize("name", formats())
def test_each_format_is_read_and_shifts_to_its_start(name, samples, write):
    recording = load(write(samples[name]), LogOptions(0.0, 1.0))
    assert recording.begin_s == (5.0 if name == "json_lines" else 0.0)
    assert all(energy.value_j is not None for energy in recording.energies())


@pytest.mark.parametrize("name", formats())
@pytest.mark.parametrize("spoilt", ["", "\n", "a,b\n1,2\n", "{}\n", "\x00", '{"format": "effsim-recording", "version": 9, "epoch_s": 0, "channels": []}\n'])
def test_what_is_no_log_is_refused(name, spoilt, write):
    with pytest.raises(SpecError, match=r"log\.csv"):
        load(write(spoilt))


@pytest.mark.parametrize("name", formats())
def test_a_header_alone_is_refused(name, samples, write):
    head = samples[name].splitlines(keepends=True)[0]
    if name == "ptdaemon":
        pytest.skip("it has no header")
    with pytest.raises(SpecError, match="no "):
        load(write(head))


def energies(recording):
    return {energy.channel: energy for energy in recording.energies()}


def test_nvidia_smi(write):
    found = energies(load(write(NVIDIA_SMI), UTC))
    assert found["nvidia-smi/gpu0/power.draw"].value_j == pytest.approx(200.0 + 300.0)
    assert found["nvidia-smi/gpu1/power.draw"].value_j == pytest.approx(70.0)
    assert found["nvidia-smi/gpu1/power.draw"].time_s == pytest.approx(1.0)  # up to its last reading with a value


def test_nvidia_smi_without_units_and_with_more_powers(write):
    text = "timestamp, uuid, power.draw.instant, power.draw\n1766448000, GPU-a, 100, 90\n1766448002, GPU-a, 300, 110\n"
    found = energies(load(write(text)))
    assert found["nvidia-smi/GPU-a/power.draw.instant"].value_j == pytest.approx(400.0)
    assert found["nvidia-smi/GPU-a/power.draw"].value_j == pytest.approx(200.0)


def test_nvidia_smi_of_several_gpus_without_index_is_refused(write):
    rows = "".join(f"2026/11/23 21:37:{second:02d}.000, 100 W\n" * 4 for second in range(10))
    with pytest.raises(SpecError, match="no column that tells the GPUs apart"):
        load(write("timestamp, power.draw [W]\n" + rows), UTC)


def test_dcgm_with_the_period_given(write):
    found = energies(load(write(DCGM), LogOptions(period_s=1.0)))
    assert found["dcgm/gpu0/energy"].value_j == pytest.approx(500.0)
    assert found["dcgm/gpu0/power"].value_j == pytest.approx(500.0)
    assert found["dcgm/gpu1/energy"].value_j == pytest.approx(140.0)


def test_dcgm_with_times_before_its_lines(write):
    lines = [f"17664480{10 + index // 2 * 2}.5 {text}" for index, text in enumerate(DCGM.splitlines())]
    recording = load(write("\n".join(lines) + "\n"))
    assert recording.epoch_s == pytest.approx(1766448012.5)
    assert energies(recording)["dcgm/gpu0/energy"].time_s == pytest.approx(6.0)


def test_dcgm_without_times_asks_for_the_period(write):
    with pytest.raises(SpecError, match="give the period of its -d"):
        load(write(DCGM))


def test_ptdaemon(write):
    recording = load(write(PTDAEMON), UTC)
    (energy,) = recording.energies()
    assert energy.value_j == pytest.approx(300.0 + 800.0)
    assert energy.scope == "server"
    assert "1 of 3 readings failed" in energy.flags
    assert recording.epoch_s == pytest.approx(1609168874.0)  # 2020-12-28 15:21:14 UTC


def test_ptdaemon_with_the_month_first(write):
    assert load(write(PTDAEMON.replace("28-12", "12-28")), UTC).epoch_s == pytest.approx(1609168874.0)
    unsure = load(write(PTDAEMON.replace("28-12", "07-12")), UTC)
    assert unsure.notes == ("dates are read with the day before the month",)
    assert unsure.epoch_s == pytest.approx(1609168874.0 - 21 * 86400)


def test_the_accuracy_of_a_wall_meter_is_the_users(write):
    (rough,), (fine,) = (load(write(WALL), LogOptions(accuracy_ratio=ratio)).energies() for ratio in (0.1, 0.0))
    assert rough.value_j == fine.value_j == pytest.approx(1100.0)
    assert rough.high_j - rough.value_j > 110.0 > 2 * (fine.high_j - fine.value_j) - 900.0


@pytest.mark.parametrize(
    ("text", "joules"),
    [
        ("time_s,power_kw\n0,0.2\n10,0.2\n", 2000.0),
        ("elapsed_s;x\n", None),
        ("Time,Active Power [W]\n0,100\n10,300\n", 2000.0),
        ("timestamp,energy_kwh\n1766448000,1.0\n1766451600,1.5\n", 1.8e6),
    ],
)
def test_columns_of_a_wall_meter(write, text, joules):
    if joules is None:
        with pytest.raises(SpecError, match="no format"):
            load(write(text))
        return
    assert load(write(text)).energies()[0].value_j == pytest.approx(joules)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timestamp,power_w\n2026-11-23T21:37:39Z,200\nyesterday,400\n", "line 3: expected a time such as"),
        ("timestamp,power_w\n2026-11-23T21:37:39Z,200 V\n", "line 2, power_w: expected a number"),
        ("timestamp,power_w\n2026-11-23T21:37:39Z\n", r"line 2: expected 2 values \(timestamp, power_w\), found 1"),
        ("timestamp,power_w\n10,200\n5,200\n", "times go back from 5.000 s to 0.000 s"),
        (NVIDIA_SMI.replace("300.00 W, 99 %\n2026/11/23 21:37:40.001", "300.00 W\n2026/11/23 21:37:40.001"), "line 4: expected 5 values"),
        (DCGM.replace("300.0     1200000     1410", "300.0"), "line 5: expected 3 values"),
    ],
)
def test_a_mistake_is_named_by_its_line(write, text, message):
    with pytest.raises(SpecError, match=message):
        load(write(text), LogOptions(0.0, 1.0))


def test_a_gap_is_measured_by_the_usual_time_between_readings(write):
    rows = "".join(f"{60 * minute},200\n" for minute in range(60) if minute not in {30, 31, 32, 33})
    (energy,) = load(write("time_s,power_w\n" + rows)).energies()
    assert energy.value_j == pytest.approx(59 * 60 * 200.0)
    assert "300 s without readings" in energy.flags[0]


def test_times_without_a_zone_are_shifted_by_the_offset(write):
    east, utc = (load(write(NVIDIA_SMI), LogOptions(utc_offset_s=offset_s)).epoch_s for offset_s in (3600.0, 0.0))
    assert utc - east == 3600.0


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_spoilt_logs_are_read_or_refused_in_words(samples, tmp_path, data):
    text = samples[data.draw(st.sampled_from(sorted(samples)))]
    junk = st.one_of(st.text(max_size=8), st.sampled_from(["[" * 5000, "9" * 5000, "1e999", "-1", "\0", '"', "0001-01-01", "nan", ",,,", "null", "true"]))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        text = text[:start] + data.draw(junk) + text[start + data.draw(st.integers(0, 12)) :]
    path = tmp_path / "spoilt.csv"
    path.write_bytes(text.encode("utf-8", "replace"))
    with contextlib.suppress(SpecError):  # and nothing else
        energies = load(path, LogOptions(0.0, 1.0)).energies()
        json.dumps([as_dict(energy) for energy in energies], allow_nan=False)


@pytest.mark.parametrize("field", ["unit_size", "wraps_at", "period_s", "max_power_w"])
@pytest.mark.parametrize("value", ['"x"', "-1", "true", "1e999"])
def test_numbers_of_a_header_are_checked(recorded, write, field, value):
    spoilt = re.sub(f'"{field}": [^,}}]+', f'"{field}": {value}', recorded, count=1)
    with pytest.raises(SpecError, match="line 1"):
        load(write(spoilt))


def test_a_window_without_finite_ends_is_refused(write):
    with pytest.raises(SpecError, match="finite"):
        load(write(WALL)).energies(float("nan"), 1.0)


def test_a_part_of_a_recording(write):
    recording = load(write(WALL))
    first, rest = (recording.energies(*window)[0].value_j for window in ((0.0, 1.5), (1.5, 3.0)))
    assert first + rest == pytest.approx(1100.0)
    beyond = recording.energies(1.0, 9.0)[0]
    assert beyond.value_j is None
    assert "does not reach" in beyond.reason


def test_a_recording_cut_off_keeps_what_it_has(recorded, write):
    whole = load(write(recorded))
    cut = load(write(recorded + '{"channel": "nvml/gpu0/en', "cut.jsonl"))
    assert cut.readings == whole.readings
    assert cut.notes == ("its last line was cut off and is left out",)


def test_a_broken_line_inside_a_recording_is_refused(recorded, write):
    lines = recorded.splitlines()
    with pytest.raises(SpecError, match="line 3: not a reading"):
        load(write("\n".join([*lines[:2], "{broken", lines[2]])))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"accelerator"', '"fridge"', "expected a scope"),
        ('"unit_size": 0.001', '"unit_size": 0', "unit_size"),
        ("nvml/gpu0/energy", "other", "a reading of 'nvml/gpu0/energy'"),
        ('"channels": [', '"channels": 5, "x": [', "not the header"),
    ],
)
def test_a_spoilt_header_is_refused(recorded, write, old, new, message):
    with pytest.raises(SpecError, match=message):
        load(write(recorded.replace(old, new, 1)))


@pytest.mark.parametrize("row", ['{"channel": "nvml/gpu0/energy", "t_s": 16, "count": "5"}', '{"channel": "nvml/gpu0/energy", "t_s": NaN, "count": 5}', "[]"])
def test_values_that_are_no_counts_are_refused(recorded, write, row):
    with pytest.raises(SpecError, match="line 4: not a reading"):
        load(write(f"{recorded}{row}\n{recorded.splitlines()[1]}\n"))


def test_readings_survive_writing_and_reading(write, doubles):
    from effsim.meters.base import Reading

    readings = (Reading("nvml/gpu0/energy", 1.25, 7), Reading("nvml/gpu0/energy", 2.5, None, "lost"))
    path = write("\n".join([header((doubles.COUNTER,), None), *map(line, readings)]) + "\n")
    recording = read_recording(path)
    assert (recording.readings, recording.channels, recording.epoch_s) == (readings, (doubles.COUNTER,), None)


@pytest.mark.parametrize(("name", "message"), [("absent.csv", "no such file"), (".", "a folder")])
def test_files_that_are_none(tmp_path, name, message):
    with pytest.raises(SpecError, match=message):
        load(tmp_path / name)


def test_a_binary_file(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(SpecError, match="UTF-8"):
        load(path)
