"""The serving estimate: identities between its fields, limits in which it is known, what it refuses."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effsim.cost.deployment import Settings, deploy
from effsim.cost.evaluate import evaluate, powered
from effsim.cost.serving import OUTPUTS, estimate_load, estimate_serving
from effsim.errors import InfeasibleError, SpecError, UnknownNameError
from effsim.specs import loading
from effsim.workload.features import Iteration, feature_matrix
from effsim.workload.operations import Parallelism

SETUPS = {
    "qwen3-8b": Parallelism(),
    "gemma-3-27b": Parallelism(tensor=2),
    "mixtral-8x7b": Parallelism(tensor=4, data=2, expert=8),
    "llama-3.1-70b": Parallelism(tensor=4, pipeline=2),
    "nemotron-nano-9b-v2": Parallelism(),
}
DEPLOYED = {name: deploy(name, "h100_sxm", split, Settings(calibration="none")) for name, split in SETUPS.items()}
loads = st.tuples(st.integers(1, 60), st.integers(1, 3_000), st.integers(1, 2_000))


def estimate(**changes):
    given = {"model": "qwen3-8b", "accelerator": "h100_sxm", "batch": 16, "prompt_tokens": 512, "output_tokens": 256, "calibration": "none"}
    return estimate_serving(**{**given, **changes})


@pytest.mark.parametrize("name", SETUPS)
@given(loads)
def test_fields_agree_with_each_other(name, load):
    """Throughput is batch over TPOT, energy is power over throughput, a request is its output tokens."""
    split, found = SETUPS[name], estimate_load(DEPLOYED[name], *load, 8_192)
    batch, prompt, output = load
    assert found.tpot_s == pytest.approx(split.data * batch / found.output_tokens_per_s)
    assert found.total_tokens_per_s == pytest.approx(found.output_tokens_per_s * (prompt + output) / output)
    assert found.energy_per_output_token_j == pytest.approx(found.power_w / found.output_tokens_per_s)
    assert found.server_energy_per_output_token_j == pytest.approx(found.server_power_w / found.output_tokens_per_s)
    assert found.energy_per_request_j == pytest.approx(found.energy_per_output_token_j * output)
    assert found.num_accelerators == split.accelerators


@pytest.mark.parametrize("name", SETUPS)
@given(loads)
def test_power_lies_between_idle_and_the_limits_and_below_the_server_s(name, load):
    found = estimate_load(DEPLOYED[name], *load, 8_192)
    assert 71.0 * found.num_accelerators <= found.power_w <= 700.0 * found.num_accelerators * (1 + 1e-6)
    assert found.server_power_w > found.power_w


@pytest.mark.parametrize("name", SETUPS)
@given(loads)
def test_larger_batches_take_longer_per_token_and_yield_more(name, load):
    """Where prompts fill the token budget, decoding sequences take a little of it away: 5 % are allowed."""
    one, two = (estimate_load(DEPLOYED[name], batch, *load[1:], 8_192) for batch in (load[0], 2 * load[0]))
    assert two.tpot_s >= one.tpot_s * (1 - 1e-9)
    assert two.output_tokens_per_s >= one.output_tokens_per_s * 0.95


@pytest.mark.parametrize("name", SETUPS)
@given(loads)
def test_longer_prompts_never_help(name, load):
    batch, prompt, output = load
    short, long = (estimate_load(DEPLOYED[name], batch, length, output, 8_192) for length in (prompt, 2 * prompt))
    assert long.tpot_s >= short.tpot_s * (1 - 1e-9)
    assert long.ttft_s >= short.ttft_s * (1 - 1e-9)


@pytest.mark.parametrize("name", SETUPS)
def test_long_outputs_leave_decoding_alone(name):
    """A newcomer every million tokens: the mean time per token is that of decode-only iterations, hence the median."""
    found = estimate_load(DEPLOYED[name], 1, 100, 20_000, 8_192)
    assert found.tpot_s == pytest.approx(found.itl_s, rel=0.02)


def test_decode_only_is_one_powered_iteration_with_its_host_time():
    """Batch 1 and a long output: kernels at the mean context, and 1.5 ms + 4 us of vLLM's host."""
    deployment = DEPLOYED["qwen3-8b"]
    costs = deployment.costs(deployment.prior.median)
    step = Iteration(decode_seqs=1, decode_from=101, decode_to=100 + 30_000)
    alone = powered(evaluate(costs, feature_matrix(costs.table.features, step)), costs.device, 1.504e-3)
    found = estimate_load(deployment, 1, 100, 30_000, 8_192)
    assert found.itl_s == pytest.approx(alone.time_s[0], rel=1e-12)
    assert found.power_w == pytest.approx(alone.energy_j[0] / alone.time_s[0], rel=1e-3)


