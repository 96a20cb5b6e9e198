"""Runs that are finished, interrupted, continued, refused and cut off by their time limit."""

import dataclasses
import json

import pytest

from effsim.bench import runner
from effsim.bench.devices.numpy_device import NumpyDevice
from effsim.bench.run_file import checksum, read_run, write_run
from effsim.bench.runner import run_benchmarks
from effsim.errors import SpecError
from tests.bench.fakes import TINY, Meter, instruments

FEW = dataclasses.replace(TINY, only=("launch", "decode_attention"))
ORDER = ["decode_attention", "launch", "decode_attention"]


def kinds(run):
    return [row.kind for row in run.rows]


def interrupted_after(monkeypatch, count, error):
    whole, seen = runner._one, []

    def one(*arguments):
        if len(seen) == count:
            raise error
        seen.append(1)
        return whole(*arguments)

    monkeypatch.setattr(runner, "_one", one)


def test_a_run_is_written_and_read(tmp_path):
    run = run_benchmarks(instruments(), FEW, tmp_path / "run.json")
    assert run == read_run(tmp_path / "run.json")
    assert (run.status, kinds(run)) == ("complete", ORDER)
    assert run.device["library"] == "numpy"
    assert run.libraries["numpy"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_run_keeps_what_it_has_and_goes_on(tmp_path, monkeypatch, error):
    path = tmp_path / "run.json"
    with monkeypatch.context() as patched:
        interrupted_after(patched, 2, error)
        with pytest.raises(error):
            run_benchmarks(instruments(), FEW, path)
    kept = read_run(path)
    assert (kept.status, kinds(kept)) == ("interrupted", ORDER[:2])
    run = run_benchmarks(instruments(), FEW, path)
    assert (run.status, kinds(run)) == ("complete", ORDER)
    assert run.rows[:2] == kept.rows
    assert run.started == kept.started


def test_a_run_that_died_without_a_word_goes_on(tmp_path):
    path = tmp_path / "run.json"
    whole = run_benchmarks(instruments(), FEW, path)
    write_run(path, dataclasses.replace(whole, rows=whole.rows[:1], status="running"))
    assert run_benchmarks(instruments(), FEW, path).rows[0] == whole.rows[0]


def test_a_finished_run_is_not_written_over_unasked(tmp_path):
    path = tmp_path / "run.json"
    run_benchmarks(instruments(), FEW, path)
    with pytest.raises(SpecError, match=r"holds a finished run of .*; give another name, or --overwrite"):
        run_benchmarks(instruments(), FEW, path)
    assert run_benchmarks(instruments(), FEW, path, overwrite=True).status == "complete"


def test_a_finished_run_of_some_kernels_takes_others_in(tmp_path):
    path = tmp_path / "run.json"
    some = run_benchmarks(instruments(), dataclasses.replace(FEW, only=("launch",)), path)
    both = run_benchmarks(instruments(), FEW, path)
    assert both.rows[: len(some.rows)] == some.rows
    assert sorted(kinds(both)) == sorted(ORDER)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"machine": {"processor": "another"}}, "machine"),
        ({"libraries": {"numpy": "0.1"}}, "libraries"),
        ({"effsim_version": "0.0.1"}, "effsim_version"),
        ({"settings": {}}, "settings.name"),
    ],
)
def test_the_run_of_another_machine_or_version_is_not_continued(tmp_path, change, named):
    path = tmp_path / "run.json"
    whole = run_benchmarks(instruments(), FEW, path)
    write_run(path, dataclasses.replace(whole, status="interrupted", **change))
    with pytest.raises(SpecError, match=f"holds a run that differs in {named}"):
        run_benchmarks(instruments(), FEW, path)


def test_an_altered_file_is_not_continued(tmp_path):
    path = tmp_path / "run.json"
    run_benchmarks(instruments(), FEW, path)
    path.write_text(path.read_text().replace('"complete"', '"running"'))
    with pytest.raises(SpecError, match="checksum"):
        run_benchmarks(instruments(), FEW, path)


def test_past_the_time_limit_cases_are_skipped_and_named(tmp_path):
    run = run_benchmarks(instruments(), dataclasses.replace(FEW, limit_s=1e-6), tmp_path / "run.json")
    assert (run.status, run.rows) == ("complete", ())
    assert [one["reason"] for one in run.skipped] == ["the time limit of 1e-06 s"] * 3


class Poor(NumpyDevice):
    def attention(self, query, key, value, *, causal):
        raise RuntimeError("no kernel image\nis available")


def test_what_a_device_cannot_do_is_skipped_with_the_reason(tmp_path):
    run = run_benchmarks(instruments(Poor()), FEW, tmp_path / "run.json")
    assert kinds(run) == ["launch"]
    assert {one["reason"] for one in run.skipped} == {"RuntimeError: no kernel image is available"}


def test_what_does_not_fit_is_skipped(tmp_path):
    device = NumpyDevice()
    device.facts = dataclasses.replace(device.facts, memory_bytes=1_000_000)
    run = run_benchmarks(instruments(device), FEW, tmp_path / "run.json")
    assert kinds(run) == ["launch"]
    assert all("more than half of the device's 1e+06" in one["reason"] for one in run.skipped)


def test_idle_and_power_levels_need_a_meter(tmp_path):
    settings = dataclasses.replace(TINY, only=("idle", "power_levels"), window_s=0.05)
    blank = run_benchmarks(instruments(), settings, tmp_path / "blank.json")
    assert blank.rows == ()
    assert {one["reason"] for one in blank.skipped} == {"no meter of this device: see `effsim meters`"}
    metered = run_benchmarks(instruments(meter=Meter(30.0, runner.time.perf_counter)), settings, tmp_path / "metered.json")
    assert [(row.kind, row.duty_ratio) for row in metered.rows] == [("idle", 0.0), ("gemm_duty", 0.5), ("gemm_duty", 0.1)]
    assert all(row.power_w == pytest.approx(30.0, rel=0.1) for row in metered.rows)


def test_a_watcher_hears_of_each_case(tmp_path):
    heard = []
    run_benchmarks(instruments(), FEW, tmp_path / "run.json", heard.append)
    assert [(step.done, step.total) for step in heard] == [(0, 3), (1, 3), (2, 3)]
    assert all(0.0 < step.left_s <= FEW.limit_s for step in heard)


def test_the_file_is_one_json_with_its_checksum(tmp_path):
    run_benchmarks(instruments(), FEW, tmp_path / "run.json")
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["schema_version"] == 1
    assert document["checksum"] == checksum(document)
