"""Switches, stragglers, maintenance, pauses and the power budget, on cases that can be worked out by hand."""

import numpy as np
import pytest

from effsim.errors import InfeasibleError
from effsim.sim.training.ledger import Signal
from effsim.sim.training.simulation import simulate_training, simulate_training_seeds

CURVE = [(0.4, 0.55), (0.7, 0.9), (1.0, 1.0)]


def test_a_switch_takes_its_whole_domain(cluster, job):
    failures = {"switch_mtbf": 30_000.0, "switch_repair": 1_000.0}
    spec = cluster(failures=failures, nodes=8, nodes_per_domain=4)
    wide = simulate_training(spec, [job(nodes=8, work=200_000.0)], 3)
    struck = wide.counts["switch"]
    assert struck > 5
    assert wide.node_s["repair"] == pytest.approx(4 * 1_000.0 * struck, rel=0.01)
    assert wide.jobs[0].failures == struck
    narrow = simulate_training(spec, [job(nodes=4, work=200_000.0)], 3)
    assert narrow.jobs[0].failures < narrow.counts["switch"], "the other domain fails without it"


def test_correlated_failures_hurt_two_jobs_at_once(cluster, job):
    spec = cluster(failures={"switch_mtbf": 50_000.0, "switch_repair": 500.0}, nodes=4, nodes_per_domain=4, horizon=400_000.0)
    run = simulate_training(spec, [job("a", 2, 1e9), job("b", 2, 1e9)], 1)
    assert run.jobs[0].failures == run.jobs[1].failures == run.counts["switch"] > 0


def test_a_straggler_slows_until_it_is_found(cluster, job):
    straggler = {"node_mtbs": 400_000.0, "slowdown": 1.5, "detection": 2_000.0}
    spec = cluster(failures={"straggler": straggler, "repair": 100.0}, spare_nodes=4, checkpoint={"interval": 1000.0, "write": 0.0})
    run = simulate_training(spec, [job(work=500_000.0)], 2)
    exchanged = run.jobs[0].restarts
    assert exchanged > 3
    assert run.jobs[0].failures == 0
    assert run.jobs[0].lost_s == 0.0
    wall_s = 500_000.0 + exchanged * 2_000.0 / 3.0  # of each 2,000 s a third is lost
    assert run.jobs[0].end_s == pytest.approx(wall_s, rel=2e-3)
    assert run.node_s["straggling"] == pytest.approx(8 * exchanged * 2_000.0 / 3.0, rel=0.1)


def test_a_straggler_under_a_power_budget_costs_both(cluster, job):
    straggler = {"node_mtbs": 40_000.0, "slowdown": 1.5, "detection": 1e9}
    budget = {"limit": 0.7 * 64_000.0, "curve": CURVE}
    run = simulate_training(cluster(failures={"straggler": straggler}, nodes=8, power_budget=budget), [job()])
    assert sum(run.node_s.values()) == pytest.approx(8 * run.wall_s, rel=1e-9)
    assert run.node_s["throttled"] == pytest.approx(800_000.0 * (1 / 0.9 - 1))
    assert 0.8 * 400_000.0 / 0.9 < run.node_s["straggling"] < 400_000.0 / 0.9


def test_maintenance_is_entered_after_a_save_and_loses_no_work(cluster, job):
    window = {"start": 2_500.0, "duration": 1_000.0}
    run = simulate_training(cluster(maintenance=[window], restart={"time": 300.0}), [job(work=10_000.0)])
    one = run.jobs[0]
    assert one.lost_s == 0.0
    assert run.node_s["maintenance"] == pytest.approx(8 * (1_000.0 - 50.0))
    assert run.wall_s == pytest.approx(10_000.0 + 10 * 50.0 + 50.0 + 950.0 + 350.0, abs=1_050.0)
    domain = simulate_training(cluster(maintenance=[{**window, "domain": 1}], nodes=8, spare_nodes=2, nodes_per_domain=2), [job(work=10_000.0)])
    assert domain.node_s["waiting"] == 0.0, "the spares take over"
    assert domain.counts["maintenance"] == 1


def test_maintenance_recurs(cluster, job):
    spec = cluster(nodes=8, maintenance=[{"start": 1_000.0, "duration": 100.0, "every": 5_000.0}], horizon=20_500.0)
    assert simulate_training(spec, [job(work=1e9)]).counts["maintenance"] == 4


DAY = [2e-7] * 6 + [5e-8] * 12 + [2e-7] * 6


def test_a_pause_on_carbon_saves_carbon_and_costs_time(cluster, job):
    signal = {"kind": "carbon", "values": DAY, "threshold": "800 g/kWh"}
    whole = [job(work=1e6)]
    free = simulate_training(cluster(pause=signal), whole)
    held = simulate_training(cluster(pause={**signal, "threshold": "400 g/kWh"}), whole)
    assert held.wall_s == pytest.approx(2 * free.wall_s, rel=0.05)
    assert held.signal_total < 0.7 * free.signal_total
    assert held.counts["pause"] >= 20
    assert held.jobs[0].lost_s == 0.0
    assert free.node_s["paused"] == 0.0
    assert held.node_s["checkpoint"] == pytest.approx(8 * 50.0 * held.jobs[0].saves, rel=0.02)
    assert held.node_s["paused"] == pytest.approx(0.5 * held.nodes * held.wall_s, rel=0.05)
    assert held.energy_j["paused"] == pytest.approx(held.node_s["paused"] * 1000.0)


