"""The training estimate: identities, closed forms of pipeline and ZeRO, what each knob must do, what is refused."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import effsim
from effsim.cost.schedules import slowest_of
from effsim.cost.training import OUTPUTS, estimate_training
from effsim.errors import InfeasibleError, SpecError
from effsim.specs import loading
from effsim.specs.models import model

GIB = 2.0**30
N_8B = 8_030_261_248
N_MIXTRAL = 46_702_792_704


def estimate(**changes):
    given = {"model": "llama-3.1-8b", "accelerator": "h100_sxm", "num_accelerators": 64, "global_batch_size": 256, "tensor_parallel": 2}
    return estimate_training(**{**given, "recompute": "full", "calibration": "none", **changes})


def test_model_flops_are_palm_s_formula():
    """PaLM, arXiv:2204.02311, appendix B: 6 N + 12 L H Q T per token, N the weights of the products: all but the look-up table (525,336,576)
    and the norms (65 · 4,096). L = 32 layers, H = 32 heads, Q = 128, T = 4,096.
    """
    found = estimate(sequence_length=4_096)
    per_token = found.model_tflops_per_accelerator * 1e12 * 64 * found.step_time_s / (256 * 4_096)
    weights = N_8B - 525_336_576 - 65 * 4_096
    assert per_token == pytest.approx(6 * weights + 12 * 32 * 32 * 128 * 4_096, rel=1e-9)
    assert found.mfu == pytest.approx(per_token * found.tokens_per_s / (64 * 989e12), rel=1e-9)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b", "qwen3-30b-a3b"])
def test_model_flops_do_not_depend_on_the_split(name):
    """What tensor ranks compute alike (a router) is no work of the model."""
    done = []
    spread = {"expert_parallel": 1 if name.startswith("llama") else 4}
    for split in ({"tensor_parallel": 1}, {"tensor_parallel": 4}, {"tensor_parallel": 2, "pipeline_parallel": 2}, spread):
        found = estimate(model=name, zero_stage=3, num_accelerators=256, **split)
        done.append(found.mfu * found.step_time_s)
    assert done == pytest.approx([done[0]] * 4)


def test_full_recomputation_adds_a_third_less_the_head():
    """HFU counts four passes of the layers for three: 4/3 where head and embedding are not run again."""
    none, full = estimate(recompute="none", sequence_length=2_048), estimate(recompute="full", sequence_length=2_048)
    assert none.hfu == pytest.approx(none.mfu)
    layers = 6_979_321_856 * 2 + 4 * 32 * 32 * 128 * 2_048
    head = 2 * 525_336_576
    assert full.hfu / full.mfu == pytest.approx(1 + layers / (3 * (layers + head)), rel=1e-9)


def test_recomputation_trades_time_for_memory():
    none, full = estimate(recompute="none"), estimate(recompute="full")
    assert full.step_time_s > none.step_time_s
    assert full.memory.activations_bytes < none.memory.activations_bytes / 5


cases = st.fixed_dictionaries(
    {
        "tensor_parallel": st.sampled_from([1, 2, 4, 8]),
        "pipeline_parallel": st.sampled_from([1, 2, 4]),
        "zero_stage": st.integers(0, 3),
        "micro_batch_size": st.sampled_from([1, 2]),
        "recompute": st.sampled_from(["none", "selective", "full"]),
        "power_limit_w": st.sampled_from([None, 400.0]),
    }
)


@given(cases)
def test_parts_sum_to_the_step_and_shares_are_shares(case):
    try:
        found = estimate(sequence_length=1_024, **case)
    except InfeasibleError:
        return
    assert found.step_time_s == pytest.approx(found.compute_s + found.bubble_s + found.exchange_s + found.update_s, rel=1e-12)
    assert found.energy_j_per_step == pytest.approx(found.compute_j + found.bubble_j + found.exchange_j + found.update_j, rel=1e-12)
    assert min(found.compute_s, found.bubble_s, found.exchange_s, found.update_s) >= 0.0
    assert 0.0 < found.mfu <= found.hfu < 1.0
    assert found.tokens_per_s == pytest.approx(256 * 1_024 / found.step_time_s)
    assert found.power_w == pytest.approx(found.energy_j_per_step / found.step_time_s)
    assert found.energy_per_token_j == pytest.approx(found.power_w / found.tokens_per_s)
    assert 64 * 71.0 <= found.power_w <= 64 * (case["power_limit_w"] or 700.0) * (1 + 1e-6)
    assert found.server_power_w > found.power_w
    assert found.memory.total_bytes <= found.memory.device_bytes


@pytest.mark.parametrize(("stages", "virtual"), [(2, 1), (4, 1), (8, 1), (4, 2), (4, 4)])
def test_the_bubble_is_p_minus_1_over_m_v(stages, virtual):
    """Narayanan et al., arXiv:2104.04473, equations 1 and 2: bubble over ideal time (p - 1) / (m v). GPT-3's head on the last stage, the sends
    between stages and the host's time lengthen the ideal time a little: 10 % are allowed.
    """
    micro_batches = 32
    found = estimate(
        model="gpt-3-175b", num_accelerators=16 * stages, global_batch_size=2 * micro_batches, sequence_length=2_048, tensor_parallel=8,
        pipeline_parallel=stages, virtual_pipeline_stages=virtual, accelerator=roomy(),
    )  # fmt: skip
    assert found.bubble_s / found.compute_s == pytest.approx((stages - 1) / (micro_batches * virtual), rel=0.10)


def roomy():
    """An H100 with a terabyte, for closed forms that do not ask what fits."""
    h100 = loading.accelerator("h100_sxm")
    return h100.model_copy(update={"memory": h100.memory.model_copy(update={"value": 1e12})})


def test_without_stages_there_is_no_bubble():
    assert estimate(pipeline_parallel=1).bubble_s == 0.0


def test_compute_grows_with_the_global_batch_alone():
    """Twice the micro-batches, twice the compute less the host's 10 ms; bubble, exchange and update stay."""
    one, two = estimate(global_batch_size=128, pipeline_parallel=2), estimate(global_batch_size=256, pipeline_parallel=2)
    assert two.compute_s == pytest.approx(2 * one.compute_s - 0.010, rel=1e-3)
    assert (two.bubble_s, two.update_s) == pytest.approx((one.bubble_s, one.update_s))
    assert two.tokens_per_s > one.tokens_per_s


