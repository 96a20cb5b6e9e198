"""On a machine that has Python alone: no pydantic, pandas, NumPy, Rich or Typer; also from a copied folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ABSENT = ("pydantic", "pint", "pandas", "rich", "typer", "numpy", "scipy", "simpy", "yaml", "click")
BLOCK = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
MEASURE = """
import effsim, time
with effsim.measure("w") as window:
    time.sleep(0.05)
assert window.time_s > 0.04
print(window.measurement.to_json())
"""


@pytest.fixture(params=["checkout", "copied folder"])
def place(request, tmp_path):
    """Return the checkout, and a folder that holds only what meters need."""
    if request.param == "checkout":
        return ROOT
    package = tmp_path / "elsewhere" / "effsim"
    shutil.copytree(ROOT / "effsim" / "meters", package / "meters", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__", "_version", "errors", "units"):
        shutil.copy(ROOT / "effsim" / f"{name}.py", package)
    return package.parent


def python(place, code, *arguments):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EFFSIM")}
    return subprocess.run([sys.executable, "-c", BLOCK + code, *arguments], cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_a_window(place):
    done = python(place, MEASURE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "w"


def test_the_commands(place):
    code = "import runpy, sys\nsys.argv = ['meters', *sys.argv[1:]]\nrunpy.run_module('effsim.meters', run_name='__main__')"
    done = python(place, code, "--json", "--look", "0.01")
    assert done.returncode == 0, done.stderr
    assert {row["meter"] for row in json.loads(done.stdout)} == {"NVML", "RAPL", "Zeus"}


def test_it_is_run_as_a_module(tmp_path):
    done = subprocess.run([sys.executable, "-m", "effsim.meters", "--look", "0.01"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("meter")


def test_the_block_is_real():
    assert "No module named 'numpy'" in python(ROOT, "import numpy").stderr