@pytest.mark.parametrize("values", [DAY, DAY[6:] + DAY[:6], [2e-7, 5e-8], [5e-8, 2e-7]])
def test_no_work_is_done_while_the_signal_is_above(cluster, job, values):
    spec = cluster(pause={"kind": "carbon", "values": values, "threshold": 1e-7}, checkpoint={"interval": 1e9, "write": 0.0}, nodes=8)
    run = simulate_training(spec, [job(work=50 * 3600.0)])
    power_w = np.interp(run.power.time_s, run.power.time_s, run.power.power_w)
    above = np.array([values[int(hour) % len(values)] > 1e-7 for hour in run.power.time_s / 3600.0])
    assert set(np.round(power_w[above])) == {8_000.0}
    assert set(np.round(power_w[~above])) == {64_000.0}


def test_the_signal_is_weighed_by_the_hour(cluster, job):
    spec = cluster(pause={"kind": "price", "values": ["0.36 USD/kWh", "0.036 USD/kWh"], "threshold": "1 USD/kWh"}, nodes=8)
    run = simulate_training(spec.model_copy(update={"checkpoint": cluster(checkpoint={"interval": 1e9, "write": 0.0}).checkpoint}), [job(work=3 * 3600.0)])
    assert run.signal_total == pytest.approx(64_000.0 * 3600.0 * (1e-7 + 1e-8 + 1e-7))
    assert Signal((1.0, 2.0), 10.0).integral(0.0, 1_000.0) == pytest.approx(1_500.0)


def test_the_power_budget_slows_and_saves_power(cluster, job):
    whole = [job(work=20_000.0)]
    quick = simulate_training(cluster(), whole)
    slow = simulate_training(cluster(power_budget={"limit": 0.7 * 64_000.0, "curve": CURVE}), whole)
    assert slow.power.power_w.max() <= 0.7 * 64_000.0 * (1 + 1e-12)
    assert slow.wall_s - quick.wall_s == pytest.approx(20_000.0 / 0.9 - 20_000.0)
    assert slow.node_s["throttled"] == pytest.approx(8 * 20_000.0 * (1 / 0.9 - 1))
    assert slow.total_j < quick.total_j


def test_jobs_share_the_budget_and_the_queue_waits_for_it(cluster, job):
    budget = {"limit": 8 * 8_000.0, "curve": CURVE}
    run = simulate_training(cluster(nodes=24, idle_power=0.0, power_budget=budget), [job(name, 8, 10_000.0) for name in "abc"])
    assert [one.start_s == 0.0 for one in run.jobs] == [True, True, False], "a third would leave a third of the power to each"
    assert run.jobs[0].end_s > 10_000.0 / 0.9
    by_hand = simulate_training(cluster(nodes=8, idle_power=0.0, power_budget={"limit": 32_000.0}), [job(work=1_000.0)], speed=lambda share: share**0.5)
    assert by_hand.wall_s == pytest.approx(1_000.0 / 0.5**0.5 + 50.0)
    with pytest.raises(InfeasibleError, match="cannot run within the power budget"):
        simulate_training(cluster(power_budget={"limit": 20_000.0, "curve": CURVE}), [job()])


def test_an_asynchronous_save_blocks_less(cluster, job):
    failures = {"node_mtbf": 80_000.0, "transient_share": 1.0}
    blocking = simulate_training_seeds(cluster(failures=failures), [job()], range(10))
    hidden = simulate_training_seeds(cluster(failures=failures, checkpoint={"interval": 1000.0, "write": 50.0, "asynchronous": 0.9}), [job()], range(10))
    assert hidden.by_cause("node_s")["checkpoint"].mean < 0.2 * blocking.by_cause("node_s")["checkpoint"].mean
    assert hidden.goodput.mean > blocking.goodput.mean


def test_spreads_over_seeds(cluster, job):
    runs = simulate_training_seeds(cluster(failures={"node_mtbf": 80_000.0}), [job()], range(12))
    frame = runs.to_frame()
    assert len(frame) == 12
    assert runs.goodput.mean == pytest.approx(frame["goodput"].mean())
    assert runs.goodput.sd == pytest.approx(frame["goodput"].std())
    assert runs.goodput.p5 <= runs.goodput.p50 <= runs.goodput.p95
    assert sum(spread.mean for spread in runs.by_cause("energy_j").values()) == pytest.approx(runs.total_j.mean)


def test_idle_nodes_count_against_the_budget(cluster, job):
    spec = cluster(nodes=24, power_budget={"limit": 60_000.0, "curve": CURVE})
    run = simulate_training(spec, [job(work=20_000.0)])
    assert run.power.power_w.max() <= 60_000.0 * (1 + 1e-12)
    assert run.node_s["throttled"] == pytest.approx(160_000.0 * (1 / np.interp((60_000.0 - 16 * 700.0) / 64_000.0, *np.array(CURVE).T) - 1))