class TestZero:
    """Rajbhandari et al., arXiv:1910.02054, figure 1, with fp32 gradients as Megatron and FSDP sum them: 2 N weights, 4 N gradients,
    12 N Adam (master copy and two moments) on N weights a device; stage 1 divides the 12 by the d ranks, 2 the 4, too, 3 the 2, too.
    """

    @pytest.mark.parametrize(("stage", "divided"), [(0, ()), (1, ("optimizer",)), (2, ("optimizer", "gradients")), (3, ("optimizer", "gradients", "weights"))])
    def test_stages_of_a_dense_model(self, stage, divided):
        memory = estimate(accelerator=roomy(), tensor_parallel=1, zero_stage=stage).memory
        for part, each in (("weights", 2), ("gradients", 4), ("optimizer", 12)):
            assert getattr(memory, f"{part}_bytes") == pytest.approx(each * N_8B / (64 if part in divided else 1), rel=1e-4)

    @pytest.mark.parametrize(("expert", "tensor"), [(1, 1), (8, 1), (8, 2), (4, 2), (2, 4)])
    def test_all_devices_together_hold_the_optimizer_of_all_weights_once(self, expert, tensor):
        """However the experts are spread: 12 bytes for each of Mixtral's 46.7e9 weights; routers and norms on each tensor rank are few."""
        memory = estimate(model="mixtral-8x7b", accelerator=roomy(), expert_parallel=expert, tensor_parallel=tensor).memory
        assert 64 * memory.optimizer_bytes == pytest.approx(12 * N_MIXTRAL, rel=2e-3)

    @pytest.mark.parametrize(("expert", "copies"), [(1, 64), (8, 8), (4, 16)])
    def test_weights_and_gradients_of_spread_experts(self, expert, copies):
        """Each device holds 1/e of the experts (1,409,286,144 · 32 weights) and all of the rest."""
        experts = 32 * 8 * 3 * 4_096 * 14_336
        memory = estimate(model="mixtral-8x7b", accelerator=roomy(), expert_parallel=expert, tensor_parallel=1).memory
        held = N_MIXTRAL - experts + experts / expert
        assert memory.weights_bytes == pytest.approx(2 * held, rel=1e-4)
        assert memory.gradients_bytes == pytest.approx(4 * held, rel=1e-4)
        assert memory.optimizer_bytes == pytest.approx(12 * ((N_MIXTRAL - experts) / 64 + experts / expert / copies), rel=1e-4)

    def test_optimizers_differ_by_their_state(self):
        sizes = {
            name: estimate(accelerator=roomy(), optimizer=name, tensor_parallel=1, zero_stage=0).memory.optimizer_bytes for name in ("sgd", "adam", "adam_8bit")
        }
        assert [size / N_8B for size in sizes.values()] == pytest.approx([4, 12, 6], rel=1e-4)


