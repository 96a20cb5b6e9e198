"""The cluster block: units, what belongs together, and what is refused."""

import pytest
from pydantic import ValidationError

from effsim.errors import SpecError
from effsim.specs.cluster import Checkpoint, Cluster, FailureModel, Job, Maintenance, PauseSignal, PowerBudget
from effsim.specs.scenario import load_scenario, with_changes

POWER = {"useful": "8 kW", "checkpoint": "2 kW", "restart": "2 kW", "idle": "1 kW"}


def test_units_and_derived_times():
    saved = Checkpoint.model_validate({"size": "5.7 TB", "storage_bandwidth": "2 TB/s", "asynchronous": "75 %"})
    assert (saved.write_s, saved.blocking_s, saved.restore_s) == pytest.approx((2.85, 2.85 / 4, 2.85))
    assert Checkpoint.model_validate({"interval": "10 min", "write": "20 s"}).interval == 600.0
    assert Job(name="a", nodes=2, steps="1k", step_time="2 s", power=POWER).work_s == 2000.0
    assert Job(name="a", nodes=2, work="1 d", power=POWER).power.stalled_w == 1000.0
    signal = PauseSignal.model_validate({"kind": "carbon", "values": ["360 g/kWh", "36 g/kWh"], "threshold": "100 g/kWh"})
    assert signal.values == pytest.approx((1e-7, 1e-8))
    assert signal.threshold == pytest.approx(1e-7 / 3.6)


@pytest.mark.parametrize(
    ("spec", "given", "message"),
    [
        (Checkpoint, {"interval": "often", "write": 1}, "expected a quantity"),
        (Checkpoint, {"write": 1, "size": "1 TB", "storage_bandwidth": "1 TB/s"}, "expected write, or size"),
        (Checkpoint, {"asynchronous": "copy"}, "asynchronous"),
        (Checkpoint, {"interval": 10, "write": 20, "asynchronous": 0.9}, "must exceed the asynchronous part"),
        (FailureModel, {"node_mtbf": "1 d", "distribution": "weibull"}, "shape belongs"),
        (FailureModel, {"node_mtbf": "1 d", "shape": 2}, "shape belongs"),
        (FailureModel, {"node_mtbf": "0 s"}, "greater than 0"),
        (FailureModel, {"transient_share": 1.5}, "less than or equal to 1"),
        (Job, {"name": "a", "nodes": 2, "power": POWER}, "expected work, or steps and step_time"),
        (Job, {"name": "a", "nodes": 2, "steps": 3, "power": POWER}, "expected work, or steps and step_time"),
        (Job, {"name": "a", "nodes": 3, "work": 1, "node_group": 2, "power": POWER}, "multiple of node_group"),
        (Job, {"name": "a", "nodes": 4, "work": 1, "min_nodes": 5, "power": POWER}, "must lie between"),
        (PowerBudget, {"limit": 1, "curve": [(0.5, 0.9), (0.4, 1.0)]}, "rise to"),
        (PowerBudget, {"limit": 1, "curve": [(0.5, 0.9), (0.9, 0.95)]}, "rise to"),
        (PauseSignal, {"kind": "carbon", "values": ["1 USD/kWh"], "threshold": 1}, "unit of 'USD/J'"),
        (PauseSignal, {"kind": "price", "values": [2.0], "threshold": 1.0}, "nothing would ever run"),
        (Maintenance, {"start": 0, "duration": 10, "every": 5}, "must exceed duration"),
        (Cluster, {"nodes": 0}, "greater than or equal to 1"),
        (Cluster, {"spares": 3}, "Extra inputs"),
    ],
)
def test_refused(spec, given, message):
    with pytest.raises(ValidationError, match=message):
        spec.model_validate(given)


def test_a_checkpoint_that_needs_a_scenario_says_so():
    for unknown in ({"size": "1 TB"}, {"storage_bandwidth": "1 TB/s"}, {}):
        with pytest.raises(SpecError, match="only a scenario can tell them"):
            _ = Checkpoint.model_validate(unknown).write_s
    with pytest.raises(SpecError, match="host_copy needs a scenario"):
        _ = Checkpoint.model_validate({"write": 10, "asynchronous": "host_copy"}).blocking_s


def test_a_cluster_survives_the_changes_of_a_what_if():
    scenario = load_scenario("llama3-405b-54-days")
    again = with_changes(scenario, {})
    assert again.cluster == scenario.cluster
    gone = with_changes(scenario, {"cluster": None})
    assert gone.cluster is None
