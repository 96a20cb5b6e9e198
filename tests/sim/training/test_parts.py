"""Energy by cause and by part: nothing is lost between the two ways of adding up."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.sim.training.ledger import CAUSES
from effsim.sim.training.parts import BUSY, PARTS, WORKING, Beside, added, by_part, of_part
from effsim.sim.training.simulation import simulate_training
from effsim.specs.cluster import Cluster, Job

AMOUNT = st.floats(0.0, 1e9)
BOOK = st.fixed_dictionaries(dict.fromkeys(CAUSES, AMOUNT))
BESIDE = st.builds(Beside, *([st.floats(0.0, 1e3)] * 2), st.floats(0.0, 0.3), st.floats(0.8, 1.0), *([st.floats(0.0, 1e3)] * 5))


@given(node_s=BOOK, energy_j=BOOK, beside=BESIDE, saves=st.integers(0, 1000), loads=st.integers(0, 1000))
def test_causes_and_parts_sum_to_the_same_total(node_s, energy_j, beside, saves, loads):
    matrix = by_part(node_s, energy_j, beside, saves, loads)
    time_s, accelerators_j = math.fsum(node_s.values()), math.fsum(energy_j.values())
    busy_s, working_s = (math.fsum(node_s[cause] for cause in causes) for causes in (BUSY, WORKING))
    host_j = beside.host_idle_w * (time_s - busy_s) + beside.host_busy_w * busy_s
    servers_j = (accelerators_j * (1.0 + beside.fans_per_watt) + host_j) / beside.supply_efficiency
    storage_j = beside.storage_w * time_s + beside.reading_w * working_s + saves * beside.save_j + loads * beside.load_j
    expected_j = servers_j + beside.network_w * working_s + storage_j
    by_cause_j = math.fsum(math.fsum(parts.values()) for parts in matrix.values())
    assert by_cause_j == pytest.approx(expected_j, rel=1e-9, abs=1e-6)
    assert math.fsum(of_part(matrix, part) for part in PARTS) == pytest.approx(by_cause_j, rel=1e-9, abs=1e-6)
    assert of_part(matrix, "accelerator") == pytest.approx(accelerators_j, rel=1e-12)
    assert of_part(added([matrix, matrix]), "storage") == pytest.approx(2 * of_part(matrix, "storage"))


POWER = {"useful": 4000.0, "checkpoint": 900.0, "restart": 800.0, "idle": 600.0}


@given(seed=st.integers(0, 10_000), spares=st.integers(0, 2), asynchronous=st.sampled_from([0.0, 0.5, 1.0]))
def test_the_books_of_jobs_and_of_nodes_without_one_make_up_the_run(seed, spares, asynchronous):
    failing = {"node_mtbf": "3 d", "detection": "5 min", "repair": "8 h", "transient_share": 0.2}
    cluster = Cluster.model_validate(
        {"spare_nodes": spares, "nodes": 8, "failures": failing, "checkpoint": {"write": 60, "asynchronous": asynchronous}, "idle_power": 500, "horizon": "6 d"}
    )
    jobs = [Job(name=name, nodes=nodes, work="2 d", power=POWER) for name, nodes in (("a", 5), ("b", 3))]
    run = simulate_training(cluster, jobs, seed)
    beside = Beside(1000.0, 600.0, 0.1, 0.95, 30.0, 90.0, 5.0, 1e6, 2e6)
    time_s, energy_j = run.unheld
    matrix = added([*(by_part(job.node_s, job.energy_j, beside, job.saves, job.loads) for job in run.jobs), by_part(time_s, energy_j, beside)])
    assert of_part(matrix, "accelerator") == pytest.approx(run.total_j, rel=1e-9)
    saves, loads = sum(job.saves for job in run.jobs), sum(job.loads for job in run.jobs)
    whole = by_part(run.node_s, run.energy_j, beside, saves, loads)
    for part in PARTS:
        assert of_part(matrix, part) == pytest.approx(of_part(whole, part), rel=1e-9)
    assert all(joules >= -1e-3 for joules in energy_j.values())
    assert sum(job.restarts for job in run.jobs) >= loads