class TestWorkingSets:
    """GPT-3 175B as Korthikanti et al., arXiv:2205.05198, table 3 have it: s = 2,048, b = 1, h = 12,288, t = 8."""

    @staticmethod
    def memory(**changes):
        given = {"model": "gpt-3-175b", "accelerator": roomy(), "sequence_length": 2_048, "tensor_parallel": 8, "num_accelerators": 64}
        return estimate(**{**given, "global_batch_size": 64, **changes}).memory

    def test_full_recomputation_brings_one_layer_back(self):
        """Equation 4: 34 s b h / t a layer with sequence parallelism, less 3 for dropout masks; 2 of those are the layer's input, which
        is kept anyway."""
        found = self.memory(recompute="full")
        unit = 2_048 * 12_288 / 8
        assert found.activations_bytes == pytest.approx(96 * 2 * unit)
        assert found.recompute_bytes == pytest.approx((34 - 3 - 2) * unit, rel=0.05)
        assert self.memory(recompute="none").recompute_bytes == 0.0

    def test_what_is_live_in_a_layer_does_not_depend_on_stages_or_micro_batches(self):
        assert self.memory(pipeline_parallel=4).recompute_bytes == pytest.approx(self.memory().recompute_bytes)
        assert self.memory(micro_batch_size=2).recompute_bytes == pytest.approx(2 * self.memory().recompute_bytes)

    def test_a_model_of_one_layer_saves_nothing(self):
        """While its backward pass runs; at the loss it does, so that few logits are needed to see it."""
        one = model("gpt2").model_copy(update={"blocks": (model("gpt2").blocks[0].model_copy(update={"repeat": 1}),), "vocab_size": 8})
        full, none = (self.memory(model=one, tensor_parallel=1, recompute=mode) for mode in ("full", "none"))
        assert full.logits_bytes == 0.0
        assert full.total_bytes == pytest.approx(none.total_bytes - none.logits_bytes)

    def test_stage_three_gathers_two_layers(self):
        """A GPT layer has 12 h^2 + 13 h weights, of two bytes, over eight tensor ranks (biases of the outputs and norms are not split)."""
        found = self.memory(zero_stage=3)
        assert found.gathered_bytes == pytest.approx(2 * 2 * (12 * 12_288**2 + 13 * 12_288) / 8, rel=1e-3)
        assert self.memory(zero_stage=2).gathered_bytes == 0.0
        assert self.memory(zero_stage=3, num_accelerators=8).gathered_bytes == 0.0

    def test_never_more_than_all_the_weights(self):
        one = model("gpt2").model_copy(update={"blocks": (model("gpt2").blocks[0].model_copy(update={"repeat": 1}),)})
        three, none = (self.memory(model=one, tensor_parallel=1, zero_stage=stage) for stage in (3, 0))
        assert three.weights_bytes < three.weights_bytes + three.gathered_bytes <= none.weights_bytes * (1 + 1e-12)

    def test_the_total_is_the_sum_of_the_parts(self):
        found = dataclasses.asdict(self.memory(zero_stage=3))
        device_bytes = found.pop("device_bytes")
        assert self.memory(zero_stage=3).total_bytes == pytest.approx(sum(found.values()))
        assert device_bytes == 1e12

    def test_the_message_lists_them(self):
        with pytest.raises(InfeasibleError, match=r"recompute 0\.\d, gathered 0\.8, logits"):
            self.memory(accelerator="h100_sxm", zero_stage=3, micro_batch_size=1, num_accelerators=16, recompute="full", tensor_parallel=8)


