"""Hugging Face configs: exact parameter counts, precisions, and refusals that name what is not supported."""

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.errors import SpecError
from effsim.specs.hf import from_hf_config, read_hf_folder
from effsim.specs.model import Attention, GatedDeltaNet, LatentAttention, Mamba2, MoeFfn
from effsim.workload.hf_table import hf_row, hf_table
from effsim.workload.parameters import parameter_count

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 14336, "vocab_size": 128256, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 5e5, "torch_dtype": "bfloat16",
}  # fmt: skip
QWEN_MOE: dict[str, Any] = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
    "moe_intermediate_size": 768, "intermediate_size": 6144, "num_experts": 128, "num_experts_per_tok": 8, "vocab_size": 151936, "dtype": "bfloat16",
}  # fmt: skip
DEEPSEEK: dict[str, Any] = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "first_k_dense_replace": 3, "moe_layer_freq": 1, "n_routed_experts": 256,
    "n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "intermediate_size": 18432, "vocab_size": 129280,
    "topk_method": "noaux_tc", "hidden_act": "silu", "torch_dtype": "bfloat16",
}  # fmt: skip
NEMOTRON: dict[str, Any] = {
    "model_type": "nemotron_h", "hidden_size": 2688, "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 131072,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", "mamba_num_heads": 64, "mamba_head_dim": 64, "n_groups": 8,
    "ssm_state_size": 128, "conv_kernel": 4, "n_routed_experts": 128, "num_experts_per_tok": 6, "moe_intermediate_size": 1856, "n_shared_experts": 1,
    "moe_shared_expert_intermediate_size": 3712, "mlp_hidden_act": "relu2", "torch_dtype": "bfloat16",
}  # fmt: skip
GPT2: dict[str, Any] = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024}
QWEN_HYBRID: dict[str, Any] = {
    "model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256,
    "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
    "num_experts": 512, "num_experts_per_tok": 10, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "intermediate_size": 5120,
    "full_attention_interval": 4, "vocab_size": 151936, "dtype": "bfloat16",
}  # fmt: skip
QWEN_VL: dict[str, Any] = {
    "model_type": "qwen3_vl", "tie_word_embeddings": True,
    "text_config": {
        "model_type": "qwen3_vl_text", "hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 6144, "vocab_size": 151936, "dtype": "bfloat16",
    },
    "vision_config": {
        "hidden_size": 1024, "depth": 24, "intermediate_size": 4096, "patch_size": 16, "temporal_patch_size": 2, "in_channels": 3, "num_heads": 16,
        "spatial_merge_size": 2, "num_position_embeddings": 2304, "out_hidden_size": 2048, "deepstack_visual_indexes": [5, 11, 17],
    },
}  # fmt: skip

# Of the published checkpoints (safetensors index) or of the transformers 5.23 implementation with the routers' correction terms.
EXACT: list[tuple[dict[str, Any], int]] = [
    (LLAMA, 8_030_261_248),
    (QWEN_MOE, 30_532_122_624),
    (DEEPSEEK, 671_026_419_200),
    (NEMOTRON, 31_577_940_288),
    (GPT2, 124_439_808),
    (QWEN_VL, 2_127_532_032),
    ({"model_type": "opt", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "ffn_dim": 3072, "vocab_size": 50272,
      "max_position_embeddings": 2048}, 125_239_296),
    ({"model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71, "multi_query": True, "parallel_attn": True,
      "vocab_size": 65024}, 6_921_720_704),
    ({"model_type": "gemma2", "hidden_size": 2304, "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
      "intermediate_size": 9216, "vocab_size": 256000, "sliding_window": 4096, "hidden_activation": "gelu_pytorch_tanh"}, 2_614_341_888),
    ({"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 30522,
      "max_position_embeddings": 512}, 110_106_428),
    (QWEN_HYBRID, 79_674_391_296),
]  # fmt: skip


@pytest.mark.parametrize(("config", "parameters"), EXACT, ids=lambda value: value["model_type"] if isinstance(value, dict) else "")
def test_counts_are_those_of_the_checkpoint(config: dict[str, Any], parameters: int) -> None:
    assert parameter_count(from_hf_config(config)).total == parameters


