"""The oracle against schedules worked out by hand, and laws that hold in every iteration."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from effsim.sim.registry import names
from effsim.sim.setup import ReplicaSetup
from effsim.workload.traces import Trace
from tests.sim import oracle


def trace(rows):
    return Trace("rows", "test", *(np.array(column) for column in zip(*rows, strict=True)))


rows_of_ties = st.lists(st.tuples(st.integers(0, 12).map(lambda tick: tick * 0.02), st.integers(1, 40), st.integers(1, 12)), min_size=1, max_size=25)
engines = st.fixed_dictionaries(
    {
        "max_num_seqs": st.integers(1, 5),
        "max_num_batched_tokens": st.integers(1, 24),
        "block_size": st.integers(1, 4),
        "num_gpu_blocks": st.integers(1, 24),
        "chunked_prefill": st.booleans(),
        "scheduler": st.sampled_from(names("pick")),
    }
)


@given(
    rows=rows_of_ties,
    engine=engines,
    replicas=st.integers(1, 3),
    router=st.sampled_from(["round_robin", "least_outstanding", "power_of_two"]),
    concurrency=st.none() | st.integers(1, 4),
)
@example(rows=[(0.0, 4, 12)] * 6, engine={"block_size": 1, "num_gpu_blocks": 15}, replicas=1, router="round_robin", concurrency=None)  # preemption storm
def test_every_iteration_keeps_the_limits(linear_step, rows, engine, replicas, router, concurrency):
    steps = [linear_step() for _ in range(replicas)]
    setups = [ReplicaSetup(step, **engine) for step in steps]
    requests, served, dropped = oracle.simulate(trace(sorted(rows, key=lambda row: row[0])), setups, router, concurrency)
    kv_tokens = [request.kv_tokens for request in requests if request.id not in dropped]
    assert sum(step.computed_tokens for step in steps) == sum(kv_tokens) + sum(one.recomputed_tokens for one in served)
    assert sum(len(one.finished) for one in served) == len(kv_tokens)
    for step, setup, one in zip(steps, setups, served, strict=True):
        assert one.free_blocks == setup.kv_blocks
        assert one.iterations == len(step.calls)
        for contexts, chunks in step.calls:
            assert 1 <= len(contexts) + len(chunks) <= setup.max_num_seqs
            assert len(contexts) + sum(new for new, _ in chunks) <= setup.max_num_batched_tokens
            blocks = [-(-tokens // setup.block_size) for tokens in (*contexts, *(new + before for new, before in chunks))]
            assert sum(blocks) <= setup.kv_blocks


def test_chunks_fill_the_budget_after_running_sequences(linear_step):
    step = linear_step()
    oracle.simulate(trace([(0.0, 6, 2), (0.0, 3, 1)]), [ReplicaSetup(step, max_num_batched_tokens=4)])
    assert step.calls == [((), ((4, 0),)), ((), ((2, 4), (2, 0))), ((7,), ((1, 2),))]


def test_without_chunked_prefill_a_prompt_waits_for_the_whole_budget(linear_step):
    step = linear_step()
    setup = ReplicaSetup(step, max_num_batched_tokens=8, chunked_prefill=False)
    _, _, dropped = oracle.simulate(trace([(0.0, 5, 2), (0.0, 5, 1), (0.0, 9, 1)]), [setup])
    assert step.calls == [((), ((5, 0),)), ((6,), ((5, 0),))]
    assert dropped == [2]


def test_preemption_recomputes_the_last_admitted(linear_step):
    step = linear_step()
    requests, (replica,), _ = oracle.simulate(trace([(0.0, 2, 4), (0.0, 2, 4)]), [ReplicaSetup(step, block_size=1, num_gpu_blocks=6)])
    assert step.calls == [
        ((), ((2, 0), (2, 0))),  # 4 of 6 blocks
        ((3, 3), ()),  # 6 of 6
        ((4,), ()),  # the second goes: 2 prompt and 2 generated tokens are to be computed again
        ((5,), ()),  # its 4 blocks are not free yet
        ((), ((4, 0),)),
        ((5,), ()),
    ]
    assert [request.preemptions for request in requests] == [0, 1]
    assert replica.recomputed_tokens == 3


def test_a_preempted_request_comes_before_those_that_wait(linear_step):
    step = linear_step()
    oracle.simulate(trace([(0.0, 2, 4), (0.0, 2, 4), (0.0, 1, 1)]), [ReplicaSetup(step, block_size=1, num_gpu_blocks=6, max_num_seqs=2)])
    assert step.calls[3:] == [((5,), ()), ((), ((4, 0), (1, 0))), ((5,), ())]  # one block is free in the fourth, yet the third request waits


def test_nothing_is_admitted_in_an_iteration_that_preempts(linear_step):
    step = linear_step()
    _, (replica,), _ = oracle.simulate(trace([(0.0, 2, 4), (0.0, 2, 4)]), [ReplicaSetup(step, block_size=1, num_gpu_blocks=6, max_num_batched_tokens=3)])
    assert step.calls == [
        ((), ((2, 0), (1, 0))),
        ((3,), ((1, 1),)),
        ((4,), ()),  # no block for the second, which goes itself; 2 blocks and 2 tokens of budget stay unused
        ((5,), ()),
        ((), ((3, 0),)),
        ((4,), ()),
        ((5,), ()),
    ]
    assert replica.recomputed_tokens == 2
