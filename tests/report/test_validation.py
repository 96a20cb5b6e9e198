"""The report of validation: what is written, beside which figures of others, and that it is whole or absent."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from effsim.errors import MissingExtraError, SpecError
from effsim.report.validation import write_report
from effsim.report.validation_peers import PEERS, peer_table
from effsim.report.validation_plots import plot_svg
from effsim.validate.comparison import Comparison, Skipped, SuiteResult
from effsim.validate.summary import section

STAMP = {"version": "9.9", "date": "2026-11-23", "command": "effsim validate"}


def suite(name="training", quantity="step_time_s", cell="megatron_sc21 dense", rows=6):
    found = [
        Comparison(name, cell, f"run {i} <&|", quantity, "s", 1.0 + i, (1.0 + i) * 1.1, low_90=0.9 * (1.0 + i), high_90=1.3 * (1.0 + i), split="held out")
        for i in range(rows)
    ]
    return section(SuiteResult(name, "Title of it", "a source", "a basis.", tuple(found), (Skipped(name, "x", "not stated"),), ("a note",)))


def test_the_report_holds_figures_reasons_and_notes(tmp_path: Path):
    pytest.importorskip("matplotlib")
    paths = write_report([suite()], tmp_path / "new", STAMP)
    assert [path.name for path in paths] == ["report.md", "report.html", "training.svg"]
    text, page = (path.read_text(encoding="utf-8") for path in paths[:2])
    for said in ("9.9", "2026-11-23", "effsim validate", "a source", "a basis.", "a note", "not stated", "Calculon"):
        assert said in text
        assert said in page
    assert "| held out | step_time_s | megatron_sc21 dense | 6 | 10.0 | 10.0 | 10.0 | 10.0 | 1 |  | 100.0 |" in text
    assert "](training.svg)" in text
    assert "<svg" in page, "the page needs no other file"
    assert "run 0 &lt;&amp;|" in page
    assert "run 0 <&|" not in page
    assert not list(tmp_path.glob("**/*.part"))


def test_the_same_rows_make_the_same_plot():
    pytest.importorskip("matplotlib")
    one, other = (plot_svg(suite()["rows"], "t") for _ in range(2))
    assert one == other
    assert one.startswith("<svg")


def test_few_rows_are_drawn_as_ratios():
    pytest.importorskip("matplotlib")
    assert "predicted / measured" in plot_svg(suite(rows=2)["rows"], "t")
    assert "predicted / measured" not in plot_svg(suite(rows=9)["rows"], "t")


def test_without_matplotlib_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"effsim\[report\]"):
        write_report([suite()], tmp_path / "new", STAMP)
    assert not (tmp_path / "new").exists()
    assert len(write_report([suite()], tmp_path / "new", STAMP, plots=False)) == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="cannot be written"):
        write_report([suite()], tmp_path / "file", STAMP, plots=False)


def test_a_suite_that_did_not_run_is_said(tmp_path: Path):
    nothing = section(SuiteResult("edge", "Edge", "a source", "not run", (), (Skipped("edge", "all", "mobile_edge.json: not found"),)))
    path = write_report([nothing], tmp_path, STAMP)[0]
    assert "mobile_edge.json: not found" in path.read_text()
    assert "not run" in path.read_text()


def test_peers_stand_beside_rows_that_were_not_fitted():
    one = suite()
    table = peer_table([one]).set_index("tool")
    assert table.loc["Calculon", "EffSim"] == "10.0 %"
    assert table.loc["Calculon", "rows"] == 6
    fitted = {**one, "rows": one["rows"].assign(split="fitted to these rows")}
    assert not len(peer_table([fitted]))


def test_every_peer_has_figure_and_source():
    assert all(any(character.isdigit() for character in peer.claim) and peer.source for peer in PEERS)
    assert {peer.suite for peer in PEERS} <= {"mlenergy", "vllm_logs", "training", "power", "edge"}
    assert isinstance(peer_table([]), pd.DataFrame)
