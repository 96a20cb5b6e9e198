"""Every shipped scenario loads, says what it answers, refers to what exists, and runs."""

import pytest

from effsim.catalog import data_root
from effsim.run import Settings, run
from effsim.specs.check import check_file
from effsim.specs.scenario import load_scenario

SCENARIOS = sorted(data_root("scenarios").glob("*.yaml"))
FEW = Settings(limit=5, intervals=False, workers=1)


def test_there_are_eleven():
    assert len(SCENARIOS) >= 11


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_it_says_what_question_it_answers(path):
    scenario = load_scenario(path)
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert scenario.question is not None
    assert scenario.question.endswith("?")
    assert scenario.name == path.stem
    assert scenario.what_if
    assert check_file(path, "scenarios").mistake is None


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_it_runs(path):
    scenario = load_scenario(path)
    report = run(scenario, settings=FEW)
    assert report.base.infeasible is None
    assert [variant.name for variant in report.variants if variant.infeasible is not None] == []
    energy = "site_mwh" if scenario.jobs else "site_j_per_output_token" if scenario.kind == "serving" else "site_j_per_token"
    assert all(variant.metrics[energy].value > 0.0 for variant in report.variants)