def test_what_a_config_becomes() -> None:
    llama = from_hf_config({**LLAMA, "max_position_embeddings": 131072}, name="meta-llama/Llama-3.1-8B")
    assert (llama.name, llama.hf_id, llama.max_context_tokens) == ("llama-3.1-8b", "meta-llama/Llama-3.1-8B", 131072)
    assert llama.blocks[0].mixer == Attention(heads=32, kv_heads=8, head_dim=128)
    deepseek = from_hf_config(DEEPSEEK)
    assert [block.repeat for block in deepseek.blocks] == [3, 58]
    assert isinstance(deepseek.blocks[0].mixer, LatentAttention)
    assert isinstance(deepseek.blocks[1].ffn, MoeFfn)
    assert deepseek.blocks[1].ffn.router_bias
    nemotron = from_hf_config(NEMOTRON)
    assert nemotron.num_layers == 52
    assert {type(block.mixer) for block in nemotron.blocks} == {Mamba2, Attention, type(None)}
    hybrid = from_hf_config(QWEN_HYBRID)
    assert {type(block.mixer): block.repeat for block in hybrid.blocks} == {GatedDeltaNet: 36, Attention: 12}


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        (
            {**LLAMA, "max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}},
            131072,
        ),
        ({**QWEN_MOE, "max_position_embeddings": 40960}, 40960),
        (
            {**QWEN_MOE, "max_position_embeddings": 40960, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}},
            131072,
        ),
        ({**DEEPSEEK, "max_position_embeddings": 163840, "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}}, 163840),
        ({**LLAMA, "max_position_embeddings": 4096, "rope_scaling": {"type": "yarn", "factor": "x", "original_max_position_embeddings": 4096}}, 4096),
        (GPT2, 1024),
        (LLAMA, None),
    ],
)
def test_the_context_is_that_of_the_positions(config: dict[str, Any], tokens: int | None) -> None:
    """The second YaRN is the one that Qwen3's model card gives for 131,072 tokens; Llama 3.1 and DeepSeek state the stretched length."""
    assert from_hf_config(config).max_context_tokens == tokens


def test_windows_follow_the_layer_types() -> None:
    base = {**LLAMA, "model_type": "gemma3_text", "sliding_window": 1024, "head_dim": 128, "num_hidden_layers": 12, "hidden_act": "gelu_pytorch_tanh"}
    windows = {block.mixer.window: block.repeat for block in from_hf_config(base).blocks if isinstance(block.mixer, Attention)}
    assert windows == {1024: 10, None: 2}
    stated = from_hf_config({**base, "layer_types": ["full_attention"] * 3 + ["sliding_attention"] * 9})
    assert {block.mixer.window: block.repeat for block in stated.blocks if isinstance(block.mixer, Attention)} == {None: 3, 1024: 9}


FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
INT4_EXPERTS = {
    "quant_method": "compressed-tensors",
    "config_groups": {"group_0": {"weights": {"type": "int", "num_bits": 4, "group_size": 32}}},
    "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"],
}


@pytest.mark.parametrize(
    ("config", "quantization", "expected"),
    [
        (LLAMA, None, ("bf16", "linear")),
        (LLAMA, FP8, ("fp8", "linear")),
        (LLAMA, {"quant_method": "awq", "bits": 4}, ("int4", "linear")),
        (LLAMA, {"quant_method": "gptq", "bits": 8}, ("int8", "linear")),
        (LLAMA, {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}, ("nvfp4", "linear")),
        (LLAMA, {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": [f"model.layers.{i}.self_attn*" for i in range(32)]}, ("nvfp4", "ffn")),
        (LLAMA, {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.0.post_attention_layernorm"] * 32}, ("fp8", "linear")),
        (QWEN_MOE, {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}, ("mxfp4", "experts")),
        (DEEPSEEK, INT4_EXPERTS, ("int4", "experts")),
    ],
)
def test_precision_and_the_part_that_has_it(config: dict[str, Any], quantization: dict[str, Any] | None, expected: tuple[str, str]) -> None:
    model = from_hf_config({**config, "quantization_config": quantization})
    assert (model.native_precision, model.quantized_part) == expected


def test_mixed_precision_takes_that_of_the_experts() -> None:
    layers = {f"model.layers.{i}.mlp.experts": {"quant_algo": "NVFP4"} for i in range(48)}
    layers |= {f"model.layers.{i}.self_attn.q_proj": {"quant_algo": "FP8"} for i in range(48)}
    model = from_hf_config(QWEN_MOE, hf_quant={"quantization": {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}})
    assert (model.native_precision, model.quantized_part) == ("nvfp4", "experts")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "lama"}, "not supported: model_type 'lama'; did you mean 'llama'"),
        ({"model_type": "deepseek_v4"}, "hyper-connections"),
        ({"model_type": "kimi_linear"}, "Kimi delta attention"),
        ({"hidden_act": "situ"}, "hidden_act = 'situ'"),
        ({"q_lora_rank": 64}, "not supported: q_lora_rank = 64"),
        ({"num_experts": 8}, "num_experts = 8"),
        ({"quantization_config": {"quant_method": "magic"}}, "quantisation method 'magic'"),
        ({"quantization_config": {"quant_algo": "FP3"}}, "quantisation 'FP3'"),
        ({"dtype": "float13"}, "dtype 'float13'"),
        ({"num_attention_heads": 7}, "hidden_size 4096 is no multiple"),
        ({"num_key_value_heads": 5}, "multiple of kv_heads"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "big"}, "must be a whole number"),
        ({"num_hidden_layers": 10**9}, "at most 10,000"),
        ({"text_config": {"hidden_size": 3}}, "text_config in a config of model_type 'llama'"),
    ],
)
def test_refusals_name_the_part(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        from_hf_config({**LLAMA, **change})


def test_a_config_without_model_type_is_refused() -> None:
    with pytest.raises(SpecError, match="names its model_type"):
        from_hf_config({"hidden_size": 3})


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 10**13), st.floats(allow_nan=True), st.text(max_size=5),
    st.lists(st.one_of(st.integers(-1, 3), st.text(max_size=3), st.lists(st.integers(0, 2))), max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)  # fmt: skip


