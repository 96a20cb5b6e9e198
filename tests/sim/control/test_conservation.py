"""Whatever happens to a cluster, requests, tokens, blocks and joules add up."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effsim.sim.control.unit import Link, Rung, Unit
from effsim.sim.registry import names
from effsim.sim.serving import ServingOptions, simulate_serving
from effsim.sim.setup import HostShare, ReplicaSetup
from effsim.specs.operation import Operation
from effsim.workload.traces import Trace

HOST = HostShare(idle_w=30.0, busy_w=80.0, fan_w=10.0, psu_efficiency=0.9)

ticks = st.integers(0, 40).map(lambda tick: tick * 0.25)
rows = st.lists(st.tuples(ticks, st.integers(1, 60), st.integers(1, 40)), min_size=1, max_size=25)
engines = st.fixed_dictionaries(
    {
        "max_num_seqs": st.integers(1, 8),
        "max_num_batched_tokens": st.integers(8, 60),
        "block_size": st.integers(1, 5),
        "num_gpu_blocks": st.integers(20, 60),
        "chunked_prefill": st.sampled_from([True, True, False]),
    }
)


def some(**parts):
    """Each part, or not."""
    return st.fixed_dictionaries({name: part | st.none() for name, part in parts.items()}).map(lambda given: {k: v for k, v in given.items() if v is not None})


operations = some(
    admission=some(max_waiting_per_replica=st.integers(1, 4), max_waiting=st.integers(1, 8), max_wait=st.sampled_from([0.5, 3.0, 20.0])),
    autoscaling=st.fixed_dictionaries(
        {
            "metric": st.sampled_from(["outstanding", "kv_usage", "utilization"]),
            "target": st.sampled_from([0.1, 0.5, 1.0]),
            "minimum": st.integers(0, 2),
            "initial": st.integers(0, 3),
            "interval": st.sampled_from([0.5, 2.0]),
            "down_cooldown": st.sampled_from([0.0, 5.0]),
            "up_cooldown": st.sampled_from([0.0, 1.0]),
        }
    ),
    failures=st.fixed_dictionaries(
        {
            "mtbf": st.sampled_from([None, 5.0, 50.0]),
            "at": st.lists(st.fixed_dictionaries({"time": ticks, "replica": st.just(0)}), max_size=3),
            "repair": st.sampled_from([None, 0.5, 7.0]),
            "requests": st.sampled_from(["retried", "lost"]),
            "max_retries": st.integers(0, 3),
        }
    ),
    maintenance=st.fixed_dictionaries({"start": ticks, "duration": st.sampled_from([0.5, 4.0]), "gap": st.sampled_from([0.0, 1.0])}),
    power=st.fixed_dictionaries({"budget": st.sampled_from([100.5, 102.0, 500.0]), "interval": st.sampled_from([0.25, 1.0]), "rungs": st.just(3)}),
)
pools = st.sampled_from(
    [
        ("both",),
        ("both", "both"),
        ("both",) * 3,
        ("prefill", "decode"),
        ("prefill", "decode", "decode"),
        ("prefill", "both"),
        ("prefill",) * 2 + ("decode", "both"),
    ]
)


def units(roles, step, starts):
    rungs = tuple(Rung(level, step(scale=1.0 / level)) for level in (0.25, 0.5, 1.0))
    link = Link(1e6, 0.01, 1e-6)
    return tuple(Unit(role, provisioning_s=starts[0], load_s=starts[1], load_w=90.0, rungs=rungs, kv_bytes_per_token=1e4, link=link) for role in roles)


def sessions_of(requests, count, think_s):
    """Every ``count`` requests in a row are turns of one session."""
    session = np.arange(len(requests)) // count
    later = np.arange(len(requests)) % count > 0
    return Trace("s", "test", requests.arrival_s, requests.prompt_tokens, requests.output_tokens, session=session, think_s=np.where(later, think_s, math.nan))


def trace(rows):
    rows = sorted(rows, key=lambda row: row[0])
    return Trace("rows", "test", *(np.array(column) for column in zip(*rows, strict=True)))


def check(requests, result):
    columns, counts, parts, power = result.requests, result.counts, result.energy, result.power
    kept = np.array([not reason for reason in columns.dropped])
    assert counts.arrived == len(requests) == counts.completed + sum(counts.dropped.values())
    assert counts.completed == kept.sum()
    assert columns.prompt_tokens.tolist() == requests.prompt_tokens.tolist()
    assert columns.output_tokens.tolist() == requests.output_tokens.tolist()
    assert counts.output_tokens == requests.output_tokens[kept].sum()
    assert (columns.ttft_s[kept] > 0.0).all()
    assert (columns.e2e_latency_s[kept] >= columns.ttft_s[kept]).all()
    assert np.nansum(columns.energy_j) + parts.idle_j + parts.loading_j + parts.off_j == pytest.approx(parts.total_j, rel=1e-9)
    assert np.nansum(columns.energy_j[~kept]) == pytest.approx(result.operation.dropped_j, rel=1e-9)
    assert (power.accelerator_w * power.duration_s).sum() == pytest.approx(parts.total_j, rel=1e-6)
    assert (power.server_w * power.duration_s).sum() == pytest.approx(result.server_j, rel=1e-6)
    assert (power.server_w >= -1e-6).all()
    assert sum(result.energy_by_state.values()) == pytest.approx(parts.total_j, rel=1e-12)
    assert -1e-9 <= result.energy_by_state["prefill_j"] <= parts.busy_j * (1.0 + 1e-12)
    for one in result.replicas:
        assert one.kv_blocks_free == one.kv_blocks
        assert one.busy_s + one.idle_s + one.loading_s + one.off_s == pytest.approx(result.makespan_s, rel=1e-9)


@given(
    load=st.tuples(rows, st.sampled_from([1, 1, 3]), st.none() | st.integers(1, 4)),
    engine=engines,
    operation=operations,
    roles=pools,
    starts=st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 2.5])),
    router=st.sampled_from(names("route")),
    seed=st.integers(0, 9),
)
@settings(max_examples=500)
def test_all_adds_up(windowed_step, load, engine, operation, roles, starts, router, seed):
    rows, turns, concurrency = load
    requests = trace(rows) if turns == 1 else sessions_of(trace(rows), turns, 0.5)
    setups = [ReplicaSetup(windowed_step(), host=HOST, **engine) for _ in roles]
    options = ServingOptions(
        router=router,
        concurrency=concurrency,
        bin_s=0.5,
        max_bins=16,
        operation=Operation.model_validate(operation),
        units=units(roles, windowed_step, starts),
        seed=seed,
    )
    if operation.get("power"):  # stated per replica
        options = replace(
            options, operation=Operation.model_validate({**operation, "power": {**operation["power"], "budget": operation["power"]["budget"] * len(roles)}})
        )
    if not options.is_controlled:
        options = replace(options, operation=Operation.model_validate({"maintenance": {"start": 1e9, "duration": 1.0}}))
    result = simulate_serving(requests, setups, options)
    check(requests, result)
    again = simulate_serving(requests, setups, options)
    assert again.requests.to_frame().to_csv() == result.requests.to_frame().to_csv()
    assert again.power.to_frame().to_csv() == result.power.to_frame().to_csv()
    assert again.operation == result.operation
