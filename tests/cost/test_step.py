"""The step model of the event loop against the array evaluation of the very same iteration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.cost.deployment import Settings, deploy
from effsim.cost.evaluate import evaluate, powered
from effsim.cost.kernels import launched
from effsim.cost.step import serving_step_model
from effsim.errors import InfeasibleError, SpecError
from effsim.workload.features import Iteration, feature_matrix
from effsim.workload.operations import Parallelism

CASES = {
    "qwen3-8b": Parallelism(),  # dense
    "gemma-3-27b": Parallelism(tensor=2),  # windows
    "llama-4-scout": Parallelism(tensor=8),  # chunks and experts
    "mixtral-8x7b": Parallelism(tensor=4),  # experts
    "deepseek-v3": Parallelism(tensor=16),  # latent attention
    "deepseek-v3.2": Parallelism(tensor=16),  # and an indexer
    "nemotron-nano-9b-v2": Parallelism(),  # state space
    "qwen3.5-27b": Parallelism(tensor=2),  # delta net
}
LIMITS = (None, 350.0)
_built = {}


def built(name, limit_w):
    if (name, limit_w) not in _built:
        settings = {"calibration": "none", "power_limit_w": limit_w, "engine": "vllm"}
        step = serving_step_model(name, "h100_sxm", CASES[name], max_num_batched_tokens=512, max_num_seqs=128, **settings)
        _built[name, limit_w] = step, deploy(name, "h100_sxm", CASES[name], Settings(**settings))
    return _built[name, limit_w]


def summed(deployment, contexts, chunks):
    """Time and energies of the iteration by arrays: each sequence is an iteration of its own feature sums, added before the cost."""
    table = deployment.table
    parts = [Iteration(decode_seqs=1, decode_from=context, decode_to=context) for context in contexts]
    parts += [Iteration(prefill_seqs=1, prefill_tokens=new, prefill_before=before, completed_prefills=1) for new, before in chunks]
    features = sum(feature_matrix(table.features, part) for part in parts)
    tokens = len(contexts) + sum(new for new, _ in chunks)
    for row, feature in enumerate(table.features):
        if feature.kind in {"one", "distinct_experts"}:  # those that are not sums over sequences
            features[row] = feature_matrix((feature,), Iteration(decode_seqs=tokens))[0]
    costs = deployment.costs(deployment.prior.median)
    engine, c = deployment.engine, deployment.prior.median
    host_s = c.host_overhead_factor * engine.iteration_overhead.value + costs.chunked_s
    host_s += c.sequence_overhead_factor * engine.sequence_overhead.value * (len(contexts) + len(chunks))
    plain = evaluate(costs, features)
    if chunks or tokens > engine.max_captured_tokens:
        host_s += launched(plain.time_s, costs.eager_s) - plain.time_s
    run = powered(plain, costs.device, host_s)
    ranks = deployment.parallelism.accelerators
    return [run.time_s[0], *(ranks * part[0] for part in (run.static_j, run.core_j, run.memory_j, run.link_j))]


batches = st.tuples(
    st.lists(st.integers(1, 20_000), max_size=60),
    st.lists(st.tuples(st.integers(1, 100), st.integers(0, 10_000)), max_size=4),
).filter(lambda batch: batch[0] or batch[1])


@pytest.mark.parametrize("limit_w", LIMITS)
@pytest.mark.parametrize("name", CASES)
@given(batches)
def test_a_step_is_the_array_evaluation_of_its_iteration(name, limit_w, batch):
    step, deployment = built(name, limit_w)
    assert step.step(*batch) == pytest.approx(summed(deployment, *batch), rel=1e-12)


def test_stages_share_what_fewer_micro_batches_than_stages_leave_idle():
    """One sequence on 2 stages keeps each device busy half of the time: half the dynamic energy per device, all the time."""
    deployment = deploy("qwen3-8b", "h100_sxm", Parallelism(pipeline=2), Settings(calibration="none"))
    step = serving_step_model("qwen3-8b", "h100_sxm", Parallelism(pipeline=2), calibration="none")
    features = feature_matrix(deployment.table.features, Iteration(decode_seqs=1, decode_from=100, decode_to=100))
    plain = evaluate(deployment.costs(deployment.prior.median), features)
    assert step.step([100], [])[2:] == pytest.approx([float(part[0]) for part in (plain.core_j, plain.memory_j, plain.link_j)])


def test_factors_scale_time_and_power():
    plain, slow = (
        serving_step_model("qwen3-0.6b", "h100_sxm", Parallelism(), calibration="none", **f) for f in ({}, {"time_factor": 2.0, "power_factor": 1.5})
    )
    one, other = plain.step([100, 200], [(50, 0)]), slow.step([100, 200], [(50, 0)])
    assert other[0] == pytest.approx(2.0 * one[0])
    assert other[1:] == pytest.approx([3.0 * part for part in one[1:]])
    assert slow.idle_power_w == pytest.approx(1.5 * plain.idle_power_w) == pytest.approx(1.5 * 71.0)


def test_capacity_is_what_the_cache_holds():
    """Llama-3.1-8B on 80 GiB: 0.9 · 80 GiB - 3.5 GiB - 16,060,522,496 bytes of weights, at 131,072 bytes a token."""
    step = serving_step_model("llama-3.1-8b", "h100_sxm", Parallelism(), calibration="none")
    assert step.kv_capacity_tokens == int((0.9 * 80 - 3.5) * 2**30 - 2 * 8_030_261_248) // 131_072
    assert (step.num_accelerators, step.provenance) == (1, "datasheet")
    assert step.time_log_sd > 0.0 < step.power_log_sd


def test_windowed_layers_hold_no_more_than_their_window():
    """Gemma 3 27B: 10 of 62 layers keep 10,000 tokens, 52 keep 1,024: as much as (100,000 + 53,248) / 62 = 2,471.7 tokens in all layers."""
    step, _ = built("gemma-3-27b", None)
    assert step.cached_tokens(10_000) == 2_472
    assert step.cached_tokens(1_000) == 1_000
    assert built("qwen3-8b", None)[0].cached_tokens(10_000) == 10_000


def test_what_does_not_fit_or_is_unknown_is_refused():
    with pytest.raises(InfeasibleError, match="does not fit on h100_sxm"):
        serving_step_model("llama-3.1-70b", "h100_sxm", Parallelism())
    with pytest.raises(SpecError, match="precision"):
        serving_step_model("qwen3-8b", "h100_sxm", Parallelism(), precision="bf61")


def test_an_iteration_of_nothing_but_growing_contexts_gets_slower():
    step, _ = built("qwen3-8b", None)
    times = [step.step([context] * 32, [])[0] for context in np.arange(100, 5_000, 700)]
    assert times == sorted(times)
