"""Every file in the folder of policies keeps the contract; a new file is tested without an edit here."""

import importlib
import pkgutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.sim import policies
from effsim.sim.decode import DecodeCosts
from effsim.sim.recorder import Recorder
from effsim.sim.registry import names, policy
from effsim.sim.replica import Replica
from effsim.sim.request import InFlight
from effsim.sim.setup import ReplicaSetup


def replica_of(step, index):
    return Replica(index, ReplicaSetup(step), policy("pick", "fcfs"), DecodeCosts(step), Recorder(1.0, 8, lambda request: None))


def snapshot(requests):
    return [tuple(getattr(request, field) for field in InFlight.__slots__) for request in requests]


def test_each_file_has_one_role():
    for module in pkgutil.iter_modules(policies.__path__):
        found = importlib.import_module(f"{policies.__name__}.{module.name}")
        assert [hasattr(found, role) for role in ("pick", "route")].count(True) == 1, module.name
        assert found.__doc__


@pytest.mark.parametrize("name", names("pick"))
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=8), now_s=st.floats(0, 1e6))
def test_pick_is_pure_and_within(name, lengths, now_s):
    waiting = [InFlight(number, 0.0, length, 1) for number, length in enumerate(lengths)]
    before = snapshot(waiting)
    place = policy("pick", name)(waiting, now_s)
    assert type(place) is int
    assert 0 <= place < len(waiting)
    assert policy("pick", name)(waiting, now_s) == place
    assert snapshot(waiting) == before


@pytest.mark.parametrize("name", names("route"))
@given(loads=st.lists(st.integers(0, 4), min_size=1, max_size=6), routed=st.integers(0, 1000))
def test_route_is_pure_and_within(linear_step, name, loads, routed):
    replicas = [replica_of(linear_step(), index) for index in range(len(loads))]
    for replica, load in zip(replicas, loads, strict=True):
        for number in range(load):
            replica.receive(InFlight(number, 0.0, 1, 1), 0.0)
    newcomer = InFlight(99, 0.0, 3, 2)
    before = snapshot([newcomer])
    place = policy("route", name)(replicas, newcomer, routed, 7)
    assert type(place) is int
    assert 0 <= place < len(replicas)
    assert policy("route", name)(replicas, newcomer, routed, 7) == place
    assert snapshot([newcomer]) == before
    assert [replica.outstanding for replica in replicas] == loads


def test_shortest_first_and_fcfs_differ_on_a_long_head():
    waiting = [InFlight(0, 0.0, 9, 1), InFlight(1, 0.0, 2, 1), InFlight(2, 0.0, 2, 1)]
    assert policy("pick", "shortest_first")(waiting, 0.0) == 1
    assert policy("pick", "fcfs")(waiting, 0.0) == 0


def test_least_outstanding_prefers_the_idle(linear_step):
    replicas = [replica_of(linear_step(), index) for index in range(3)]
    replicas[0].receive(InFlight(0, 0.0, 1, 1), 0.0)
    assert policy("route", "least_outstanding")(replicas, InFlight(1, 0.0, 1, 1), 0, 0) == 1
    assert [policy("route", "round_robin")(replicas, InFlight(1, 0.0, 1, 1), routed, 0) for routed in range(4)] == [0, 1, 2, 0]


def test_power_of_two_draws_evenly_and_by_the_seed(linear_step):
    replicas = [replica_of(linear_step(), index) for index in range(5)]
    route = policy("route", "power_of_two")
    drawn = [[route(replicas, InFlight(0, 0.0, 1, 1), routed, seed) for routed in range(5000)] for seed in (1, 2)]
    counts = [drawn[0].count(place) for place in range(5)]
    assert sum((count - 1000) ** 2 / 1000 for count in counts) < 18.5  # chi-square, 4 degrees of freedom, 99.9 %
    assert drawn[0] != drawn[1]


def test_power_of_two_never_takes_the_busiest(linear_step):
    replicas = [replica_of(linear_step(), index) for index in range(3)]
    replicas[1].receive(InFlight(0, 0.0, 1, 1), 0.0)
    route = policy("route", "power_of_two")
    assert {route(replicas, InFlight(1, 0.0, 1, 1), routed, 0) for routed in range(200)} == {0, 2}


def test_least_kv_counts_what_waits(linear_step):
    replicas = [replica_of(linear_step(), index) for index in range(2)]
    replicas[0].receive(InFlight(0, 0.0, 400, 1), 0.0)
    replicas[1].receive(InFlight(1, 0.0, 16, 1), 0.0)
    replicas[1].receive(InFlight(2, 0.0, 16, 1), 0.0)
    assert policy("route", "least_kv")(replicas, InFlight(3, 0.0, 1, 1), 0, 0) == 1
    assert policy("route", "least_outstanding")(replicas, InFlight(3, 0.0, 1, 1), 0, 0) == 0


def test_energy_aware_prefers_the_efficient_and_then_the_one_at_work(linear_step):
    wasteful, frugal = linear_step(idle_power_w=10.0), linear_step(fixed_s=0.005, idle_power_w=10.0)
    replicas = [replica_of(wasteful, 0), replica_of(frugal, 1), replica_of(frugal, 2)]
    route = policy("route", "energy_aware")
    assert route(replicas, InFlight(0, 0.0, 8, 4), 0, 0) == 1  # (100 - 10) W for half the fixed time
    replicas[1].receive(InFlight(1, 0.0, 8, 4), 0.0)
    replicas[1].advance(1e-6)  # in its batch, nobody waits
    assert route(replicas, InFlight(2, 0.0, 8, 4), 1, 0) == 1  # a token more costs less than waking another


def test_prefix_aware_goes_where_the_prompt_is(linear_step):
    setup = ReplicaSetup(linear_step(), block_size=4, prefix_caching=True)
    replicas = [Replica(index, setup, policy("pick", "fcfs"), DecodeCosts(setup.step_model), Recorder(1.0, 8, lambda request: None)) for index in range(3)]

    def turn(number, prompt, prefix):
        request = InFlight(number, 0.0, prompt, 2)
        request.session, request.prefix_tokens = 7, prefix
        return request

    replicas[2].receive(turn(0, 16, 0), 0.0)
    replicas[2].advance(1e9)
    route = policy("route", "prefix_aware")
    assert route(replicas, turn(1, 24, 16), 1, 0) == 2
    assert route(replicas, turn(1, 60, 16), 1, 0) == 0  # less than half of it is there
    for number in range(40):
        replicas[2].receive(InFlight(10 + number, 1e9, 4, 4), 1e9)
    assert route(replicas, turn(1, 24, 16), 1, 0) == 0  # balance comes first
