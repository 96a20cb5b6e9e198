"""Memory of a training device: its fullest moment, widths that engines and recipes set, what lies on the host."""

import pytest

from effsim.cost.training import estimate_training
from effsim.specs import loading

N_8B = 8_030_261_248


def roomy(name="h100_sxm"):
    device = loading.accelerator(name)
    return device.model_copy(update={"memory": device.memory.model_copy(update={"value": 1e13})})


def estimate(**changes):
    given = {"model": "llama-3.1-8b", "accelerator": roomy(), "num_accelerators": 8, "global_batch_size": 8, "calibration": "none", "zero_stage": 3}
    return estimate_training(**{**given, **changes})


def test_sharded_training_without_a_16_bit_copy_keeps_16_bytes_a_weight():
    """fp32 weight, two moments, and a gradient while backward runs: 16; Megatron's 16-bit copy makes it 18."""
    wide, sharded = (estimate(engine=engine, sequence_length=64, recompute="none").memory for engine in ("megatron", "fsdp"))
    assert wide.weights_bytes == pytest.approx(2 * N_8B / 8, rel=1e-6)
    assert (sharded.weights_bytes, sharded.logits_bytes) == (0.0, 0.0)
    assert sharded.optimizer_bytes + sharded.gradients_bytes == pytest.approx(16 * N_8B / 8, rel=1e-6)


def test_the_fullest_moment_is_the_loss_or_the_backward_pass():
    """Logits of 128,256 x 6 bytes a token; recomputation of a layer brings back less, so that long sequences are fullest at the loss."""
    found = estimate(engine="fsdp", recompute="full", sequence_length=65_536).memory
    assert found.logits_bytes == 65_536 * 128_256 * 6
    assert (found.recompute_bytes, found.gradients_bytes) == (0.0, 0.0)
    split = estimate(engine="fsdp", recompute="full", sequence_length=512).memory
    assert split.logits_bytes == 0.0
    assert split.recompute_bytes > 0.0


def test_gradients_of_earlier_micro_batches_are_there_at_the_loss():
    one, two = (estimate(engine="fsdp", recompute="full", sequence_length=65_536, global_batch_size=8 * n).memory for n in (1, 2))
    assert two.gradients_bytes - one.gradients_bytes == pytest.approx(4 * N_8B / 8, rel=1e-6)


def test_gradients_in_16_bits_take_half_the_memory_and_less_time():
    wide, narrow = (estimate(gradient_bytes=width, zero_stage=0) for width in (4, 2))
    assert narrow.memory.gradients_bytes == wide.memory.gradients_bytes / 2
    assert narrow.exchange_s == pytest.approx(wide.exchange_s / 2, rel=0.01)
    assert narrow.compute_s < wide.compute_s
    assert estimate(zero_stage=0).memory.gradients_bytes == wide.memory.gradients_bytes


def test_moments_in_16_bits_keep_8_bytes_a_weight():
    assert estimate(optimizer="adam_bf16").memory.optimizer_bytes == pytest.approx(8 * N_8B / 8, rel=1e-6)


class TestOffload:
    def test_a_share_of_the_activations_leaves(self):
        whole, half = (estimate(offload_activations=share, engine="fsdp").memory.activations_bytes for share in (0.0, 0.5))
        assert half == pytest.approx(whole / 2)

    def test_a_slow_link_makes_the_step_wait_for_what_it_does_not_hide(self):
        """Out in the forward pass, in during the backward pass: bytes over the link less the pass, each."""
        slow = loading.accelerator("h100_sxm")
        slow = roomy().model_copy(update={"host_link": slow.host_link.model_copy(update={"value": 1e9})})
        before, after = (estimate(accelerator=slow, offload_activations=share, engine="fsdp") for share in (0.0, 1.0))
        moved_s = before.memory.activations_bytes / 1e9
        longer_s = after.compute_s - before.compute_s
        assert 2 * moved_s - before.compute_s <= longer_s * (1 + 1e-6)
        assert longer_s < 2 * moved_s

    def test_a_fast_link_hides_it(self):
        fast = roomy().model_copy(update={"host_link": roomy().host_link.model_copy(update={"value": 1e15})})
        before, after = (estimate(accelerator=fast, offload_activations=share) for share in (0.0, 1.0))
        assert after.compute_s == pytest.approx(before.compute_s)
        assert after.energy_j_per_step > before.energy_j_per_step

    def test_state_passes_the_link_both_ways(self):
        """12 bytes of a weight, an eighth of the weights on each device, 64 GB/s."""
        before, after = (estimate(offload_optimizer=share) for share in (0.0, 1.0))
        assert after.memory.optimizer_bytes == 0.0
        assert after.update_s - before.update_s == pytest.approx(2 * 12 * N_8B / 8 / 64e9, rel=1e-6)


class TestClock:
    def test_a_lower_clock_takes_longer_at_less_power(self):
        full, low = (estimate(clock=share) for share in (1.0, 0.6))
        assert low.step_time_s > full.step_time_s
        assert low.power_w < full.power_w
        assert low.step_time_s <= full.step_time_s / 0.6

    def test_a_limit_that_the_clock_keeps_changes_nothing(self):
        low, both = estimate(clock=0.5), estimate(clock=0.5, power_limit_w=650)
        assert both.step_time_s == pytest.approx(low.step_time_s)

    def test_waiting_draws_less_too(self):
        """Static power above idle falls with the square of the voltage."""
        given = {"pipeline_parallel": 4, "zero_stage": 1, "global_batch_size": 4}
        full, low = (estimate(clock=share, **given) for share in (1.0, 0.6))
        assert low.bubble_j / low.bubble_s < full.bubble_j / full.bubble_s
