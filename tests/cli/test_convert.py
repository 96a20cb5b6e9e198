"""``effsim convert``."""

import json

import pytest
from typer.testing import CliRunner

from effsim.cli import app
from effsim.workload.trace_files import read_trace

RUN = CliRunner()
MOONCAKE = "".join(f'{{"timestamp": {row * 1000}, "input_length": 600, "output_length": {row + 1}, "hash_ids": [0, {row}]}}\n' for row in range(10))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(MOONCAKE, encoding="utf-8")
    return path


def convert(*arguments):
    return RUN.invoke(app, ["convert", *map(str, arguments)])


def test_it_says_what_is_lost(source, tmp_path):
    done = convert(source, tmp_path / "out.csv", "--to", "vidur")
    assert done.exit_code == 0, done.output
    assert "lost: hash ids" in done.output
    assert read_trace(tmp_path / "out.csv").output_tokens.tolist() == list(range(1, 11))
    kept = convert(source, tmp_path / "out.jsonl", "--to", "mooncake")
    assert "lost" not in kept.output
    assert (read_trace(tmp_path / "out.jsonl").hash_ids.ids == read_trace(source).hash_ids.ids).all()


def test_window_volume_rate_and_limit_in_this_order(source, tmp_path):
    done = convert(source, tmp_path / "o.csv", "--to", "plain", "--window", "2 s, 8", "--rate-scale", 2, "--limit", 4, "--json")
    found = json.loads(done.stdout)
    assert (found["read"], found["wrote"], found["before"]["requests"], found["after"]["requests"]) == ("mooncake", "plain", 10, 4)
    trace = read_trace(tmp_path / "o.csv")
    assert (trace.arrival_s.tolist(), trace.output_tokens.tolist()) == ([0.0, 0.5, 1.0, 1.5], [3, 4, 5, 6])
    many = json.loads(convert(source, tmp_path / "o.csv", "--to", "plain", "--volume-scale", 3, "--json").stdout)
    assert many["after"]["requests"] == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "vidr"], "unknown trace format 'vidr'; did you mean 'vidur'?"),
        (["--to", "vidur", "--window", "5"], "window: expected START,END"),
        (["--to", "vidur", "--window", "5 s, 2 s"], "window: the end (2 s) must be after the start (5 s)"),
        (["--to", "vidur", "--window", "1 h, 2 h"], "no requests from 3600 to 7200 s"),
        (["--to", "vidur", "--rate-scale", "0"], "rate_scale: expected a number above 0"),
        (["--to", "vidur", "--volume-scale", "-1"], "volume_scale: expected a number above 0"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(source, tmp_path, arguments, message):
    done = convert(source, tmp_path / "o.csv", *arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_place_that_cannot_be_written_is_said(source):
    done = convert(source, source / "o.csv", "--to", "plain")
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr
