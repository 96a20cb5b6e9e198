"""Starting up stays cheap: what is slow to import is imported by the command that needs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SLOW = {"numpy", "scipy", "pandas", "pydantic", "simpy", "matplotlib", "streamlit"}


@pytest.mark.parametrize(
    "statement",
    [
        "import effsim",
        "import effsim.cli",
        "import typer.testing, effsim.cli; assert typer.testing.CliRunner().invoke(effsim.cli.app, ['--help']).exit_code == 0",
    ],
)
def test_nothing_slow_is_imported(statement):
    program = f"import sys; {statement}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, env=environment)
    loaded = set(done.stdout.split())
    assert "effsim" in loaded
    assert not loaded & SLOW
