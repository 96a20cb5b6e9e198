"""What recipes set about memory: each named setting is one that the estimate takes."""

import inspect

import pytest

from effsim.cost.training import estimate_training
from effsim.validate.training.bridge_recipes import OFFLOADED_LAYERS, RECOMPUTED, memory_settings, unstated
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


def test_a_recipe_of_another_micro_batch_says_so():
    assert "a micro-batch of 1, the table 4" in unstated(record("GPT OSS 120B", "DGX-H100", micro_batch_size=4))
    assert unstated(record("GPT OSS 120B", "DGX-H100", micro_batch_size=1)) is None
    assert unstated(record("GPT OSS 120B", "DGX-B200", micro_batch_size=4)) is None
