"""A small serving run, once for all tests of its reports."""

import copy

import pytest

from effsim.cost import step
from effsim.run.serving import Keep, simulate_at
from effsim.specs.scenario import load_scenario
from tests.run.fakes import SCENARIO, fake_step_model


@pytest.fixture(scope="session")
def serving_run():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "serving_step_model", fake_step_model)
        return simulate_at(load_scenario(copy.deepcopy({**SCENARIO, "what_if": []})), 0, keep=Keep(most_legs=1000))
