"""Nothing is lost: jobs, node-seconds, joules; nodes are held once."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effsim.sim.training import simulation
from effsim.sim.training.cluster import ClusterState
from effsim.sim.training.ledger import CAUSES
from effsim.sim.training.simulation import simulate_training
from effsim.specs.cluster import Cluster, Job

POWER = {"useful": 8000.0, "checkpoint": 5000.0, "restart": 3000.0, "idle": 1000.0, "stalled": 4000.0}

JOBS = st.lists(
    st.fixed_dictionaries(
        {
            "nodes": st.sampled_from([1, 2, 3, 4, 6]),
            "work": st.sampled_from([100.0, 2_000.0, 5_000.0, 12_345.6]),
            "submit": st.sampled_from([0.0, 0.0, 500.0, 3_000.0]),
            "priority": st.integers(0, 2),
            "elastic": st.booleans(),
        }
    ),
    min_size=1,
    max_size=5,
)
CLUSTERS = st.fixed_dictionaries(
    {
        "nodes": st.sampled_from([6, 8]),
        "spare_nodes": st.integers(0, 2),
        "nodes_per_domain": st.sampled_from([None, 1, 3, 4]),
        "queue": st.sampled_from(["fifo", "backfill", "priority"]),
        "restart": st.sampled_from([{"time": 0.0}, {"time": 300.0, "with_spare": 60.0}]),
        "checkpoint": st.sampled_from(
            [{"interval": 700.0, "write": 40.0}, {"write": 40.0}, {"interval": 500.0, "write": 60.0, "asynchronous": 0.9}, {"interval": 600.0, "write": 0.0}]
        ),
        "failures": st.fixed_dictionaries(
            {
                "node_mtbf": st.sampled_from([None, 20_000.0, 60_000.0]),
                "switch_mtbf": st.sampled_from([None, 50_000.0]),
                "switch_repair": st.just(800.0),
                "detection": st.sampled_from([0.0, 90.0]),
                "repair": st.sampled_from([50.0, 3_000.0]),
                "transient_share": st.sampled_from([0.0, 0.5]),
                "straggler": st.sampled_from([None, {"node_mtbs": 30_000.0, "slowdown": 1.5, "detection": 700.0}]),
            }
        ),
        "maintenance": st.sampled_from([(), ({"start": 1_500.0, "duration": 900.0},), ({"start": 0.0, "duration": 200.0, "every": 2_500.0, "domain": 0},)]),
        "pause": st.sampled_from([None, {"kind": "carbon", "values": [1e-7, 3e-7, 2e-7], "threshold": 2e-7, "period": 900.0}]),
        "power_budget": st.sampled_from([None, {"limit": 60_000.0, "curve": [(0.4, 0.6), (0.7, 0.9), (1.0, 1.0)]}]),
        "horizon": st.sampled_from([None, 4_000.0, 20_000.0]),
        "idle_power": st.just(700.0),
        "off_power": st.just(100.0),
    }
)


def jobs_of(drawn):
    return [
        Job(name=f"job {n}", power=POWER, min_nodes=1 if one["elastic"] else None, **{k: v for k, v in one.items() if k != "elastic"})
        for n, one in enumerate(drawn)
    ]


@settings(max_examples=150)
@given(drawn=JOBS, given_=CLUSTERS, seed=st.integers(0, 1000))
def test_time_energy_and_jobs_are_conserved(drawn, given_, seed):
    jobs = jobs_of(drawn)
    run = simulate_training(Cluster.model_validate(given_), jobs, seed)
    whole_s = run.nodes * run.wall_s
    assert set(run.node_s) == set(CAUSES)
    assert min(run.node_s.values()) >= -1e-9 * whole_s
    assert math.fsum(run.node_s.values()) == pytest.approx(whole_s, rel=1e-9)
    assert math.fsum(run.energy_j.values()) == pytest.approx(run.total_j, rel=1e-9)
    assert float(run.power.power_w @ run.power.duration_s) == pytest.approx(run.total_j, rel=1e-6)
    assert run.power.duration_s.sum() == pytest.approx(run.wall_s)
    states = [one.status for one in run.jobs]
    assert sum(states.count(state) for state in ("finished", "running", "queued", "not submitted")) == len(jobs)
    assert given_["horizon"] is not None or states.count("finished") == len(jobs)
    for job, one in zip(jobs, run.jobs, strict=True):
        assert one.node_s["useful"] == pytest.approx(job.nodes * one.done_s, rel=1e-9, abs=1e-6)
        assert one.done_s == pytest.approx(job.work_s) if one.status == "finished" else one.done_s <= job.work_s
        assert one.start_s is None or one.start_s >= job.submit
    for cause in CAUSES:
        if cause not in {"idle", "repair", "maintenance"}:
            assert math.fsum(one.node_s[cause] for one in run.jobs) == pytest.approx(run.node_s[cause], rel=1e-9, abs=1e-6)
    if given_["power_budget"] is not None:
        assert run.power.power_w.max() <= 60_000.0 * (1 + 1e-9)


@settings(max_examples=40)
@given(drawn=JOBS, given_=CLUSTERS, seed=st.integers(0, 1000))
def test_gangs_never_oversubscribe(drawn, given_, seed):
    seen = []

    class Watched(ClusterState):
        def take(self, job, wanted):
            got = super().take(job, wanted)
            held = [node for one in self.holding for node in one.nodes]
            free = [node for domain in self.free for node in domain]
            off = [node for node in range(self.total) if self.is_off[node]]
            assert sorted(held + free + off) == list(range(self.total))
            assert len(free) == self.num_free
            assert all(self.owner[node] is one for one in self.holding for node in one.nodes)
            assert all(len(one.nodes) <= one.spec.nodes and sum(one.domains.values()) == len(one.nodes) for one in self.holding)
            seen.append(got)
            return got

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "ClusterState", Watched)
        simulate_training(Cluster.model_validate(given_), jobs_of(drawn), seed)
    assert seen or given_["horizon"] is not None
