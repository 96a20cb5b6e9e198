"""Queue policies: pure, and in the order that each promises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.errors import SpecError, UnknownNameError
from effsim.sim.training.placement import place
from effsim.sim.training.queueing import Decision, Running, Waiting, policy_names, queue_policy
from effsim.sim.training.simulation import simulate_training

WAITING = st.lists(st.tuples(st.integers(1, 8), st.floats(1, 100), st.integers(0, 3)), max_size=6)
RUNNING = st.lists(st.tuples(st.integers(1, 8), st.floats(0, 100), st.integers(0, 3), st.booleans()), max_size=4)


@pytest.mark.parametrize("name", policy_names())
@given(waiting=WAITING, running=RUNNING, free=st.integers(0, 10))
def test_decisions_are_pure_and_within(name, waiting, running, free):
    queue = tuple(Waiting(n, nodes, time, priority, float(n)) for n, (nodes, time, priority) in enumerate(waiting))
    busy = tuple(Running(100 + n, nodes, end, priority, 0.0, leaving) for n, (nodes, end, priority, leaving) in enumerate(running))
    decision = queue_policy(name)(queue, busy, free, 10.0)
    assert decision == queue_policy(name)(queue, busy, free, 10.0)
    assert len(set(decision.start)) == len(decision.start)
    assert sum(queue[number].nodes for number in decision.start) <= free
    leaving = {one.id for one in busy if one.leaving}
    assert set(decision.preempt) <= {one.id for one in busy} - leaving
    if queue and name != "priority" and queue[0].nodes <= free:
        assert decision.start[0] == 0


def test_backfill_passes_the_head_only_where_that_does_not_delay_it():
    queue = (Waiting(0, 8, 50.0, 0, 0.0), Waiting(1, 2, 100.0, 0, 1.0), Waiting(2, 2, 10.0, 0, 2.0))
    running = (Running(9, 6, 20.0, 0, 0.0, False),)
    assert queue_policy("fifo")(queue, running, 2, 0.0) == Decision()
    assert queue_policy("backfill")(queue, running, 2, 0.0) == Decision((2,))
    assert queue_policy("backfill")(queue[:2], (Running(9, 8, 20.0, 0, 0.0, False),), 2, 0.0) == Decision((1,)), "two nodes are left over beside the head"


def test_priority_preempts_no_more_than_needed_and_only_lower():
    running = (Running(1, 4, 9e9, 1, 0.0, False), Running(2, 4, 9e9, 0, 0.0, False), Running(3, 4, 9e9, 0, 5.0, False), Running(4, 4, 9e9, 2, 0.0, False))
    admit = queue_policy("priority")
    assert admit((Waiting(0, 4, 1.0, 2, 0.0),), running, 0, 10.0).preempt == (3,)
    assert admit((Waiting(0, 6, 1.0, 2, 0.0),), running, 0, 10.0).preempt == (3, 2)
    assert admit((Waiting(0, 13, 1.0, 2, 0.0),), running, 0, 10.0).preempt == ()


def order(run):
    return sorted((one.start_s, one.name) for one in run.jobs)


def test_fifo_and_backfill_start_in_different_order(cluster, job):
    jobs = [job("first", 6, 10_000.0), job("wide", 8, 5_000.0, submit=1.0), job("short", 2, 1_000.0, submit=2.0), job("long", 2, 50_000.0, submit=3.0)]
    fifo = simulate_training(cluster(nodes=8), jobs)
    backfill = simulate_training(cluster(nodes=8, queue="backfill"), jobs)
    assert [name for _, name in order(fifo)] == ["first", "wide", "long", "short"]
    assert [name for _, name in order(backfill)] == ["first", "short", "wide", "long"]
    assert fifo.jobs[1].start_s == backfill.jobs[1].start_s, "the head is not delayed"
    assert sum(one.queue_s for one in backfill.jobs) < sum(one.queue_s for one in fifo.jobs)


def test_what_a_running_job_has_done_since_it_started_counts(cluster, job):
    jobs = [job("first", 6, 10_000.0), job("wide", 8, 5_000.0, submit=1.0), job("late", 2, 5_000.0, submit=8_000.0)]
    run = simulate_training(cluster(nodes=8, queue="backfill"), jobs)
    assert run.jobs[1].start_s == run.jobs[0].end_s, "late would end at 13,250 s and delay it"
    assert run.jobs[2].start_s == run.jobs[1].end_s


def test_a_preempted_job_saves_waits_and_finishes(cluster, job):
    jobs = [job("low", 8, 10_000.0), job("high", 4, 2_000.0, submit=3_500.0, priority=1)]
    run = simulate_training(cluster(nodes=8, queue="priority", restart={"time": 200.0}), jobs)
    low, high = run.jobs
    assert high.start_s == pytest.approx(3_500.0 + 50.0)
    assert low.preemptions == 1
    assert low.restarts == 1
    assert low.queue_s == pytest.approx(high.end_s - high.start_s)
    assert low.lost_s == 0.0
    assert run.node_s["recomputed"] == 0.0
    assert low.status == high.status == "finished"


def test_placement_prefers_one_domain_the_fullest():
    free = {0: [0, 1, 2, 3], 1: [4, 5], 2: [8, 9, 10]}
    assert place(free, 3) == (8, 9, 10)
    assert place(free, 2, {0: 1}) == (0, 1)
    assert len({node // 4 for node in place(free, 6)}) == 2
    assert len(place(free, 99)) == 9


def test_jobs_that_fit_share_no_domain(cluster, job):
    run = simulate_training(cluster(nodes=12, nodes_per_domain=4), [job("a", 4, 100.0), job("b", 3, 100.0), job("c", 4, 100.0)])
    assert [one.domains for one in run.jobs] == [1, 1, 1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"queue": "fifoo"}, "did you mean .*fifo"),
        ({"nodes": 4}, "takes 8 nodes, the cluster has 4"),
        ({"maintenance": [{"start": 0, "duration": 1, "domain": 7}]}, "domain 7 is not there"),
        ({"power_budget": {"limit": 1e9}}, "curve is missing"),
    ],
)
def test_mistakes_are_said(cluster, job, given, message):
    with pytest.raises((SpecError, UnknownNameError), match=message):
        simulate_training(cluster(**given), [job()])
    with pytest.raises(SpecError, match="is taken"):
        simulate_training(cluster(nodes=8), [job(), job()])


def test_spares_are_for_replacement_only(cluster, job):
    run = simulate_training(cluster(nodes=4, spare_nodes=4), [job("a", 4, 1_000.0), job("b", 4, 1_000.0)])
    assert run.jobs[1].start_s == pytest.approx(run.jobs[0].end_s)
    assert run.node_s["idle"] == pytest.approx(4 * run.wall_s)
