"""The serving simulator against conservation laws, hand-computed schedules and closed forms of queueing."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from effsim.errors import SpecError, UnknownNameError
from effsim.sim.registry import names
from effsim.sim.result import SimulationResult
from effsim.sim.serving import ServingOptions, simulate_serving
from effsim.sim.setup import DROP_KV, HostShare, ReplicaSetup
from effsim.workload.traces import Trace
from tests.sim import oracle

HOST = HostShare(idle_w=30.0, busy_w=80.0, fan_w=10.0, psu_efficiency=0.9)


def trace(rows):
    rows = sorted(rows, key=lambda row: row[0])
    return Trace("rows", "test", *(np.array(column) for column in zip(*rows, strict=True)))


def check_energy(result: SimulationResult, pue: float) -> None:
    parts, power = result.energy, result.power
    served_j = np.nansum(result.requests.energy_j)
    assert served_j + parts.idle_j == pytest.approx(parts.total_j, rel=1e-9)
    assert sum(one.energy.total_j for one in result.replicas) == pytest.approx(parts.total_j, rel=1e-12)
    assert power.duration_s.sum() == pytest.approx(result.makespan_s, rel=1e-12)
    assert (power.accelerator_w * power.duration_s).sum() == pytest.approx(parts.total_j, rel=1e-6)
    assert (power.server_w * power.duration_s).sum() == pytest.approx(result.server_j, rel=1e-6)
    assert (power.site_w * power.duration_s).sum() == pytest.approx(result.site_j, rel=1e-6)
    assert result.site_j == pytest.approx(pue * result.server_j, rel=1e-12)
    for one in result.replicas:
        assert one.busy_s + one.idle_s == pytest.approx(result.makespan_s, rel=1e-9)


rows = st.lists(
    st.tuples(st.integers(0, 24).map(lambda tick: tick * 0.125), st.integers(1, 60), st.integers(1, 40)), min_size=1, max_size=25
)  # a grid of times, so that ties are common
engines = st.fixed_dictionaries(
    {
        "max_num_seqs": st.integers(1, 8),
        "max_num_batched_tokens": st.integers(1, 40),
        "block_size": st.integers(1, 5),
        "num_gpu_blocks": st.integers(1, 60),
        "chunked_prefill": st.booleans(),
        "scheduler": st.sampled_from(names("pick")),
    }
)


@given(
    rows=rows,
    engine=engines,
    replicas=st.integers(1, 3),
    router=st.sampled_from(["round_robin", "least_outstanding", "power_of_two"]),  # those that read nothing that is as of the last leg
    concurrency=st.none() | st.integers(1, 4),
    step=st.tuples(st.sampled_from([0, 0, 7, 30]), st.booleans(), st.sampled_from([0.0, 1.7e-3])),
)
@example([(0.0, 1, 1)] * 2, {"max_num_seqs": 1}, 1, "round_robin", None, (0, False, 0.0))
@example([(0.0, 4, 12)] * 6, {"block_size": 1, "num_gpu_blocks": 15}, 1, "round_robin", None, (0, False, 0.0))  # preemption storm
@settings(max_examples=400)
def test_same_as_one_iteration_at_a_time(windowed_step, rows, engine, replicas, router, concurrency, step):
    window, windowed_cache, context_s = step
    requests = trace(rows)
    speeds = [1.0 if concurrency is None else 1.0 + 0.037 * index for index in range(replicas)]  # ties between replicas have no order in a closed loop
    setups = [ReplicaSetup(windowed_step(window, windowed_cache and window > 0, context_s, speed), host=HOST, **engine) for speed in speeds]
    expected, served, dropped = oracle.simulate(requests, setups, router, concurrency, pieces=True)
    result = simulate_serving(requests, setups, ServingOptions(router=router, concurrency=concurrency, bin_s=0.5, max_bins=8, pue=1.2))
    columns, counts = result.requests, result.counts

    assert [bool(reason) for reason in columns.dropped] == [request.id in dropped for request in expected]
    for number, request in enumerate(expected):
        if request.id in dropped:
            assert np.isnan(columns.e2e_latency_s[number])
            assert columns.replica[number] == -1
            continue
        assert columns.replica[number] == request.replica
        assert columns.preemptions[number] == request.preemptions
        assert columns.arrival_s[number] == pytest.approx(request.arrival_s, rel=1e-9)
        assert columns.queue_s[number] == pytest.approx(request.first_scheduled_s - request.arrival_s, rel=1e-9, abs=1e-9)
        assert columns.ttft_s[number] == pytest.approx(request.first_token_s - request.arrival_s, rel=1e-9)
        assert columns.e2e_latency_s[number] == pytest.approx(request.last_token_s - request.arrival_s, rel=1e-9)
        assert columns.energy_j[number] == pytest.approx(request.energy_j, rel=1e-9)

    kept = np.array([not reason for reason in columns.dropped])
    assert counts.arrived == len(requests) == counts.completed + sum(counts.dropped.values())
    assert (counts.completed, counts.preemptions) == (kept.sum(), columns.preemptions.sum())
    assert (counts.prompt_tokens, counts.output_tokens) == (requests.prompt_tokens[kept].sum(), requests.output_tokens[kept].sum())
    assert counts.recomputed_tokens == sum(one.recomputed_tokens for one in served)
    assert np.isnan(columns.tpot_s).tolist() == (~kept | (requests.output_tokens == 1)).tolist()
    assert sum(result.inter_token.counts) == (requests.output_tokens[kept] - 1).sum()
    for one, other in zip(result.replicas, served, strict=True):
        assert one.kv_blocks_free == one.kv_blocks
        assert one.iterations == other.iterations
        assert one.busy_s == pytest.approx(other.busy_s, rel=1e-9)
        assert one.energy.total_j - one.energy.idle_j == pytest.approx(other.energy_j, rel=1e-9)
    assert (result.power.kv_usage <= 1.0 + 1e-9).all()
    check_energy(result, 1.2)
    assert len(result.power.time_s) <= 8


@given(rows=rows)
def test_littles_law_of_running_sequences(linear_step, rows):
    result = simulate_serving(trace(rows), [ReplicaSetup(linear_step(), max_num_seqs=3)], ServingOptions(bin_s=0.05))
    area = (result.power.running * result.power.duration_s).sum()  # exact, as nothing is preempted
    assert area == pytest.approx((result.requests.e2e_latency_s - result.requests.queue_s).sum(), rel=1e-9)


@given(prompt=st.integers(1, 50), output=st.integers(1, 30), budget=st.integers(1, 20))
def test_a_request_alone_takes_the_sum_of_its_steps(linear_step, prompt, output, budget):
    used, clean = linear_step(), linear_step()
    result = simulate_serving(trace([(3.0, prompt, output)]), [ReplicaSetup(used, max_num_batched_tokens=budget)])
    chunks = [clean.step([], [(min(budget, prompt - before), before)]) for before in range(0, prompt, budget)]
    decodes = [clean.step([prompt + number], []) for number in range(1, output)]
    assert result.requests.queue_s[0] == 0.0
    assert result.requests.ttft_s[0] == pytest.approx(sum(cost[0] for cost in chunks), rel=1e-9)
    assert result.requests.e2e_latency_s[0] == pytest.approx(sum(cost[0] for cost in chunks + decodes), rel=1e-9)
    assert result.requests.energy_j[0] == pytest.approx(sum(sum(cost[1:]) for cost in chunks + decodes), rel=1e-9)
    assert result.energy.idle_j == pytest.approx(3.0 * used.idle_power_w, rel=1e-9)


def test_what_never_fits_is_dropped_by_name(linear_step):
    result = simulate_serving(trace([(0.0, 60, 5), (0.0, 60, 6)]), [ReplicaSetup(linear_step(kv_capacity_tokens=64))])
    assert result.counts.dropped == {DROP_KV: 1}
    assert result.requests.dropped == ("", DROP_KV)  # 60 + 5 - 1 = 64 tokens fit four blocks


def test_all_dropped_at_once_is_a_run_of_no_time(linear_step):
    result = simulate_serving(trace([(0.0, 60, 6)]), [ReplicaSetup(linear_step(kv_capacity_tokens=64))])
    assert (result.counts.completed, result.makespan_s, result.energy.total_j, len(result.power.time_s)) == (0, 0.0, 0.0, 0)


def test_larger_replica_takes_what_the_smaller_cannot(linear_step):
    setups = [ReplicaSetup(linear_step(kv_capacity_tokens=64)), ReplicaSetup(linear_step(kv_capacity_tokens=640))]
    result = simulate_serving(trace([(0.0, 100, 2)] * 4), setups)
    assert result.requests.replica.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_md1_waiting_time(linear_step, load):
    service_s = 0.02
    waits = []
    for seed in range(8):
        arrival_s = np.cumsum(np.random.default_rng(seed).exponential(service_s / load, size=20_000))
        ones = np.ones(arrival_s.size)
        requests = Trace("poisson", "test", arrival_s, ones, ones)
        setup = ReplicaSetup(linear_step(service_s, 0.0, 0.0), max_num_seqs=1)
        waits.append(simulate_serving(requests, [setup]).requests.queue_s.mean())
    assert np.mean(waits) == pytest.approx(load * service_s / (2.0 * (1.0 - load)), rel=0.03)  # Pollaczek-Khinchine


def test_closed_loop_keeps_the_concurrency(linear_step):
    result = simulate_serving(trace([(5.0, 3, 4)] * 9), [ReplicaSetup(linear_step())], ServingOptions(concurrency=1))
    columns = result.requests
    assert columns.arrival_s[0] == 0.0
    assert columns.arrival_s[1:] == pytest.approx(columns.arrival_s[:-1] + columns.e2e_latency_s[:-1], rel=1e-12)
    many = simulate_serving(trace([(0.0, 3, 40)] * 30), [ReplicaSetup(linear_step())], ServingOptions(concurrency=4, bin_s=0.01))
    assert many.power.running.max() == pytest.approx(4.0)
    assert (many.requests.arrival_s == 0.0).sum() == 4


def test_server_and_site_scope_of_one_request(linear_step):
    step = linear_step(fixed_s=1.0, token_s=0.0, context_s=0.0)
    result = simulate_serving(trace([(4.0, 1, 1)]), [ReplicaSetup(step, host=HOST)], ServingOptions(pue=1.5))
    accelerator_j = 4.0 * 50.0 + 100.0 + 0.3 + 0.01  # idle, then one step of one token
    assert result.energy.total_j == pytest.approx(accelerator_j, rel=1e-12)
    assert result.server_j == pytest.approx((accelerator_j + 5.0 * (30.0 + 10.0) + 1.0 * (80.0 - 30.0)) / 0.9, rel=1e-12)
    assert result.power.accelerator_w == pytest.approx([50.0] * 4 + [100.31], rel=1e-12)
    assert result.power.site_w[0] == pytest.approx(1.5 * (50.0 + 30.0 + 10.0) / 0.9, rel=1e-12)


def busy_day(linear_step, seed):
    random = np.random.default_rng(seed)
    requests = Trace("day", "test", np.sort(random.uniform(0, 20, 300)), random.integers(1, 200, 300), random.integers(1, 60, 300))
    setups = [ReplicaSetup(linear_step(), block_size=16, num_gpu_blocks=40, max_num_seqs=8) for _ in range(2)]
    return simulate_serving(requests, setups, ServingOptions(router="least_outstanding"))


def test_runs_repeat_byte_for_byte_and_do_not_touch_each_other(linear_step):
    first = busy_day(linear_step, 1)
    other = busy_day(linear_step, 2)
    again = busy_day(linear_step, 1)
    assert first.counts.preemptions > 0
    assert first.requests.to_frame().to_csv() == again.requests.to_frame().to_csv() != other.requests.to_frame().to_csv()
    assert first.power.to_frame().to_csv() == again.power.to_frame().to_csv()
    assert first.inter_token.counts == again.inter_token.counts


def test_inter_token_quantile_matches_the_steady_step(linear_step):
    result = simulate_serving(trace([(0.0, 1, 100)]), [ReplicaSetup(linear_step(0.02, 0.0, 0.0))])
    assert result.inter_token.quantile_s(0.5) == pytest.approx(0.02, rel=0.006)
    assert result.requests.tpot_s[0] == pytest.approx(0.02, rel=1e-9)


def test_progress_ends_with_all(linear_step, monkeypatch):
    monkeypatch.setattr("effsim.sim.cluster.PROGRESS_INTERVAL_S", 0.0)
    seen = []
    simulate_serving(trace([(0.0, 1, 2)] * 3), [ReplicaSetup(linear_step(), max_num_seqs=1)], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 3), (3, 3)]


@pytest.mark.parametrize("time_s", [0.0, -1.0, math.nan, math.inf])
def test_a_step_without_a_time_is_refused(linear_step, time_s):
    with pytest.raises(SpecError, match="expected a positive time"):
        simulate_serving(trace([(0.0, 1, 1)]), [ReplicaSetup(linear_step(time_s, 0.0, 0.0))])


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"max_num_seqs": 0}, r"engine\.max_num_seqs: expected at least 1, got 0"), ({"block_size": 0}, "block_size"), ({"num_gpu_blocks": 0}, "num_gpu_blocks")],
)
def test_limits_below_one_are_refused(linear_step, setting, message):
    with pytest.raises(SpecError, match=message):
        ReplicaSetup(linear_step(), **setting)


def test_refusals_of_a_run(linear_step):
    with pytest.raises(SpecError, match="at least one replica"):
        simulate_serving(trace([(0.0, 1, 1)]), [])
    with pytest.raises(UnknownNameError, match="unknown router 'round_robbin'; did you mean 'round_robin'"):
        simulate_serving(trace([(0.0, 1, 1)]), [ReplicaSetup(linear_step())], ServingOptions(router="round_robbin"))
    with pytest.raises(UnknownNameError, match="unknown scheduler policy 'round_robin'"):
        simulate_serving(trace([(0.0, 1, 1)]), [ReplicaSetup(linear_step(), scheduler="round_robin")])
    with pytest.raises(SpecError, match="pue"):
        ServingOptions(pue=0.9)
    with pytest.raises(SpecError, match="concurrency"):
        ServingOptions(concurrency=0)
    with pytest.raises(SpecError, match="bin_s"):
        ServingOptions(bin_s=0.0)
    with pytest.raises(SpecError, match="psu_efficiency"):
        HostShare(psu_efficiency=0.0)