def test_expert_work_does_not_depend_on_where_experts_lie():
    """Each device computes its share of the (token, expert) pairs: 8 groups or one, the FLOPs of its breakdown agree."""
    rows = [estimate(model="mixtral-8x7b", accelerator=roomy(), expert_parallel=e, tensor_parallel=1).breakdown for e in (1, 8)]
    flop = [frame[frame.kind == "grouped_gemm"].flop.sum() for frame in rows]
    assert flop[0] == pytest.approx(flop[1])
    assert "moe.dispatch" in set(rows[1].operation)
    assert "moe.dispatch" not in set(rows[0].operation)


def test_context_ranks_share_activations():
    one, four = (estimate(context_parallel=ranks, sequence_length=16_384).memory.activations_bytes for ranks in (1, 4))
    assert four == pytest.approx(one / 4)


def test_a_lower_power_limit_stretches_the_step():
    high, low = estimate(), estimate(power_limit_w=400)
    assert low.step_time_s > high.step_time_s
    assert low.power_w < high.power_w
    assert low.power_w <= 64 * 400 * (1 + 1e-5)


def test_a_scalar_is_the_same_point_of_an_array():
    sizes = np.array([64, 128, 256])
    together = estimate(global_batch_size=sizes)
    for index, size in enumerate(sizes.tolist()):
        alone = estimate(global_batch_size=size)
        for output in OUTPUTS:
            assert getattr(together, output)[index] == pytest.approx(getattr(alone, output), rel=1e-9)
    assert together.feasible.all()


