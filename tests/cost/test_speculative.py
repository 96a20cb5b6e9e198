"""Costs of iterations that draft and check."""

import pytest

from effsim.cost.speculative import Draft, drafted
from effsim.cost.step import serving_step_model
from effsim.errors import SpecError
from effsim.specs import loading
from effsim.workload.operations import Parallelism

LARGE, SMALL = "llama-3.1-8b", "llama-3.2-1b"


def step_of(model=LARGE, **settings):
    return serving_step_model(model, "h100_sxm", Parallelism(), max_num_batched_tokens=1024, max_num_seqs=64, calibration="none", **settings)


def drafting(draft):
    return drafted(draft, LARGE, "h100_sxm", Parallelism(), max_num_batched_tokens=1024, max_num_seqs=64, calibration="none")


@pytest.mark.parametrize("model", [LARGE, "gemma-3-4b"])  # attention written out, and summed kernel by kernel
@pytest.mark.parametrize("decoding", [1, 16, 60])
def test_a_check_of_four_tokens_costs_more_than_one_and_less_than_four(model, decoding):
    one, four = (step_of(model, queries=queries).step([3000.0] * decoding, []) for queries in (1, 4))
    assert one[0] < four[0] < 4.0 * one[0]
    assert one[2] < four[2]
    assert four[2] == pytest.approx(4.0 * one[2], rel=0.05)  # arithmetic, but for what kernels draw while they run
    assert one[3] < four[3] < 1.5 * one[3]  # weights and keys are read once


def test_drafts_add_up():
    target, small = step_of(queries=4), step_of(SMALL).without_host()
    found = drafting(Draft(3, SMALL)).step_at(8, 8 * 1000.0, [(100, 0)])
    parts = [target.step_at(8, 8 * 1000.0, [(100, 0)]), small.step_at(0, 0.0, [(100, 0)]), *[small.step_at(8, 8 * 1000.0, ())] * 3]
    assert found == pytest.approx([sum(part) for part in zip(*parts, strict=True)], rel=1e-12)
    shared = drafting(Draft(3, share=0.25))
    assert shared.step_at(8, 8000.0, ()) == pytest.approx([1.25 * part for part in target.step_at(8, 8000.0, ())], rel=1e-12)
    assert shared.step([], [(100, 0)]) == target.step([], [(100, 0)])
    assert small.step_at(1, 1000.0, ())[0] < step_of(SMALL).step_at(1, 1000.0, ())[0]


def test_both_models_share_the_memory():
    """Keys and values of a token take 131,072 bytes in the 8B and 32,768 in the 1B model, whose weights of 2.3 GiB go first."""
    alone, both = step_of(), drafting(Draft(3, SMALL))
    assert both.kv_capacity_tokens == int((alone.cache_bytes - step_of(SMALL).weights_bytes) // (131_072 + 32_768))


def test_a_draft_has_one_cost():
    for given in ({}, {"model": SMALL, "share": 0.1}):
        with pytest.raises(SpecError, match="either a model or a share"):
            Draft(3, **given)


def test_a_host_that_works_ahead_is_hidden_behind_the_device():
    """Time is the longer of device and host, not their sum: 1.5 ms and 4 µs a sequence, both times their factors of 1."""
    engine = loading.engine("vllm")
    ahead = engine.model_copy(update={"async_scheduling": True})
    for contexts in ([100], [2000] * 32):
        plain, hidden = (step_of(engine=one).step(contexts, [])[0] for one in (engine, ahead))
        host_s = plain - step_of(engine=engine).without_host().step(contexts, [])[0]
        assert host_s > 1e-3
        assert hidden == pytest.approx(max(plain - host_s, host_s), rel=1e-12)