def test_prefill_of_newcomers_is_in_tpot_not_in_itl():
    """16 of 256: 0.06 newcomers an iteration, the median iteration has none."""
    few, many = estimate(prompt_tokens=10), estimate(prompt_tokens=6_000)
    decode = estimate(prompt_tokens=6_000, output_tokens=256)
    assert decode.tpot_s > 1.2 * decode.itl_s
    assert few.tpot_s < 1.2 * few.itl_s
    assert many.ttft_s > 5 * few.ttft_s


def test_where_prompts_outrun_the_token_budget_every_iteration_is_full():
    """Each iteration takes 512 - 80 prompt tokens, so requests finish at 432 / 4,000 an iteration, however many wait."""
    found = estimate(batch=80, prompt_tokens=4_000, output_tokens=1, max_num_batched_tokens=512)
    assert found.output_tokens_per_s * 4_000 * found.itl_s == pytest.approx(432, rel=1e-9)


@pytest.mark.parametrize("name", SETUPS)
@settings(max_examples=15)
@given(st.lists(loads, min_size=1, max_size=3))
def test_a_scalar_is_the_same_point_of_an_array(name, points):
    together = estimate_load(DEPLOYED[name], *(np.array(column) for column in zip(*points, strict=True)), 8_192)
    for index, point in enumerate(points):
        alone = estimate_load(DEPLOYED[name], *point, 8_192)
        for output in (*OUTPUTS, "max_batch"):
            assert getattr(together, output)[index] == pytest.approx(getattr(alone, output), rel=1e-9)
        assert together.relative_sd("tpot_s")[index] == pytest.approx(alone.relative_sd("tpot_s"), rel=1e-6)


def test_arrays_broadcast():
    grid = estimate(batch=np.array([[1], [8]]), prompt_tokens=np.array([128, 512, 2_048]), max_num_batched_tokens=np.array([2_048, 4_096, 8_192]))
    assert grid.tpot_s.shape == grid.feasible.shape == (2, 3)
    assert grid.interval("power_w")[0].shape == (2, 3)
    assert len(estimate(batch=[1, 8]).to_frame()) == 2


def test_what_does_not_fit_is_nan_in_an_array_and_an_error_alone():
    table = estimate(batch=[8, 8_000])
    assert table.feasible.tolist() == [True, False]
    assert np.isfinite(table.tpot_s[0])
    assert np.isnan(table.tpot_s[1])
    with pytest.raises(InfeasibleError, match=r"KV cache of 8000 sequences with 640 tokens.*short\. What would lift it: a batch of at most") as caught:
        estimate(batch=8_000)
    assert caught.value.constraint == "KV cache memory"
    assert f"a batch of at most {int(table.max_batch[0])}" in caught.value.remedies
    estimate(batch=int(table.max_batch[0]))


def test_weights_that_do_not_fit_are_an_error_either_way():
    for batch in (1, [1, 2]):
        with pytest.raises(InfeasibleError, match=r"llama-3.1-70b does not fit on h100_sxm.*at least 2 accelerators") as caught:
            estimate(model="llama-3.1-70b", batch=batch)
        assert caught.value.constraint == "accelerator memory"