def test_what_does_not_fit_or_divide_is_nan_in_an_array():
    found = estimate(global_batch_size=[256, 250], micro_batch_size=[1, 1])
    assert found.feasible.tolist() == [True, False]
    assert np.isnan(found.step_time_s[1])
    large = estimate(micro_batch_size=[1, 8], sequence_length=32_768, recompute="none")
    assert large.feasible.tolist() == [False, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_accelerators": 63}, r"num_accelerators: 63 is no multiple of .* = 2"),
        ({"num_accelerators": 0}, r"num_accelerators: must be a whole number"),
        ({"num_accelerators": "many"}, r"num_accelerators: must be a whole number"),
        ({"tensor_parallel": 0}, r"tensor_parallel: must be a whole number"),
        ({"tensor_parallel": "2"}, r"tensor_parallel: must be a whole number"),
        ({"global_batch_size": 250}, r"global_batch_size: 250 is no multiple of .* = 1 x 32"),
        ({"global_batch_size": 0}, r"global_batch_size: must be finite and at least 1"),
        ({"micro_batch_size": -1}, r"micro_batch_size: must be finite and at least 1"),
        ({"sequence_length": float("nan")}, r"sequence_length: must be finite and at least 1"),
        ({"sequence_length": "long"}, r"sequence_length: expected a number"),
        ({"global_batch_size": [64, 128], "sequence_length": [1, 2, 3]}, r"do not broadcast"),
        ({"recompute": "some"}, r"recompute: unknown 'some'; .*allowed: none, selective"),
        ({"zero_stage": 4}, r"zero_stage: expected 0, 1, 2 or 3, got 4"),
        ({"virtual_pipeline_stages": 0}, r"virtual_pipeline_stages: must be a whole number"),
        ({"optimizer": "adamm"}, r"optimizer: unknown 'adamm'.*adam"),
        ({"precision": "bf61"}, r"precision: unknown 'bf61'"),
        ({"power_limit_w": 100}, r"power_limit: 100 W given"),
        ({"pipeline_parallel": 64, "num_accelerators": 128}, r"64 stages for 32 layers"),
        ({"pipeline_parallel": 4, "virtual_pipeline_stages": 16}, r"virtual_pipeline_stages: 16 chunks in each of 4 stages for 32 layers.*allowed: 1, 2, 4, 8"),
        ({"precision": 8}, r"precision: expected a name, got 8; allowed: fp32"),
        ({"optimizer": None}, r"optimizer: expected a name, got None; allowed: sgd"),
        ({"pipeline_schedule": None}, r"pipeline_schedule: unknown None; .*allowed: 1f1b"),
        ({"recompute": ["full"]}, r"recompute: expected a name, got .*allowed: none, selective"),
        ({"zero_stage": "1"}, r"zero_stage: expected 0, 1, 2 or 3, got '1'"),
        ({"zero_stage": [1]}, r"zero_stage: expected 0, 1, 2 or 3"),
        ({"trainable": {}}, r"trainable: expected full or lora"),
        ({"shard_group": "a"}, r"shard_group: must be a whole number of at least 1, got 'a'"),
        ({"shard_group": 0}, r"shard_group: must be a whole number of at least 1, got 0"),
        ({"shard_group": 5}, r"shard_group: 5 does not divide the 32 data-parallel ranks"),
        ({"capacity_factor": "a"}, r"capacity_factor: must be a number above 0, got 'a'"),
        ({"capacity_factor": float("inf")}, r"capacity_factor: must be a number above 0, got inf"),
        ({"capacity_factor": 1.25}, r"capacity_factor: the model has no routed experts"),
        ({"capacity_factor": 1.25, "expert_imbalance": 1.1}, r"expert_imbalance: with a capacity_factor every expert has as many rows"),
        ({"expert_imbalance": 0.5}, r"expert_imbalance: must be a number of at least 1, got 0.5"),
        ({"gradient_bytes": 3}, r"gradient_bytes: expected 2 .* or 4 .*, got 3"),
        ({"offload_activations": 1.5}, r"offload_activations: must be a share from 0 to 1, got 1.5"),
        ({"clock": 0.05}, r"clock: 0.05 of the full clock given; allowed: 0.15 to 1"),
        ({"clock": 1.5}, r"clock: must be a number"),
        ({"recompute": "moe_act+layernrom"}, r"recompute: unknown 'layernrom'; did you mean 'layernorm'"),
        ({"precision": "fp8", "accelerator": "a100_sxm_80gb"}, r"precision: fp8 needs units for fp8, which a100_sxm_80gb lacks; it computes bf16, fp16"),
        ({"precision": "nvfp4"}, r"precision: nvfp4 needs units for fp4, which h100_sxm lacks"),
        ({"precision": "int4"}, r"precision: int4 stores weights.*: bf16, fp8, mxfp8"),
        ({"rank_time_sd": "a"}, r"rank_time_sd: must be a number in \[0, 1\), got 'a'"),
        ({"lora_rank": "a"}, r"lora_rank: must be a whole number of at least 1, got 'a'"),
        ({"tensor_parallel": True}, r"tensor_parallel: must be a whole number of at least 1, got True"),
        ({"expert_parallel": 2}, r"expert_parallel: 2 groups for experts that .* does not have; give 1"),
        ({"expert_parallel": True}, r"expert_parallel: must be a whole number of at least 1, got True"),
        ({"global_batch_size": "64"}, r"global_batch_size: expected a number or an array of numbers, got '64'"),
        ({"global_batch_size": ["64"]}, r"global_batch_size: expected a number or an array of numbers"),
        ({"global_batch_size": np.array(["64"])}, r"global_batch_size: expected a number or an array of numbers"),
        ({"micro_batch_size": True}, r"micro_batch_size: expected a number or an array of numbers, got True"),
        ({"micro_batch_size": [1, True]}, r"micro_batch_size: expected a number or an array of numbers"),
        ({"micro_batch_size": np.array([True])}, r"micro_batch_size: expected a number or an array of numbers"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    with pytest.raises(SpecError, match=message):
        estimate(**changes)


def test_counts_may_be_integers_of_numpy():
    given = {"num_accelerators": 64, "tensor_parallel": 2, "pipeline_parallel": 2, "virtual_pipeline_stages": 2, "zero_stage": 1, "lora_rank": 8}
    assert estimate(**{name: np.int64(count) for name, count in given.items()}).step_time_s == estimate(**given).step_time_s


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("step_time",), r"interval: 'step_time' has none; did you mean 'step_time_s'.*choose from step_time_s"),
        ((7,), r"interval: 7 has none; choose from"),
        (("mfu", "a"), r"level: must be a number between 0 and 1, got 'a'"),
        (("mfu", 1.5), r"level: must lie between 0 and 1, got 1.5"),
    ],
)
def test_what_has_no_interval_is_refused(given, message):
    with pytest.raises(SpecError, match=message):
        estimate().interval(*given)


