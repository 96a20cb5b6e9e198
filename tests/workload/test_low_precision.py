"""Training in few bits: bytes of copies and scales, what stays wide, which products are quantised."""

import dataclasses

import pytest

from effsim.errors import SpecError
from effsim.specs.models import model
from effsim.workload.features import ONE, TOKENS
from effsim.workload.low_precision import RECIPES, check_trainable, quantize_weights, quantized_share, with_recipe
from effsim.workload.lowering import lower, numerics
from effsim.workload.operations import Parallelism
from effsim.workload.training import backward

B200 = {"bf16", "fp16", "fp32", "fp8", "fp4"}


def tables(name, precision):
    spec = model(name)
    table = lower(spec, Parallelism(), numerics(spec, precision, None, B200), "train")
    return table, with_recipe(table, RECIPES[precision])


def op_of(table, name, dtype=None):
    (found,) = [op for op in table.operations if op.name == name and dtype in (None, op.dtype)]
    return found


@pytest.mark.parametrize(("name", "bits"), [("fp8", 8 + 32 / 128), ("mxfp8", 8 + 8 / 32), ("nvfp4", 4 + 8 / 16), ("mxfp4", 4 + 8 / 32)])
def test_a_number_takes_its_bits_and_its_share_of_the_scale(name, bits):
    assert 8 * RECIPES[name].copy_bytes == bits


@pytest.mark.parametrize("name", list(RECIPES))
def test_activations_are_read_once_or_twice_and_written_along_rows_and_columns(name):
    """Llama 3.1 8B: 4,096 inputs of the first product. NVFP4's scale of the tensor needs a pass of its own."""
    recipe = RECIPES[name]
    cast = op_of(tables("llama-3.1-8b", name)[1], "attention.qkv.cast")
    assert cast.write[TOKENS] == pytest.approx(2 * recipe.copy_bytes * 4_096)
    assert cast.read[TOKENS] == {"nvfp4": 4.0}.get(name, 2.0) * 4_096


def test_gradients_are_quantised_by_the_width_of_the_output():
    """Down: 14,336 inputs, 4,096 outputs."""
    back = backward(tables("llama-3.1-8b", "mxfp8")[1])
    cast = op_of(back, "ffn.down.cast.backward")
    assert cast.read[TOKENS] == 2 * 4_096
    assert cast.write[TOKENS] == pytest.approx(2 * (1 + 1 / 32) * 4_096)


@pytest.mark.parametrize("name", list(RECIPES))
def test_embedding_head_router_and_attention_stay_wide(name):
    table = tables("mixtral-8x7b", name)[1]
    for op in table.operations:
        if op.name in {"logits", "moe.router", "attention.prefill"}:
            assert op.dtype == "bf16"
    assert {op.dtype for op in table.operations if op.name == "attention.qkv"} >= {RECIPES[name].compute}


def test_nvfp4_keeps_15_percent_of_the_linear_layers_in_bf16():
    plain, table = tables("llama-3.1-8b", "nvfp4")
    for name in ("attention.qkv", "attention.output", "ffn.up", "ffn.down"):
        narrow, wide = op_of(table, name, "fp4"), op_of(table, name, "bf16")
        assert narrow.count == pytest.approx(0.85 * 32)
        assert wide.count == pytest.approx(0.15 * 32)
        assert wide.read[ONE] == 2.0 * wide.inner * wide.cols
        assert wide.read[TOKENS] == 2.0 * wide.inner
        assert op_of(plain, name).flop[TOKENS] == narrow.flop[TOKENS] == wide.flop[TOKENS]


def test_frozen_weights_need_one_copy_of_their_inputs():
    table, _ = tables("llama-3.1-8b", "mxfp8")
    cast = op_of(with_recipe(table, RECIPES["mxfp8"], frozen=True), "ffn.up.cast")
    assert cast.write[TOKENS] == pytest.approx((1 + 1 / 32) * 4_096)


def test_weights_are_quantised_once_for_both_copies():
    op = quantize_weights(RECIPES["nvfp4"], 1e9)
    assert op.read[ONE] == 4e9
    assert op.write[ONE] == 2 * 0.5625 * 1e9


def test_the_quantised_share_leaves_out_embedding_and_head():
    """8.03 billion weights, 2 x 525,336,576 of them in embedding and head; norms are few."""
    table = tables("llama-3.1-8b", "mxfp8")[1]
    assert quantized_share(table, RECIPES["mxfp8"]) == pytest.approx(1 - 2 * 525_336_576 / 8_030_261_248, rel=1e-3)
    assert quantized_share(table, None) == 0.0


def test_a_device_without_the_units_is_an_error_that_names_what_it_computes():
    with pytest.raises(SpecError, match=r"mxfp8 needs units for fp8, which a100 lacks; it computes bf16, fp16, fp32"):
        check_trainable("mxfp8", {"bf16", "fp16", "fp32", "bf16:2:4"}, "a100", frozen=False)
    with pytest.raises(SpecError, match=r"v100 has no units for bf16; it computes fp16, fp32"):
        check_trainable("bf16", {"fp16", "fp32"}, "v100", frozen=False)


def test_formats_of_storage_hold_frozen_weights_only():
    assert check_trainable("int4", B200, "b200", frozen=True) is None
    with pytest.raises(SpecError, match=r"int4 stores weights.*trainable=lora"):
        check_trainable("int4", B200, "b200", frozen=False)


def test_sixteen_bits_have_no_recipe():
    assert check_trainable("bf16", B200, "b200", frozen=False) is None
    assert all(dataclasses.is_dataclass(recipe) and recipe.source for recipe in RECIPES.values())
