"""Progress is a Rich bar or a plain line on a terminal, and nothing elsewhere."""

import io
import sys

import pytest

from effsim.bench import progress
from effsim.bench.progress import watching
from effsim.bench.runner import Step

STEP = Step(3, 12, "gemm bf16 k=4096", 83.0)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_no_terminal_no_progress(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with watching() as watcher:
        assert watcher is None


@pytest.mark.parametrize("rich", [True, False])
def test_a_terminal_sees_the_case_and_the_time_left(monkeypatch, rich):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "installed", lambda name: rich)
    with watching() as watcher:
        watcher(STEP)
    shown = sys.stderr.getvalue()
    assert "3/12" in shown
    assert "1:23 left" in shown
    assert "gemm bf16 k=4096" in shown
