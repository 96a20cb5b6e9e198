"""A replica against the oracle under every way to form a batch, prefix caches, drafts and priorities; and by hand."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from effsim.sim.decode import DecodeCosts
from effsim.sim.recorder import Recorder
from effsim.sim.registry import names, policy
from effsim.sim.replica import Replica
from effsim.sim.request import InFlight
from effsim.sim.setup import ReplicaSetup
from effsim.sim.speculation import Speculation
from effsim.workload.traces import Trace
from tests.sim import oracle


def serve(requests, setup):
    """Return the replica when it has served all of them, and what finished in order."""
    done = []
    replica = Replica(0, setup, policy("pick", setup.scheduler), DecodeCosts(setup.step_model), Recorder(0.5, 8, done.append))
    for request in requests:
        replica.advance(request.arrival_s)
        replica.receive(request, request.arrival_s)
    replica.advance(math.inf)
    return replica, done


def request_of(number, row):
    arrival_s, prompt, output, priority, told, length = row
    request = InFlight(number, arrival_s, prompt, output)
    request.priority = priority
    return request, told, length


def tell(request, told, length, block_size):
    """Let a request share a prefix with those of the same group, or be unknown."""
    if told:
        full = request.prompt_tokens // block_size
        request.prefix = [("shared", told, place) if place < length else ("only", request.id, place) for place in range(full)]


rows = st.lists(
    st.tuples(
        st.integers(0, 24).map(lambda tick: tick * 0.125), st.integers(1, 60), st.integers(1, 40), st.integers(0, 2), st.integers(0, 2), st.integers(0, 12)
    ),
    min_size=1,
    max_size=20,
)
engines = st.fixed_dictionaries(
    {
        "max_num_seqs": st.integers(1, 8),
        "max_num_batched_tokens": st.integers(1, 60),
        "block_size": st.integers(1, 5),
        "num_gpu_blocks": st.integers(1, 80),
        "chunked_prefill": st.booleans(),
        "scheduler": st.sampled_from(names("pick")),
        "batching": st.sampled_from(["continuous", "prefill_first", "static"]),
        "long_prefill_tokens": st.sampled_from([0, 0, 7]),
        "prefix_caching": st.booleans(),
        "prefix_hit_ratio": st.sampled_from([0.0, 0.0, 0.4, 1.0]),
        "speculation": st.none() | st.builds(Speculation, st.integers(1, 3), st.sampled_from([0.0, 0.3, 0.8, 1.0]), st.integers(0, 3)),
    }
)
PLAIN = {"batching": "continuous", "prefix_caching": True}


@given(rows=rows, engine=engines, step=st.tuples(st.sampled_from([0, 0, 0, 7, 30]), st.booleans(), st.sampled_from([0.0, 1.7e-3])))
@example([(0.0, 4, 12, 0, 0, 0)] * 6, {"block_size": 1, "num_gpu_blocks": 15, **PLAIN}, (0, False, 0.0))  # preempted requests find their own blocks
@example([(0.0, 20, 3, 0, 1, 5), (9.0, 24, 3, 0, 1, 5), (99.0, 20, 3, 0, 1, 5)], {"block_size": 4, "num_gpu_blocks": 9, **PLAIN}, (0, False, 0.0))
@settings(max_examples=1500)
def test_same_as_one_iteration_at_a_time(windowed_step, rows, engine, step):
    window, windowed_cache, context_s = step
    if engine.get("long_prefill_tokens") and not engine["chunked_prefill"]:
        engine = {**engine, "long_prefill_tokens": 0}
    setup = ReplicaSetup(windowed_step(window, windowed_cache and window > 0, context_s), **engine)
    told = [request_of(number, row) for number, row in enumerate(sorted(rows))]
    for case in told:
        tell(*case, setup.block_size)
    mine = [request for request, _, _ in told if setup.refusal(request) is None]
    if not mine:
        return
    requests = Trace("rows", "test", *(np.array([getattr(r, name) for r in mine]) for name in ("arrival_s", "prompt_tokens", "output_tokens")))
    said = {number: (request.prefix, request.priority) for number, request in enumerate(mine)}

    def change(request):
        request.prefix, request.priority = said[request.id]

    for number, request in enumerate(mine):
        request.id = number
    expected, (other,), _ = oracle.simulate(requests, [setup], pieces=True, change=change)
    replica, done = serve(mine, setup)

    assert len(done) == len(mine)
    for one, request in zip(mine, expected, strict=True):
        assert (one.preemptions, one.generated, one.computed) == (request.preemptions, request.generated, request.computed)
        assert one.first_scheduled_s == pytest.approx(request.first_scheduled_s, rel=1e-9, abs=1e-9)
        assert one.first_token_s == pytest.approx(request.first_token_s, rel=1e-9)
        assert one.last_token_s == pytest.approx(request.last_token_s, rel=1e-9)
        assert one.energy_j == pytest.approx(request.energy_j, rel=1e-9)
    assert (replica.iterations, replica.preemptions, replica.recomputed_tokens) == (other.iterations, other.preemptions, other.recomputed_tokens)
    assert replica.free_blocks == replica.kv_blocks == other.free_blocks
    assert replica.busy_s == pytest.approx(other.busy_s, rel=1e-9)
    if replica.cache is not None:
        assert replica.found_tokens == other.found_tokens
    if setup.speculation is None:
        assert other.computed_tokens == sum(r.kv_tokens for r in mine) + other.recomputed_tokens - other.found_tokens
    assert sum(replica._record.inter_token.counts) == len(other.gaps_s)
    assert other.energy_j == pytest.approx(sum(one.energy_j for one in mine), rel=1e-9)