def assert_read_or_refused(config: dict[str, Any]) -> None:
    try:
        parameters, message = parameter_count(from_hf_config(config)).total, "read"
    except SpecError as error:
        parameters, message = 1, str(error)
    assert parameters > 0
    assert message
    assert "\n" not in message


@given(config=st.sampled_from([LLAMA, QWEN_MOE, DEEPSEEK, NEMOTRON, GPT2, QWEN_HYBRID]), data=st.data())
def test_a_damaged_config_is_read_or_refused_in_one_sentence(config: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from([*config, "layer_types", "quantization_config", "text_config", "num_experts", "mlp_only_layers", "sliding_window"]))
    damaged = {**copy.deepcopy(config), key: data.draw(JUNK)}
    if key == "quantization_config":
        inner = data.draw(st.sampled_from(["quant_method", "quant_algo", "config_groups", "ignore", "quantized_layers", "bits"]))
        damaged[key] = {**copy.deepcopy(data.draw(st.sampled_from([FP8, INT4_EXPERTS]))), inner: data.draw(JUNK)}
    assert_read_or_refused(damaged)


@given(part=st.sampled_from(["text_config", "vision_config"]), data=st.data())
def test_a_damaged_part_is_read_or_refused_in_one_sentence(part: str, data: st.DataObject) -> None:
    damaged = copy.deepcopy(QWEN_VL)
    damaged[part][data.draw(st.sampled_from([*damaged[part], "model_type"]))] = data.draw(JUNK)
    assert_read_or_refused(damaged)


def test_a_folder_with_its_quantisation(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert read_hf_folder(tmp_path).native_precision == "bf16"
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "FP8"}}))
    assert read_hf_folder(tmp_path).native_precision == "fp8"
    assert read_hf_folder(tmp_path / "config.json").native_precision == "fp8"


def test_a_table_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "meta-llama--Llama-3.1-8B_config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "x--y_config.json").write_text(json.dumps({**LLAMA, "model_type": "rwkv7"}))
    (tmp_path / "z--broken_config.json").write_text("{")
    rows = hf_table(tmp_path)
    assert [row.status for row in rows] == ["imported", "refused", "refused"]
    assert rows[0].parameters == 8_030_261_248
    assert rows[0].error == pytest.approx(0.0, abs=5e-4)
    assert "rwkv7" in (rows[1].message or "")
    assert "line 1" in (rows[2].message or "")
    with pytest.raises(SpecError, match="no such folder"):
        hf_table(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match=r"no \*config.json"):
        hf_table(tmp_path / "empty")


def _reference_configs() -> list[Path]:
    folders = [Path(folder) / "hf_configs" for folder in os.environ.get("EFFSIM_DATA", "").split(os.pathsep) if folder]
    return [path for folder in folders for path in sorted(folder.glob("*_config.json")) if not path.name.endswith("hf_quant_config.json")]


@pytest.mark.parametrize(
    "path", _reference_configs() or [pytest.param(None, marks=pytest.mark.skip(reason="EFFSIM_DATA has no hf_configs"))], ids=lambda p: p and p.name
)
def test_published_configs_import_within_two_percent_or_are_refused_by_name(path: Path) -> None:
    row = hf_row(path)
    if row.status == "refused":
        assert "not supported: " in (row.message or "")
        assert any(part in path.name for part in ("DeepSeek-V4", "Kimi-K3"))
    else:
        assert row.error is not None, "the catalog has no published size for this model"
        assert abs(row.error) < 0.02