def test_intervals_contain_their_value_and_grow():
    found = estimate()
    for output in OUTPUTS:
        low, high = found.interval(output, 0.5)
        lower, higher = found.interval(output, 0.9)
        assert lower < low < getattr(found, output) < high <= higher
    assert found.interval("mfu", 0.999)[1] <= 1.0


def test_low_precision_counts_each_weight_once():
    """fp8 products keep 16-bit weights, fp32 gradients and states: the same number of weights as in bf16."""
    wide, narrow = (estimate(precision=precision).memory for precision in ("bf16", "fp8"))
    assert narrow.optimizer_bytes == pytest.approx(wide.optimizer_bytes)
    assert narrow.gradients_bytes == pytest.approx(wide.gradients_bytes)


def test_the_breakdown_names_all_phases():
    found = estimate(pipeline_parallel=2)
    assert set(found.breakdown.phase) == {"forward", "backward", "recompute", "update"}
    assert dataclasses.asdict(found.memory)["device_bytes"] == 80 * GIB


def test_the_last_stage_has_the_logits():
    """Llama-3-8B at micro-batch 32: 32 x 4,096 rows of 128,256 logits at 6 bytes are 93.9 GiB, on the last of two stages."""
    with pytest.raises(effsim.InfeasibleError, match=r"logits 93\.9"):
        effsim.estimate_training(
            "llama-3.1-8b", "h100_sxm", 16, 256, micro_batch_size=32, sequence_length=4096, pipeline_parallel=2, recompute="full", calibration="none"
        )


def test_hybrid_sharding_needs_something_to_shard():
    with pytest.raises(effsim.SpecError, match="ZeRO stage 0 shards nothing"):
        effsim.estimate_training("llama-3.1-8b", "h100_sxm", 16, 256, zero_stage=0, shard_group=2)


def test_a_checkpoint_of_adapters_holds_them_alone():
    """Query, key, value (4,096 to 6,144, fused) and output (4,096 to 4,096) of 32 layers, rank 16, 14 bytes a weight, however split."""
    weights = 32 * 16 * (4_096 + 6_144 + 4_096 + 4_096)
    assert [estimate(trainable="lora", tensor_parallel=n).checkpoint_bytes for n in (1, 4)] == pytest.approx([14.0 * weights] * 2)
    assert estimate().checkpoint_bytes == pytest.approx(14.0 * N_8B)


def test_ranks_of_one_replica_wait_for_each_other():
    even, uneven = (estimate(num_accelerators=16, tensor_parallel=8, pipeline_parallel=2, rank_time_sd=sd) for sd in (0.0, 0.02))
    assert uneven.step_time_s / even.step_time_s == pytest.approx(slowest_of(16, 0.02), rel=0.01)


def test_network_energy_follows_the_wires():
    """An all-reduce is a reduce-scatter and an all-gather: sequence parallelism moves no more. Tokens that leave a node cost more."""
    split = {"tensor_parallel": 8, "num_accelerators": 8, "global_batch_size": 8, "recompute": "none"}
    shared, whole = (estimate(**split, sequence_parallel=s).network_energy_j_per_step for s in (True, False))
    assert shared == pytest.approx(whole, rel=0.02)
    mixture = {"model": "qwen3-30b-a3b", "tensor_parallel": 1, "zero_stage": 1, "global_batch_size": 512}
    near, far = (estimate(**mixture, expert_parallel=e).network_energy_j_per_step for e in (8, 64))
    assert far > 1.5 * near
