"""Adapters: sizes and work by hand, and what freezing saves."""

import pytest

import effsim
from effsim.cost.deployment import Settings, deploy
from effsim.errors import SpecError
from effsim.workload.adapters import with_adapters
from effsim.workload.operations import Parallelism
from effsim.workload.training import backward

TRAIN = Settings(precision="bf16", engine="megatron", phase="train")


def table(name="llama-2-70b"):
    return deploy(name, "h100_sxm", Parallelism(), TRAIN).table


def test_adapter_weights_by_hand():
    # Llama 2 70B: 80 layers; qkv 8192 x (8192 + 2 x 8 x 128), output 8192 x 8192; rank 16 adds 16 (K + N) each.
    _, adapters = with_adapters(table(), 16)
    by_hand = 80 * 16 * ((8192 + 8192 + 2048) + (8192 + 8192))
    assert adapters.weight_bytes / 2.0 == by_hand == 44_564_480


def test_frozen_weights_have_no_gradient():
    whole, _ = with_adapters(table(), 16)
    names = [op.name for op in backward(whole, frozen=True).operations if op.name.endswith("weight_gradient")]
    assert len(names) == 4
    assert all(".adapter_" in name for name in names)
    assert sum(op.name.endswith("weight_gradient") for op in backward(whole).operations) > 4


def test_lora_needs_two_thirds_of_the_products_and_little_memory():
    given = {"num_accelerators": 8, "global_batch_size": 8, "sequence_length": 8192, "tensor_parallel": 4, "context_parallel": 2, "recompute": "full"}
    lora = effsim.estimate_training("llama-2-70b", "h200_sxm", trainable="lora", **given)
    with pytest.raises(effsim.InfeasibleError, match="does not fit"):
        effsim.estimate_training("llama-2-70b", "h200_sxm", **given)
    gemms = lora.breakdown[lora.breakdown.kind == "gemm"].groupby("phase").flop.sum()
    assert gemms["backward"] / gemms["forward"] == pytest.approx(1.0, rel=0.01)
    assert lora.memory.gradients_bytes + lora.memory.optimizer_bytes < 0.01 * lora.memory.weights_bytes


def test_bad_ranks_and_models_without_targets():
    with pytest.raises(SpecError, match="lora_rank: must be at least 1, got 0"):
        with_adapters(table(), 0)
    with pytest.raises(SpecError, match="nothing to adapt"):
        with_adapters(table("mlp-784-128-10"), 4)


def test_frozen_products_keep_no_inputs():
    """MLPerf's Llama-2-70B LoRA runs on 80 GB devices: TP4, CP2, sequences of 8,192, fp8 weights, one layer's activations at a time."""
    given = {"num_accelerators": 8, "global_batch_size": 8, "sequence_length": 8192, "tensor_parallel": 4, "context_parallel": 2, "precision": "fp8"}
    lora = effsim.estimate_training("llama-2-70b", "h100_sxm", trainable="lora", recompute="full", calibration="none", **given)
    assert lora.memory.weights_bytes / 2**30 == pytest.approx(70e9 / 4 / 2**30, rel=0.05)  # a byte each, over four ranks
    wide = effsim.estimate_training("llama-2-70b", "h200_sxm", trainable="lora", recompute="none", calibration="none", **given)
    sixteen = {**given, "precision": "bf16"}
    trained = effsim.estimate_training("llama-2-13b", "h200_sxm", recompute="none", calibration="none", **sixteen)
    small = effsim.estimate_training("llama-2-13b", "h200_sxm", trainable="lora", recompute="none", calibration="none", **sixteen)
    assert small.memory.activations_bytes < 0.8 * trained.memory.activations_bytes
    assert wide.memory.activations_bytes > lora.memory.activations_bytes
