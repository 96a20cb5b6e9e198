"""Goodput against the closed form, and what spares, elasticity and interval change."""

import numpy as np
import pytest
from scipy import stats

from effsim.errors import InfeasibleError
from effsim.sim.training.closed_form import expected_completion_s
from effsim.sim.training.simulation import checkpoint_interval_s, simulate_training, simulate_training_seeds

SEEDS = range(60)
FAR = 1e12


@pytest.mark.parametrize(("write", "asynchronous", "saves"), [(50.0, 0.0, 100), (50.0, 0.8, 100), (0.0, 0.0, 100)])
def test_without_failures_goodput_is_work_over_work_and_saves(cluster, job, write, asynchronous, saves):
    run = simulate_training(cluster(checkpoint={"interval": 1000.0, "write": write, "asynchronous": asynchronous}), [job()])
    saving_s = (saves - 1) * write * (1 - asynchronous) + write
    assert run.wall_s == pytest.approx(100_000.0 + saving_s, rel=1e-12)
    assert run.goodput == pytest.approx(100_000.0 / (100_000.0 + saving_s), rel=1e-12)
    assert run.jobs[0].saves == saves
    assert run.node_s["useful"] == pytest.approx(800_000.0, rel=1e-12)


@pytest.mark.parametrize("mtbf_s", [2_000.0, 10_000.0, 100_000.0])
@pytest.mark.parametrize(("restart_s", "detection_s"), [(0.0, 0.0), (300.0, 0.0), (200.0, 150.0)])
def test_exponential_failures_give_the_closed_form(cluster, job, mtbf_s, restart_s, detection_s):
    failures = {"node_mtbf": 8 * mtbf_s, "transient_share": 1.0, "detection": detection_s}
    spec = cluster(failures=failures, restart={"time": restart_s}, checkpoint={"interval": 1000.0, "write": 50.0, "restore": 0.0})
    runs = simulate_training_seeds(spec, [job(work=400_000.0)], SEEDS)
    expected_s = expected_completion_s(400_000.0, (1000.0, 50.0), mtbf_s, restart_s, detection_s)
    assert runs.wall_s.mean == pytest.approx(expected_s, abs=4 * runs.wall_s.sd / np.sqrt(len(SEEDS)))
    assert runs.wall_s.sd < 0.1 * expected_s


def test_the_interval_asked_for_by_name_is_dalys_and_beats_others(cluster, job):
    def wall_s(interval):
        spec = cluster(
            failures={"node_mtbf": 80_000.0, "transient_share": 1.0}, restart={"time": 100.0}, checkpoint={"interval": interval, "write": 50.0, "restore": 0.0}
        )
        return simulate_training_seeds(spec, [job(work=300_000.0)], range(20)).wall_s.mean, checkpoint_interval_s(spec, 8)

    best_s, interval_s = wall_s("young_daly")
    assert interval_s == pytest.approx(1000.0 * (1 + np.sqrt(50 / 20_000) / 3 + 50 / 20_000 / 9) - 50.0)
    assert best_s < wall_s(interval_s / 4)[0]
    assert best_s < wall_s(interval_s * 4)[0]


def test_weibull_of_shape_one_is_exponential_in_distribution(cluster, job):
    def walls(distribution):
        failures = {"node_mtbf": 40_000.0, "repair": 2_000.0, **distribution}
        return [run.wall_s for run in simulate_training_seeds(cluster(failures=failures, spare_nodes=2), [job()], range(300)).runs]

    alike = stats.ks_2samp(walls({}), walls({"distribution": "weibull", "shape": 1.0}))
    other = stats.ks_2samp(walls({}), walls({"distribution": "weibull", "shape": 0.5}))
    assert alike.pvalue > 0.05
    assert other.pvalue < 1e-3


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0])
def test_weibull_lives_have_the_mean_that_is_asked_for(cluster, job, shape):
    failures = {"node_mtbf": 1000.0, "distribution": "weibull", "shape": shape, "repair": 1e-6}
    run = simulate_training(cluster(failures=failures, nodes=50, horizon=200_000.0), [job(nodes=1, work=FAR)])
    count = run.counts["node"]
    assert count == pytest.approx(50 * 200.0, rel=0.05)


def test_spares_reduce_the_time_without_nodes(cluster, job):
    failures = {"node_mtbf": 80_000.0, "repair": 5_000.0}
    restart = {"time": 600.0, "with_spare": 60.0}
    without, one, many = (simulate_training_seeds(cluster(failures=failures, spare_nodes=n, restart=restart), [job()], range(10)) for n in (0, 1, 8))
    assert without.wall_s.mean > one.wall_s.mean > many.wall_s.mean
    waiting = [runs.by_cause("node_s")["waiting"].mean for runs in (without, one, many)]
    assert waiting[0] > 3 * waiting[1] > waiting[2]
    assert waiting[2] == 0.0
    assert many.by_cause("node_s")["restart"].mean < without.by_cause("node_s")["restart"].mean / 3


def test_elastic_goes_on_with_fewer(cluster, job):
    failures = {"node_mtbf": 200_000.0, "repair": 20_000.0}
    rigid = simulate_training_seeds(cluster(failures=failures), [job()], range(10))
    elastic = simulate_training_seeds(cluster(failures=failures), [job(min_nodes=4)], range(10))
    assert elastic.wall_s.mean < rigid.wall_s.mean
    assert elastic.by_cause("node_s")["waiting"].mean < rigid.by_cause("node_s")["waiting"].mean / 10
    for run in elastic.runs:
        assert run.node_s["useful"] == pytest.approx(800_000.0)


def test_what_does_not_fill_a_group_waits(cluster, job):
    outage = [{"start": 1000.0, "duration": 1e9, "domain": 3}]
    run = simulate_training(cluster(maintenance=outage, nodes_per_domain=2), [job(nodes=8, work=10_000.0, min_nodes=3, node_group=3 - 1)])
    assert run.node_s["waiting"] == 0.0
    assert run.wall_s > 1000.0 + 9000.0 * 8 / 6
    run = simulate_training(cluster(maintenance=outage, nodes_per_domain=1, nodes=8), [job(nodes=8, work=10_000.0, min_nodes=4, node_group=4)])
    assert run.node_s["waiting"] > 3 * 9000.0
    assert run.wall_s > 1000.0 + 9000.0 * 2


def test_the_same_seed_gives_the_same_run(cluster, job):
    spec = cluster(failures={"node_mtbf": 40_000.0, "repair": 3_000.0, "switch_mtbf": 200_000.0}, nodes_per_domain=4, spare_nodes=1)
    first, again, other = (simulate_training(spec, [job()], seed) for seed in (5, 5, 6))
    assert first.to_json() == again.to_json()
    assert first.wall_s != other.wall_s


def test_one_cause_does_not_shift_the_random_numbers_of_another(cluster, job):
    def run(**more):
        return simulate_training(cluster(failures={"node_mtbf": 40_000.0, "transient_share": 1.0, **more}, horizon=50_000.0), [job(work=FAR)], 1)

    quiet, busy = run(), run(straggler={"node_mtbs": 80_000.0, "slowdown": 1.2, "detection": 1e9})
    assert busy.counts["straggler"] > 0
    assert busy.counts["node_transient"] == quiet.counts["node_transient"] > 5


def test_a_job_that_never_gets_on_is_said(cluster, job):
    with pytest.raises(InfeasibleError, match="fails too often"):
        simulate_training(cluster(failures={"node_mtbf": 100.0, "transient_share": 1.0}), [job()])
