"""Each control of a cluster against times, energies and shares computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effsim.errors import SpecError
from effsim.sim.control.conductor import EARLIER_TURN, LOST, NO_REPLICA, REJECTED_CLUSTER, REJECTED_REPLICA, TIMED_OUT
from effsim.sim.control.unit import Link, Rung, Unit
from effsim.sim.serving import ServingOptions, simulate_serving
from effsim.sim.setup import HostShare, ReplicaSetup
from effsim.specs.operation import Operation
from effsim.workload.traces import Trace

NEVER = {"maintenance": {"start": 1e9, "duration": 1.0}}
"""An operation in which nothing happens."""


def trace(rows, **columns):
    return Trace("rows", "test", *(np.array(column) for column in zip(*rows, strict=True)), **columns)


def options(operation, **settings):
    return ServingOptions(operation=Operation.model_validate(operation), **settings)


@pytest.fixture
def flat(linear_step):
    """Every iteration takes 0.5 s and draws 100 W, whatever is in it."""
    return linear_step(0.5, 0.0, 0.0, idle_power_w=40.0)


rows = st.lists(st.tuples(st.integers(0, 24).map(lambda tick: tick * 0.125), st.integers(1, 60), st.integers(1, 40)), min_size=1, max_size=20)


@given(rows=rows, replicas=st.integers(1, 3), router=st.sampled_from(["round_robin", "least_outstanding"]), concurrency=st.none() | st.integers(1, 3))
@settings(max_examples=60)
def test_a_cluster_to_which_nothing_happens_is_a_plain_one(windowed_step, rows, replicas, router, concurrency):
    requests = trace(sorted(rows))
    setups = [ReplicaSetup(windowed_step(scale=1.0 + 0.037 * index), max_num_seqs=4, num_gpu_blocks=60) for index in range(replicas)]
    plain = simulate_serving(requests, setups, ServingOptions(router=router, concurrency=concurrency))
    operated = simulate_serving(requests, setups, options(NEVER, router=router, concurrency=concurrency))
    assert operated.requests.to_frame().to_csv() == plain.requests.to_frame().to_csv()
    assert operated.energy.total_j == pytest.approx(plain.energy.total_j, rel=1e-12)
    assert operated.makespan_s == plain.makespan_s


def test_cold_start_takes_provisioning_and_loading(flat):
    unit = Unit(provisioning_s=1.0, load_s=2.5, load_w=90.0)
    operation = {"autoscaling": {"target": 1, "minimum": 0, "initial": 0, "interval": 100.0}}
    host = HostShare(idle_w=30.0, busy_w=80.0, psu_efficiency=0.5)
    result = simulate_serving(trace([(5.0, 3, 2)]), [ReplicaSetup(flat, host=host)], options(operation, units=(unit,)))
    assert result.requests.queue_s[0] == 3.5
    assert result.requests.e2e_latency_s[0] == pytest.approx(4.5)
    one = result.replicas[0]
    assert (one.off_s, one.loading_s, one.idle_s, one.busy_s) == pytest.approx((5.0, 3.5, 0.0, 1.0))
    assert one.energy.loading_j == pytest.approx(1.0 * 40.0 + 2.5 * 90.0)
    assert one.energy.off_j == 0.0
    assert one.server_j == pytest.approx((one.energy.total_j + 3.5 * 30.0 + 1.0 * 80.0) / 0.5)  # the host is off with its replica
    assert result.operation.replicas == ((0.0, 0, 0), (5.0, 0, 1), (8.5, 1, 0))
    assert (result.power.waiting * result.power.duration_s).sum() == pytest.approx(3.5)


def test_autoscaler_follows_the_metric_and_its_cooldown(flat):
    """Four requests that run together for long, one target each; then none."""
    operation = {"autoscaling": {"target": 1, "minimum": 1, "initial": 1, "interval": 2.0, "down_cooldown": 10.0, "tolerance": 0.0}}
    setups = [ReplicaSetup(flat, max_num_seqs=8)] * 4
    late = [(60.0, 1, 1)]
    result = simulate_serving(trace([(0.0, 1, 20)] * 4 + late), setups, options(operation, units=(Unit(),) * 4, router="least_outstanding"))
    changes = {time_s: on for time_s, on, _ in result.operation.replicas}
    assert changes[2.0] == 4  # ceil(1 · 4 / 1)
    assert min(time_s for time_s, on in changes.items() if on == 1 and time_s > 2.0) == 22.0  # the last look that wanted four was at 10 s
    assert result.operation.starts == result.operation.stops == 3


def test_autoscaler_keeps_what_it_began_with_for_a_cooldown(flat):
    operation = {"autoscaling": {"target": 1, "minimum": 0, "initial": 2, "interval": 2.0, "down_cooldown": 10.0}}
    result = simulate_serving(trace([(0.0, 1, 1), (30.0, 1, 1)]), [ReplicaSetup(flat)] * 2, options(operation, units=(Unit(),) * 2))
    assert result.operation.replicas[:2] == ((0.0, 2, 0), (12.0, 0, 0))


def test_failed_request_is_computed_anew_elsewhere_with_what_it_has_generated(flat):
    """Prompt and four tokens by 2.5 s, of which one is under way at 2.2 s; the other replica reads the prompt and four tokens at once."""
    operation = {"failures": {"at": [{"time": 2.2, "replica": 0}], "repair": 100.0}}
    result = simulate_serving(trace([(0.0, 3, 10)]), [ReplicaSetup(flat)] * 2, options(operation))
    assert result.requests.ttft_s[0] == 0.5
    assert result.requests.e2e_latency_s[0] == pytest.approx(2.2 + 6 * 0.5)
    assert result.requests.replica[0] == 1
    assert result.operation.failures == result.operation.retries == 1
    assert [one.busy_s for one in result.replicas] == pytest.approx([2.2, 3.0])
    assert result.replicas[0].off_s == pytest.approx(3.0)
    assert result.energy.static_j == pytest.approx(100.0 * 5.2)


@pytest.mark.parametrize(("failures", "reason"), [({"requests": "lost"}, LOST), ({"max_retries": 0}, LOST), ({"repair": None}, NO_REPLICA)])
def test_what_a_failure_ends_is_counted_by_reason(flat, failures, reason):
    operation = {"failures": {"at": [{"time": 0.7, "replica": 0}], **failures}}
    result = simulate_serving(trace([(0.0, 3, 10)]), [ReplicaSetup(flat)], options(operation))
    assert result.counts.dropped == {reason: 1}
    assert result.operation.dropped_j == pytest.approx(result.requests.energy_j[0]) == pytest.approx(70.0 + 0.3 * (3 + 0.4) + (3 + 0.4 * 4) * 0.0, abs=0.1)


def test_share_of_time_down_is_repair_over_mtbf_and_repair(flat):
    arrival_s = np.arange(0.0, 20_000.0, 10.0)
    ones = np.ones(arrival_s.size)
    operation = {"failures": {"mtbf": 100.0, "repair": 25.0}}
    shares = []
    for seed in range(4):
        result = simulate_serving(Trace("even", "test", arrival_s, ones, ones), [ReplicaSetup(flat)] * 2, options(operation, seed=seed))
        shares += [one.off_s / result.makespan_s for one in result.replicas]
    assert np.mean(shares) == pytest.approx(25.0 / 125.0, rel=0.06)  # renewal theory; 1,300 cycles: sd about 2 %
    assert len(set(shares)) == len(shares)


def test_maintenance_goes_round_and_loses_nothing(flat):
    arrival_s = np.arange(0.0, 40.0, 0.5)
    ones = np.ones(arrival_s.size)
    operation = {"maintenance": {"start": 2.0, "duration": 5.0, "gap": 1.0}}
    result = simulate_serving(Trace("even", "test", arrival_s, ones, ones * 3), [ReplicaSetup(flat)] * 3, options(operation, units=(Unit(load_s=0.5),) * 3))
    assert result.counts.completed == arrival_s.size
    assert result.operation.maintained == 3
    assert [one.off_s for one in result.replicas] == [5.0] * 3
    assert [one.loading_s for one in result.replicas] == [0.5] * 3
    assert min(on for _, on, _ in result.operation.replicas) == 2


def test_those_leave_who_have_waited_too_long(flat):
    """One at a time, 0.5 s each: with 1.2 s of patience the fourth of a burst is not served."""
    result = simulate_serving(trace([(0.0, 1, 1)] * 5 + [(9.0, 1, 1)]), [ReplicaSetup(flat, max_num_seqs=1)], options({"admission": {"max_wait": 1.2}}))
    assert result.requests.queue_s[[0, 1, 2, 5]].tolist() == [0.0, 0.5, 1.0, 0.0]
    assert result.counts.dropped == {TIMED_OUT: 2}


@pytest.mark.parametrize(("limit", "reason"), [("max_waiting_per_replica", REJECTED_REPLICA), ("max_waiting", REJECTED_CLUSTER)])
def test_full_queues_reject(flat, limit, reason):
    result = simulate_serving(trace([(0.0, 1, 1)] + [(0.1, 1, 1)] * 6), [ReplicaSetup(flat, max_num_seqs=1)], options({"admission": {limit: 2}}))
    assert result.counts.dropped == {reason: 4}
    assert result.requests.queue_s[:3].tolist() == pytest.approx([0.0, 0.4, 0.9])


def test_prefill_and_decode_apart(flat, linear_step):
    """Prompt 0.5 s, 6 tokens of 1 kB over 1 kB/s and 0.25 s of latency, then three tokens on a replica twice as slow."""
    units = (Unit("prefill", kv_bytes_per_token=1000.0, link=Link(1000.0, 0.25, 1e-3)), Unit("decode"))
    setups = [ReplicaSetup(flat), ReplicaSetup(linear_step(1.0, 0.0, 0.0))]
    result = simulate_serving(trace([(0.0, 6, 4)]), setups, options({}, units=units))
    assert result.requests.ttft_s[0] == 0.5
    assert result.requests.e2e_latency_s[0] == pytest.approx(0.5 + 0.25 + 6.0 + 3 * 1.0)
    assert [one.busy_s for one in result.replicas] == pytest.approx([0.5, 3.0])
    assert result.operation.transfer_bytes == 6000.0
    assert result.operation.transfer_j == pytest.approx(6.0)
    assert result.requests.replica[0] == 1


def test_transfers_of_a_replica_go_one_after_the_other(flat):
    units = (Unit("prefill", kv_bytes_per_token=1000.0, link=Link(1000.0)), Unit("decode"))
    result = simulate_serving(trace([(0.0, 2, 2), (0.0, 2, 2)]), [ReplicaSetup(flat)] * 2, options({}, units=units))
    assert result.requests.e2e_latency_s.tolist() == pytest.approx([0.5 + 2.0 + 0.5, 0.5 + 4.0 + 0.5])


def test_a_pool_without_its_other_half_is_refused(flat):
    with pytest.raises(SpecError, match="role prefill without decode"):
        simulate_serving(trace([(0.0, 2, 2)]), [ReplicaSetup(flat)], options({}, units=(Unit("prefill"),)))
    with pytest.raises(SpecError, match="role decode without prefill"):
        simulate_serving(trace([(0.0, 2, 2)]), [ReplicaSetup(flat)], options({}, units=(Unit("decode"),)))


def test_a_limit_of_the_schedule_holds_from_the_next_iteration(flat, linear_step):
    unit = Unit(schedule=((1.2, Rung(350.0, linear_step(1.0, 0.0, 0.0))),))
    result = simulate_serving(trace([(0.0, 1, 5)]), [ReplicaSetup(flat)], options({}, units=(unit,)))
    assert result.requests.e2e_latency_s[0] == pytest.approx(3 * 0.5 + 2 * 1.0)


def rungs_of(linear_step):
    """A replica whose power while it serves is its limit."""

    class Limited(linear_step):
        def __init__(self, limit_w):
            super().__init__(0.1 * 400.0 / limit_w, 0.0, 0.0, idle_power_w=50.0)
            self.limit_w = limit_w

        def step_at(self, decoding, keys, chunks):
            return self.fixed_s, 60.0 * self.fixed_s, (self.limit_w - 60.0) * self.fixed_s, 0.0, 0.0

    return tuple(Rung(limit_w, Limited(limit_w)) for limit_w in (100.0, 200.0, 300.0, 400.0))


def test_budget_is_kept_by_lower_rungs_and_given_back(linear_step):
    """Four replicas at 400 W and 1,000 W for all: 200 W each is the highest rung within it; one busy replica may have 400 W."""
    rungs = rungs_of(linear_step)
    requests = trace([(0.0, 1, 60)] * 4 + [(30.0, 1, 60)])
    operation = {"power": {"budget": 1000.0, "interval": 1.0}}
    result = simulate_serving(requests, [ReplicaSetup(rungs[-1].step_model)] * 4, options(operation, units=(Unit(rungs=rungs),) * 4))
    assert result.operation.levels[0] == (0.0, 200.0)
    assert result.operation.over_budget_s == 0.0
    assert result.power.accelerator_w.max() <= 1000.0 * (1.0 + 1e-9)
    assert result.operation.levels[-1][1] == 400.0
    assert result.requests.e2e_latency_s[-1] == pytest.approx(60 * 0.1)


def test_clocks_are_lowered_once_the_budget_is_passed(linear_step):
    """They begin at full clock: 1,600 W for an interval, then half of it, as three quarters would be 1,200 W."""
    rungs = tuple(Rung(rung.level / 400.0, rung.step_model) for rung in rungs_of(linear_step))
    operation = {"power": {"budget": 1000.0, "interval": 1.0, "control": "clock"}}
    setups = [ReplicaSetup(rungs[-1].step_model)] * 4
    result = simulate_serving(trace([(0.0, 1, 60)] * 4), setups, options(operation, units=(Unit(rungs=rungs),) * 4))
    assert result.operation.levels[:2] == ((0.0, 1.0), (1.0, 0.5))
    assert result.operation.over_budget_s == 1.0
    assert result.operation.over_budget_j == pytest.approx(600.0)
    assert result.power.accelerator_w[:4] == pytest.approx([1600.0, 800.0, 800.0, 800.0])
    assert result.requests.e2e_latency_s[0] == pytest.approx(10 * 0.1 + 50 * 0.2)


def test_a_budget_below_static_power_is_refused(linear_step):
    rungs = rungs_of(linear_step)
    operation = {"power": {"budget": 239.0}}
    with pytest.raises(SpecError, match=r"0\.239 kW given; static power alone of the 4 replicas .* is 0\.24 kW"):
        simulate_serving(trace([(0.0, 1, 1)]), [ReplicaSetup(rungs[-1].step_model)] * 4, options(operation, units=(Unit(rungs=rungs),) * 4))


def test_turns_follow_the_end_of_the_turn_before(flat):
    nan = math.nan
    requests = trace([(0.0, 1, 2), (0.0, 3, 2), (0.0, 5, 2), (0.2, 1, 1)], session=np.array([7, 7, 7, -1]), think_s=np.array([nan, 2.0, 0.0, nan]))
    result = simulate_serving(requests, [ReplicaSetup(flat)])
    assert result.requests.arrival_s.tolist() == pytest.approx([0.0, 3.0, 4.0, 0.2])
    assert result.requests.e2e_latency_s[:3].tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_a_turn_that_is_not_served_ends_its_session(flat):
    requests = trace([(0.0, 1, 2), (0.0, 90, 2), (0.0, 5, 2)], session=np.array([7, 7, 7]), think_s=np.array([math.nan, 1.0, 1.0]))
    result = simulate_serving(requests, [ReplicaSetup(flat, num_gpu_blocks=4)])
    assert [bool(reason) for reason in result.requests.dropped] == [False, True, True]
    assert result.requests.dropped[2] == EARLIER_TURN


def test_two_simulations_in_one_process_do_not_touch_each_other(flat):
    operation = {"failures": {"mtbf": 5.0, "repair": 1.0}, "autoscaling": {"target": 2, "minimum": 0, "interval": 1.0}}
    requests = trace([(0.25 * number, 3, 9) for number in range(40)])

    def run(seed):
        return simulate_serving(requests, [ReplicaSetup(flat)] * 3, options(operation, seed=seed)).requests.to_frame().to_csv()

    first = run(1)
    other = run(2)
    assert run(1) == first != other


def test_impossible_operations_are_refused(flat):
    with pytest.raises(SpecError, match="replica 3 given; the fleet has replicas 0 to 0"):
        simulate_serving(trace([(0.0, 1, 1)]), [ReplicaSetup(flat)], options({"failures": {"at": [{"time": 1.0, "replica": 3}]}}))
    with pytest.raises(SpecError, match="expected one per replica, 2; got 1"):
        simulate_serving(trace([(0.0, 1, 1)]), [ReplicaSetup(flat)] * 2, options(NEVER, units=(Unit(),)))


def test_energy_by_state_splits_iterations_by_tokens(flat):
    """A prompt of 4 alone, then one of 3 beside a token, to which a quarter of the iteration falls."""
    result = simulate_serving(trace([(0.0, 4, 3), (0.25, 3, 1)]), [ReplicaSetup(flat)])
    first_j, mixed_j = 50.0 + 0.3 * 4 + 0.01, 50.0 + 0.3 * 4 + 0.002 * 5 + 0.01
    assert result.energy_by_state["prefill_j"] == pytest.approx(first_j + 0.75 * mixed_j)
    assert sum(result.energy_by_state.values()) == pytest.approx(result.energy.total_j, rel=1e-12)
