"""What recipes set about memory: each named setting is one that the estimate takes."""

import inspect

import pytest

from effsim.cost.training import estimate_training
from effsim.validate.training.bridge_recipes import OFFLOADED_LAYERS, RECOMPUTED, engine_of, memory_settings, unstated
from effsim.workload.training import check_recompute


def record(model, system, **inputs):
    return {"id": "x", "inputs": {"model": model, "system": system, **inputs}, "measured": {}}


@pytest.mark.parametrize("key", RECOMPUTED)
def test_modules_are_known(key):
    assert check_recompute(memory_settings(record(*key[:2]), key[2])["recompute"])


@pytest.mark.parametrize("key", OFFLOADED_LAYERS)
def test_layers_are_offloaded_where_weights_are_sharded(key):
    layers, of = OFFLOADED_LAYERS[key]
    found = memory_settings(record(*key[:2], fsdp=64), key[2])
    assert found["offload_activations"] == layers / of < 1.0
    assert "offload_activations" not in memory_settings(record(*key[:2], fsdp=0), key[2])
    assert set(found) < set(inspect.signature(estimate_training).parameters)


def test_pretraining_sums_gradients_in_16_bits_and_adapters_set_nothing():
    assert memory_settings(record("LLAMA3_8B", "DGX-H100"), "bf16") == {"gradient_bytes": 2.0}
    assert memory_settings(record("LLAMA3_70B", "DGX-H100", mode="LoRA"), "bf16") == {}


def test_few_bits_as_the_recipes_set_them():
    """No layer stays in 16 bits; FP8 has one scale for a tensor, but for DeepSeek-V3 on H100; without overlap of tensor ranks in NVFP4."""
    nvfp4, fp8 = (memory_settings(record("LLAMA3_70B", "DGX-GB200"), precision) for precision in ("nvfp4", "fp8"))
    assert (nvfp4["wide_share"], fp8["amax_reads"]) == (0.0, 1.0)
    assert "amax_reads" not in nvfp4 | memory_settings(record("DeepSeekV3", "DGX-H100"), "fp8")
    assert engine_of("nvfp4").collective_overlap.value == 0.0
    assert engine_of("fp8").collective_overlap.value > 0.0
    assert engine_of("nvfp4").name == engine_of("fp8").name == "megatron"


def test_a_recipe_of_another_micro_batch_says_so():
    assert "a micro-batch of 1, the table 4" in unstated(record("GPT OSS 120B", "DGX-H100", micro_batch_size=4))
    assert unstated(record("GPT OSS 120B", "DGX-H100", micro_batch_size=1)) is None
    assert unstated(record("GPT OSS 120B", "DGX-B200", micro_batch_size=4)) is None
