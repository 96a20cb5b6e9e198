"""Names of models: what leads to an architecture, at which precision, and what must not."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from effsim.errors import SpecError, UnknownNameError
from effsim.specs.model import Mlp, Transformer
from effsim.specs.models import model

VARIANTS = {
    "Qwen/Qwen3-8B": ("qwen3-8b", "bf16"),
    "qwen3_8b": ("qwen3-8b", "bf16"),
    "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8": ("qwen3-235b-a22b", "fp8"),
    "Qwen/Qwen3-235B-A22B-Thinking-2507": ("qwen3-235b-a22b", "bf16"),
    "Qwen/Qwen3-30B-A3B-Instruct-2507": ("qwen3-30b-a3b", "bf16"),
    "Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8": ("qwen3-coder-30b-a3b", "fp8"),
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": ("qwen3-coder-480b-a35b", "bf16"),
    "Qwen/Qwen3-32B-AWQ": ("qwen3-32b", "int4"),
    "Qwen/Qwen3-14B-Base": ("qwen3-14b", "bf16"),
    "nvidia/Qwen3-235B-A22B-NVFP4": ("qwen3-235b-a22b", "nvfp4"),
    "meta-llama/Meta-Llama-3.1-8B-Instruct": ("llama-3.1-8b", "bf16"),
    "meta-llama/Llama-3.1-70B-Instruct": ("llama-3.1-70b", "bf16"),
    "nvidia/Llama-3.1-70B-Instruct-FP8": ("llama-3.1-70b", "fp8"),
    "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic": ("llama-3.1-8b", "fp8"),
    "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16": ("llama-3.1-8b", "int4"),
    "meta-llama/Llama-3.1-405B-Instruct-FP8": ("llama-3.1-405b-fp8", "fp8"),
    "meta-llama/Llama-3.3-70B-Instruct": ("llama-3.3-70b", "bf16"),
    "meta-llama/Llama-3.2-1B-Instruct": ("llama-3.2-1b", "bf16"),
    "meta-llama/Llama-2-70b-chat-hf": ("llama-2-70b", "fp16"),
    "TheBloke/Llama-2-7B-Chat-GPTQ": ("llama-2-7b", "int4"),
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": ("llama-4-scout", "bf16"),
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8": ("llama-4-maverick", "fp8"),
    "mistralai/Mixtral-8x7B-Instruct-v0.1": ("mixtral-8x7b", "bf16"),
    "mistralai/Mistral-7B-Instruct-v0.3": ("mistral-7b-v0.3", "bf16"),
    "google/gemma-3-27b-it": ("gemma-3-27b", "bf16"),
    "google/gemma-3-1b-pt": ("gemma-3-1b", "bf16"),
    "microsoft/phi-4": ("phi-4", "bf16"),
    "openai/gpt-oss-20b": ("gpt-oss-20b", "mxfp4"),
    "unsloth/gpt-oss-20b-BF16": ("gpt-oss-20b", "bf16"),
    "deepseek-ai/DeepSeek-R1-0528": ("deepseek-r1", "fp8"),
    "deepseek-ai/DeepSeek-V3-0324": ("deepseek-v3", "fp8"),
    "deepseek-ai/DeepSeek-V3.1": ("deepseek-v3.1", "fp8"),
    "nvidia/DeepSeek-V3.1-NVFP4": ("deepseek-v3.1-nvfp4", "nvfp4"),
    "moonshotai/Kimi-K2-Instruct": ("kimi-k2", "fp8"),
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": ("nemotron-nano-9b-v2", "bf16"),
    "nvidia/Nemotron-H-56B-Base-8K": ("nemotron-h-56b", "bf16"),
    "HuggingFaceTB/SmolLM-1.7B-Instruct": ("smollm-1.7b", "bf16"),
    "bigscience/bloom": ("bloom-176b", "bf16"),
    "facebook/opt-175b": ("opt-175b", "fp16"),
    "google-bert/bert-large-uncased": ("bert-large", "fp32"),
}


@pytest.mark.parametrize(("name", "expected"), VARIANTS.items())
def test_variants_lead_to_their_architecture_and_precision(name: str, expected: tuple[str, str]) -> None:
    found = model(name)
    assert (found.name, found.native_precision) == expected
    assert model(name.upper() if "/" not in name else name).name == expected[0]


@pytest.mark.parametrize(
    "name",
    [
        "qwen3", "llama", "llama-3", "llama-3.1", "gpt-3", "Qwen/Qwen3-9B", "meta-llama/Llama-3.1-8", "llama-3.1-8b-70b", "mistralai/Mistral-7B-v0.2",
        "deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "Qwen/Qwen3-Next-80B-A3B-Instruct", "instruct", "-fp8", "",
        "Qwen/", "gemma-3", "Qwen/Qwen3-8B-Embedding", "megatron",
    ],
)  # fmt: skip
def test_a_name_is_never_taken_for_another_size_or_generation(name: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown model"):
        model(name)


def test_a_typo_gets_the_nearest_names() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'llama-3.1-70b'"):
        model("lama-3.1-70b")


def test_the_catalog_entry_is_not_changed_by_a_variant() -> None:
    assert model("qwen3-8b-fp8").native_precision == "fp8"
    assert model("qwen3-8b").native_precision == "bf16"


def test_low_precision_of_experts() -> None:
    native, widened = model("openai/gpt-oss-120b"), model("gpt-oss-120b-bf16")
    assert isinstance(native, Transformer)
    assert isinstance(widened, Transformer)
    assert (native.quantized_part, widened.quantized_part) == ("experts", "linear")
    mixture = model("mixtral-8x7b-mxfp4")
    assert isinstance(mixture, Transformer)
    assert mixture.quantized_part == "experts"


def test_metas_fp8_checkpoint_keeps_attention_as_it_is() -> None:
    own, other = model("meta-llama/Meta-Llama-3.1-405B-Instruct-FP8"), model("RedHatAI/Meta-Llama-3.1-405B-Instruct-FP8")
    assert isinstance(own, Transformer)
    assert isinstance(other, Transformer)
    assert (own.quantized_part, other.quantized_part) == ("ffn", "linear")


def test_files_folders_dicts_and_models(tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 100}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for given in (config, tmp_path, str(tmp_path), tmp_path / "config.json"):
        found = model(given)
        assert isinstance(found, Transformer)
        assert found.num_layers == 2
        assert model(found) is found
    entry = tmp_path / "own.yaml"
    entry.write_text("family: mlp\nname: own\nsources: {s: {title: by hand, date: '2026'}}\nlayer_sizes: [3, 2]\nactivation: relu\n")
    with pytest.raises(SpecError, match=r"own.yaml: published_parameters: this field is missing"):
        model(str(entry))
    entry.write_text(entry.read_text() + "published_parameters: {value: 8, kind: assumed, source: s}\n")
    assert isinstance(model(entry), Mlp)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("absent.yaml", "no such file"),
        ({"family": "diffusion"}, "expected transformer or mlp"),
        ({"hidden_size": 3}, "missing"),
        (7, "expected the name of a model"),
        ("absent/config.json", "no such file"),
    ],
)
def test_bad_input_is_one_sentence(given: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        model(given)  # type: ignore[arg-type]


def test_a_folder_without_config_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"a folder without config.json"):
        model(tmp_path)


def test_every_model_of_the_measured_runs_resolves_at_its_precision(reference_file: Callable[[str], Path]) -> None:
    names = {"bfloat16": "bf16", "fp8": "fp8", "mxfp4": "mxfp4"}
    with reference_file("mlenergy_v3_given.csv").open() as stream:
        rows = {(row["model_id"], row["weight_precision"]) for row in csv.DictReader(stream)}
    for model_id, precision in sorted(rows):
        assert model(model_id).native_precision == names[precision], model_id
