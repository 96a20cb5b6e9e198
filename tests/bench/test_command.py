"""The command itself, in processes of its own: bare machines, copied folders, signals, bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import effsim
from effsim.bench.run_file import read_run
from effsim.cli import app

PACKAGE = Path(effsim.__file__).parent
ABSENT = ("pydantic", "pint", "pandas", "rich", "typer", "yaml", "scipy", "simpy", "matplotlib", "click")
BLOCKED = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import runpy
sys.argv = ["effsim.bench", *sys.argv[1:]]
runpy.run_module("effsim.bench", run_name="__main__")
"""
QUICKLY = ("--quick", "--library", "numpy", "--only", "launch", "--only", "decode_attention")


def environment(folder):
    return {**os.environ, "PYTHONPATH": str(folder), "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


@pytest.mark.parametrize("copied", [False, True])
def test_a_bare_machine_and_a_copied_folder_will_do(tmp_path, copied):
    folder = PACKAGE.parent
    if copied:
        folder = tmp_path / "elsewhere"
        for part in ("__init__.py", "_version.py", "errors.py", "units.py"):
            (folder / "effsim").mkdir(parents=True, exist_ok=True)
            shutil.copy(PACKAGE / part, folder / "effsim" / part)
        for part in ("bench", "meters"):
            shutil.copytree(PACKAGE / part, folder / "effsim" / part, ignore=shutil.ignore_patterns("__pycache__"))
    output = tmp_path / "run.json"
    command = [sys.executable, "-c", BLOCKED, *QUICKLY, "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, env=environment(folder))
    assert done.returncode == 0, done.stderr
    assert "decode_attention" in done.stdout
    assert not done.stderr.strip()  # quiet where no terminal watches
    run = read_run(output)
    assert run.status == "complete"
    assert len(run.rows) == 3


def started(output, *arguments):
    command = [sys.executable, "-m", "effsim.bench", "--quick", "--library", "numpy", *arguments, "--output", str(output)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=output.parent, env=environment(PACKAGE.parent))


def until_a_row(output, process, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if output.exists() and read_run(output).rows:  # each look finds a whole file
            return
        time.sleep(0.02)
    process.kill()
    pytest.fail(f"no row within {seconds} s: {process.communicate()}")


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "interrupted", 130), (signal.SIGKILL, "running", -signal.SIGKILL)],
)
def test_a_stopped_run_keeps_its_rows_and_is_continued(tmp_path, number, status, code):
    output = tmp_path / "run.json"
    kernels = ("--only", "launch", "--only", "decode_attention", "--only", "elementwise", "--only", "prefill_attention")
    process = started(output, *kernels)
    until_a_row(output, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    kept = read_run(output)
    assert kept.status == status
    assert 1 <= len(kept.rows) < 9
    if code == 130:
        assert said.strip() == "effsim: interrupted; the same command continues the run"
    again = started(output, *kernels)
    again.communicate(timeout=120)
    assert again.returncode == 0
    whole = read_run(output)
    assert (whole.status, len(whole.rows)) == ("complete", 9)
    assert whole.rows[: len(kept.rows)] == kept.rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "gem"), "no kernel is called 'gem'"),
        (("--device", "cuda", "--library", "numpy"), "NumPy runs on the cpu only"),
        (("--library", "jax"), "--library: 'jax' is none"),
        (("--time-limit", "0"), "--time-limit: expected a number above 0"),
        (("--power-limit", "-5", "--power-limit", "400"), "--power-limit: expected a number above 0, got -5"),
        (("--show", "none.json"), "none.json: no such file"),
        (("--power-limit", "400", "--only", "launch", "--library", "numpy"), "--power-limit: only NVIDIA GPUs"),
        (("--lock-clock", "1200", "--only", "launch", "--library", "numpy"), "--lock-clock: only NVIDIA GPUs"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["bench", "--quick", *arguments])
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_command_line_lists_runs_and_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed = CliRunner().invoke(app, ["bench", *QUICKLY, "--list"])
    assert len(listed.stdout.splitlines()) == 3
    ran = CliRunner().invoke(app, ["bench", *QUICKLY])
    assert ran.exit_code == 0, ran.stderr
    (path,) = tmp_path.glob("bench-*-numpy-quick.json")
    assert f"written: {path.name}" in ran.stdout
    shown = CliRunner().invoke(app, ["bench", "--show", path.name, "--json"])
    assert json.loads(shown.stdout) == json.loads(path.read_text())
