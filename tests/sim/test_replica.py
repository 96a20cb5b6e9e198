"""A replica against the oracle under every way to form a batch, prefix caches, drafts and priorities; and by hand."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from effsim.errors import SpecError
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
@settings(max_examples=300)
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


def request(number, prompt, output, arrival_s=0.0, **said):
    made = InFlight(number, arrival_s, prompt, output)
    for name, value in said.items():
        setattr(made, name, value)
    return made


def served(linear_step, requests, **engine):
    replica, _ = serve(requests, ReplicaSetup(linear_step(), **engine))
    return replica


def names_of(text):
    return [(letter, place) for place, letter in enumerate(text)]


def test_a_prefix_is_read_once_and_its_last_token_always(linear_step):
    """Blocks of 4 tokens: 8 of the second's 10 are found; of the third's 8, all of which are known, 4 are read again."""
    mine = [
        request(0, 10, 1, 0.0, prefix=names_of("ab")), request(1, 10, 1, 1.0, prefix=names_of("ab")), request(2, 8, 1, 2.0, prefix=names_of("ab"))
    ]  # fmt: skip
    replica = served(linear_step, mine, block_size=4, prefix_caching=True)
    assert [one.cached_tokens for one in mine] == [0, 8, 4]
    assert (replica.asked_tokens, replica.found_tokens) == (28, 12)


@pytest.mark.parametrize("found", [True, False])
def test_blocks_that_running_requests_share_count_once(linear_step, found):
    """6 blocks hold two prompts of 4 blocks where 3 are the same, which they do not where nothing is found."""
    mine = [request(0, 16, 3, 0.0, prefix=names_of("abcd")), request(1, 16, 3, 0.011, prefix=names_of("abce"))]
    replica = served(linear_step, mine, block_size=4, num_gpu_blocks=7, prefix_caching=found)
    assert (mine[1].first_scheduled_s < mine[0].last_token_s) == found
    assert replica.free_blocks == 7


def test_free_blocks_are_forgotten_oldest_first_and_from_the_end_of_a_sequence(linear_step):
    """Of 4 blocks, the request in between takes 3: one blank, then the last two of the first prompt; its first block is still there."""
    mine = [
        request(0, 6, 1, 0.0, prefix=names_of("abc")), request(1, 6, 1, 1.0, prefix=names_of("xyz")), request(2, 7, 1, 2.0, prefix=names_of("abc"))
    ]  # fmt: skip
    replica = served(linear_step, mine, block_size=2, num_gpu_blocks=4, prefix_caching=True)
    assert mine[2].cached_tokens == 2
    assert replica.cache.keyed == 3


def test_a_session_finds_what_it_had_read_and_written(linear_step):
    """After 10 + 6 tokens, the last of which was not read, 3 whole blocks of 4 are there for the next turn."""
    mine = [request(0, 10, 6, 0.0, session=3), request(1, 24, 2, 9.0, session=3, prefix_tokens=16)]
    replica = served(linear_step, mine, block_size=4, prefix_caching=True)
    assert mine[1].cached_tokens == 12
    assert replica.found_tokens == 12


def test_the_urgent_go_first_and_the_others_lose_their_blocks_first(linear_step):
    mine = [request(0, 4, 12, priority=5), request(1, 4, 12, priority=1), request(2, 4, 1, priority=0)]
    serve(mine, ReplicaSetup(linear_step(), block_size=1, num_gpu_blocks=15, max_num_seqs=2, scheduler="priority"))
    assert mine[2].first_scheduled_s == mine[1].first_scheduled_s == 0.0 < mine[0].first_scheduled_s
    assert (mine[0].preemptions > 0, mine[1].preemptions) == (True, 0)


def test_prompts_first_and_static_batches_by_hand(linear_step):
    def rows():
        return [request(0, 4, 3, 0.0), request(1, 5, 2, 0.001)]

    mine = rows()
    serve(mine, ReplicaSetup(linear_step(), batching="static"))
    assert mine[1].first_scheduled_s == mine[0].last_token_s
    mine = rows()
    replica, _ = serve(mine, ReplicaSetup(linear_step(), batching="prefill_first"))
    assert mine[1].first_token_s == pytest.approx(0.0104 + 0.0105)  # one after the other, 4 and 5 tokens
    assert replica.iterations == 2 + 2


@pytest.mark.parametrize("acceptance", [0.0, 0.4, 0.8, 1.0])
def test_drafts_shorten_by_the_geometric_sum(acceptance):
    """A thousand sequences of 400 tokens take 400 / mean iterations each, and a part of one for the last that is cut short."""
    drafts = Speculation(3, acceptance)
    expected = sum(acceptance**kept for kept in range(4))
    taken = np.mean([drafts.iterations(400, str(number)) for number in range(1000)])
    assert drafts.tokens_per_iteration == pytest.approx(expected)
    assert 400 / expected - 1e-9 <= taken <= 400 / expected + 1.0


def test_a_request_that_brings_its_cache_decodes_at_once(linear_step):
    mine = [request(0, 4, 5), request(1, 10, 3, 0.015, computed=10, remaining=1, generated=1, first_token_s=0.0, last_token_s=0.0)]
    replica = served(linear_step, mine, block_size=4)
    assert mine[1].generated == 3
    assert replica.iterations == 5
    assert replica.free_blocks == replica.kv_blocks


def test_a_request_that_brings_its_cache_asks_for_no_prefix(linear_step):
    mine = [request(0, 4, 5), request(1, 10, 3, 0.015, computed=10, remaining=1, generated=1, first_token_s=0.0, last_token_s=0.0)]
    replica = served(linear_step, mine, block_size=4, prefix_caching=True)
    assert replica.asked_tokens == 4


def half_way(linear_step):
    done = []
    setup = ReplicaSetup(linear_step(), block_size=4)
    replica = Replica(0, setup, policy("pick", "fcfs"), DecodeCosts(setup.step_model), Recorder(0.5, 80, done.append))
    mine = [request(0, 8, 200), request(1, 6, 200)]
    for one in mine:
        replica.receive(one, 0.0)
    return replica, mine, done


def test_a_replica_that_stops_loses_its_cache_and_no_energy(linear_step):
    replica, mine, done = half_way(linear_step)
    replica.advance(0.7)
    assert replica.evict_all(0.7) == mine
    assert not done
    assert (replica.outstanding, replica.free_blocks, replica.end_s) == (0, replica.kv_blocks, math.inf)
    drawn_j = replica.static_j + replica.core_j + replica.memory_j + replica.link_j
    assert sum(one.energy_j for one in mine) == pytest.approx(drawn_j, rel=1e-9)
    assert replica.busy_s == pytest.approx(0.7, rel=1e-12)
    assert replica.static_j == pytest.approx(100.0 * 0.7, rel=1e-9)  # 100 W whatever it does
    assert [one.remaining for one in mine] == [8 + mine[0].generated, 6 + mine[1].generated]
    assert mine[0].generated == replica.iterations > 10
    replica.rest("off", 0.7, 0.0)
    replica.rest("idle", 1.7)
    replica.account_idle(2.7)
    assert replica.rest_j == pytest.approx({"off": 0.0, "idle": 50.0})
    assert replica.rest_s == pytest.approx({"off": 1.0, "idle": 1.0})
    assert sum(replica._record.bins.sums[0]) == pytest.approx(drawn_j + 50.0, rel=1e-9)


def test_other_costs_count_from_the_next_iteration_on(linear_step):
    replica, mine, _ = half_way(linear_step)
    replica.advance(0.5)
    done = mine[0].generated
    replica.retune(DecodeCosts(linear_step(fixed_s=0.1)), 0.5)
    boundary_s = replica.end_s
    assert 0.5 <= boundary_s < 0.5 + 0.02
    replica.advance(boundary_s + 1e-9)
    after = 200 - replica.iterations
    replica.advance(math.inf)
    assert replica.iterations == 200 > done
    assert mine[0].last_token_s - boundary_s == pytest.approx(after * (0.1 + 2e-4) + 1e-6 * sum(2 * n + 8 + 6 for n in range(200 - after, 200)), rel=1e-6)


def test_a_request_may_leave_the_queue(linear_step):
    setup = ReplicaSetup(linear_step(), max_num_seqs=1)
    replica = Replica(0, setup, policy("pick", "fcfs"), DecodeCosts(setup.step_model), Recorder(0.5, 80, lambda request: None))
    mine = [request(0, 8, 20), request(1, 6, 20)]
    for one in mine:
        replica.receive(one, 0.0)
    replica.advance(0.1)
    replica.withdraw(mine[1], 0.1)
    replica.advance(math.inf)
    assert mine[1].first_scheduled_s == -1.0
    assert sum(replica._record.bins.sums[3]) == pytest.approx(0.1, rel=1e-9)  # seconds in the queue


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batching": "best"}, "batching"),
        ({"long_prefill_tokens": 4, "chunked_prefill": False}, "long_prefill_tokens"),
        ({"prefix_hit_ratio": 1.5}, "hit_ratio"),
    ],
)
def test_settings_that_make_no_sense_are_refused(linear_step, setting, message):
    with pytest.raises(SpecError, match=message):
        ReplicaSetup(linear_step(), **setting)


@pytest.mark.parametrize(("draft_tokens", "acceptance"), [(0, 0.5), (3, 1.5)])
def test_drafts_that_make_no_sense_are_refused(draft_tokens, acceptance):
    with pytest.raises(SpecError, match="speculation"):
        Speculation(draft_tokens, acceptance)


def test_an_assumed_share_is_found_in_whole_blocks(linear_step):
    mine = [request(0, 100, 2), request(1, 33, 2, 1.0)]
    served(linear_step, mine, prefix_hit_ratio=0.5)
    assert [one.cached_tokens for one in mine] == [48, 16]