@pytest.mark.parametrize("name", ["batch", "prompt_tokens", "output_tokens", "max_num_batched_tokens"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "x", [1, 0], [1, float("nan")], None])
def test_bad_numbers_are_refused(name, value):
    if name == "max_num_batched_tokens" and value is None:
        return  # the engine's default
    with pytest.raises(SpecError, match=name):
        estimate(**{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": [1, 2], "prompt_tokens": [1, 2, 3]}, r"do not broadcast: \(2,\), \(3,\)"),
        ({"precision": "bf61"}, r"precision: unknown 'bf61'.*bf16"),
        ({"kv_precision": "fp7"}, r"precision: unknown 'fp7'"),
        ({"tensor_parallel": 3}, r"cannot be split over 3 ranks"),
        ({"tensor_parallel": 0}, r"tensor_parallel: must be a whole number"),
        ({"data_parallel": "two"}, r"data_parallel: must be a whole number"),
        ({"expert_parallel": 3}, r"expert_parallel: 3 must divide"),
        ({"pipeline_parallel": 99}, r"99 stages for 36 layers"),
        ({"power_limit_w": 100}, r"power_limit: 100 W given; h100_sxm takes 200 to 700 W"),
        ({"power_limit_w": "x"}, r"power_limit_w: must be a number"),
        ({"power_limit_w": float("nan")}, r"power_limit_w: must be a number"),
        ({"gpu_memory_utilization": 0}, r"gpu_memory_utilization: must be a number above 0 and at most 1"),
        ({"gpu_memory_utilization": 1.5}, r"gpu_memory_utilization: must be a number above 0 and at most 1"),
        ({"sparsity": "3:4"}, r"sparsity: unknown '3:4'"),
        ({"attention": "tilde"}, r"attention: .*naive"),
        ({"tensor_parallel": 2, "accelerator": "m4_max_40c"}, r"2 ranks reach beyond the 1 accelerators.*node="),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    with pytest.raises(SpecError, match=message):
        estimate(**changes)


@pytest.mark.parametrize(
    ("field", "value", "nearest"), [("model", "lama-3.1-8b", "llama-3.1-8b"), ("accelerator", "h100_sxn", "h100_sxm"), ("engine", "vlm", "vllm")]
)
def test_unknown_names_are_answered_with_the_nearest(field, value, nearest):
    with pytest.raises(UnknownNameError, match=nearest):
        estimate(**{field: value})


@pytest.mark.parametrize("limits_w", [(700, 500), (500, 300)])
def test_a_lower_power_limit_is_slower_and_draws_less(limits_w):
    high, low = (estimate(batch=128, prompt_tokens=2_000, output_tokens=100, power_limit_w=limit) for limit in limits_w)
    assert low.tpot_s >= high.tpot_s
    assert low.power_w <= high.power_w
    assert low.power_w <= limits_w[1] * (1 + 1e-5)


def test_narrower_weights_are_faster_at_batch_1():
    """Decode at batch 1 reads the weights: fp8 halves them."""
    wide, narrow = estimate(batch=1, precision="bf16"), estimate(batch=1, precision="fp8")
    assert narrow.tpot_s < wide.tpot_s
    assert narrow.energy_per_output_token_j < wide.energy_per_output_token_j


def test_tiling_gains_over_naive_attention():
    tiled, naive = (estimate(prompt_tokens=4_000, attention=kind) for kind in ("tiled", "naive"))
    assert naive.ttft_s > tiled.ttft_s


def test_more_memory_holds_larger_batches():
    assert estimate(accelerator="h200_sxm").max_batch > estimate().max_batch


def test_data_parallel_replicas_add_up():
    one, four = estimate(), estimate(data_parallel=4)
    assert (four.tpot_s, four.output_tokens_per_s, four.power_w) == pytest.approx((one.tpot_s, 4 * one.output_tokens_per_s, 4 * one.power_w))


def test_the_breakdown_sums_to_kernels_and_names_what_bounds_them():
    found = estimate(batch=1)
    rows = found.breakdown
    assert list(rows.phase.unique()) == ["decode", "first"]
    decode = rows[(rows.phase == "decode") & (rows.bound != "host")]
    assert decode.time_s.sum() + 1.504e-3 == pytest.approx(found.itl_s, rel=1e-6)
    assert decode.set_index("operation").loc["ffn.up", "bound"] == "memory"
    assert set(rows.bound) <= {"compute", "memory", "fixed", "network", "host"}


def test_a_device_without_a_node_has_no_server_power():
    phone = loading.accelerator("h100_sxm").model_copy(update={"default_node": None})
    found = estimate(accelerator=phone)
    assert np.isnan(found.server_power_w)
    assert found.power_w == pytest.approx(estimate().power_w)


def test_results_are_plain_values_with_units_in_their_keys():
    found = estimate()
    document = json.loads(found.to_json())
    assert document["tpot_s"] == found.tpot_s
    assert {"power_w", "energy_per_output_token_j", "max_batch", "provenance"} <= set(document)
    assert dataclasses.asdict(found)["tpot_s"] == found.tpot_s
