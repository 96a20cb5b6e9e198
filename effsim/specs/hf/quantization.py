"""The precision of a published checkpoint, read from its quantisation config."""

import re
from collections import Counter
from typing import Any, Final

from effsim.errors import SpecError, shown

DTYPES: Final = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "bf16": "bf16", "fp16": "fp16"}
ALGORITHMS: Final = {
    "FP8": "fp8", "FP8_PER_CHANNEL_PER_TOKEN": "fp8", "FP8_PB_WO": "fp8", "FP8_PB_REAL": "fp8", "FP8_BLOCK_SCALES": "fp8", "W8A8_FP8": "fp8",
    "MXFP8": "fp8", "NVFP4": "nvfp4", "NVFP4_AWQ": "nvfp4", "W4A16_NVFP4": "nvfp4", "MXFP4": "mxfp4", "W4A16_MXFP4": "mxfp4",
    "W4A16": "int4", "W4A16_AWQ": "int4", "W4A8_AWQ": "int4", "W4A16_GPTQ": "int4", "INT4": "int4", "INT8": "int8", "W8A16": "int8",
    "W8A8_SQ_PER_CHANNEL": "int8", "W8A8_SQ_PER_TENSOR_PLUGIN": "int8", "INT8_SQ": "int8",
}  # fmt: skip
"""ModelOpt's ``quant_algo`` -> precision."""

_ATTENTION: Final = re.compile(r"attn|attention|q_proj|qkv|q_a_proj", re.IGNORECASE)
_SHARED_OR_DENSE: Final = re.compile(r"shared_expert|mlp\\?\.\(gate|\.mlp\.(gate|up|down)_proj", re.IGNORECASE)
_LAYER: Final = re.compile(r"layers\.(\d+)")


def read(config: dict[str, Any], hf_quant: dict[str, Any] | None, where: str, layers: int, *, mixture: bool) -> tuple[str, str]:
    """Return the native precision and the part of the model that has it: ``linear``, ``ffn`` or ``experts``.

    Where a checkpoint mixes precisions, the one that most experts (or feed-forward modules) have is the precision, and its
    modules are the quantised part; the rest counts as unquantised.

    Args:
        config: The whole config.json.
        hf_quant: The hf_quant_config.json beside it, where there is one.
        where: Names the config in messages.
        layers: Layers of the text model.
        mixture: Whether it has routed experts.

    Raises:
        SpecError: A method or algorithm that EffSim does not know.
    """
    text = _mapping(config.get("text_config"), "text_config", where)
    stated = text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    if not isinstance(stated, str) or stated not in DTYPES:
        raise SpecError(f"{where}: not supported: dtype {shown(stated)}")
    quantization = _mapping(config.get("quantization_config") or text.get("quantization_config"), "quantization_config", where)
    modelopt = _mapping((hf_quant or {}).get("quantization"), "quantization", where)
    if not modelopt and not quantization:
        return DTYPES[stated], "linear"
    merged = {**quantization, **{key: value for key, value in modelopt.items() if value is not None}}
    layered = _mapping(merged.get("quantized_layers"), "quantized_layers", where)
    chosen = _dominant(layered, where) if merged.get("quant_algo") == "MIXED_PRECISION" else None
    modules = [name for name, how in layered.items() if isinstance(how, dict) and how.get("quant_algo") == chosen]
    precision = _precision({**merged, "quant_algo": chosen or merged.get("quant_algo")}, where)
    return precision, _part(_excluded(merged), modules, layers, mixture=mixture)


def _mapping(value: Any, key: str, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SpecError(f"{where}: {key} must be a mapping, got {str(value)[:60]!r}")
    return value


def _precision(quantization: dict[str, Any], where: str) -> str:
    algorithm = quantization.get("quant_algo")
    if algorithm is not None:
        return _known(ALGORITHMS, str(algorithm).upper(), where)
    method = str(quantization.get("quant_method") or "").lower()
    bits = quantization.get("bits", quantization.get("w_bit"))
    match method:
        case "fp8" | "fbgemm_fp8" | "mxfp4":
            return "mxfp4" if method == "mxfp4" else "fp8"
        case "awq" | "gptq" | "awq_marlin" | "gptq_marlin":
            return _known({"4": "int4", "8": "int8"}, str(4 if bits is None and method.startswith("awq") else bits), where)
        case "bitsandbytes":
            return "int8" if quantization.get("load_in_8bit") else "int4"
        case "compressed-tensors":
            return _compressed(quantization, where)
    raise SpecError(f"{where}: not supported: quantisation method {shown(method or quantization)}")


def _known(table: dict[str, str], key: str, where: str) -> str:
    if key not in table:
        raise SpecError(f"{where}: not supported: quantisation {shown(key)} (known: {', '.join(sorted(table))})")
    return table[key]


def _dominant(modules: dict[str, Any], where: str) -> str:
    """Return the algorithm of most routed experts, else of most feed-forward modules, else of most modules."""
    experts = {name: how for name, how in modules.items() if "experts" in name and "shared" not in name}
    dense = {name: how for name, how in modules.items() if ".mlp." in name or ".ffn." in name}
    counts = Counter(str(how.get("quant_algo")) for how in (experts or dense or modules).values() if isinstance(how, dict))
    if not counts:
        raise SpecError(f"{where}: not supported: mixed precision without quantized_layers")
    return counts.most_common(1)[0][0]


def _compressed(quantization: dict[str, Any], where: str) -> str:
    groups = _mapping(quantization.get("config_groups"), "config_groups", where)
    weights = [_mapping(_mapping(group, "group", where).get("weights"), "weights", where) for group in groups.values()]
    kinds = {_weight_kind(one) for one in weights}
    if len(kinds) != 1:
        raise SpecError(f"{where}: not supported: compressed-tensors with {len(kinds)} kinds of weights")
    return _known({"int 4": "int4", "int 8": "int8", "float 8": "fp8", "float 4 16": "nvfp4", "float 4 32": "mxfp4"}, kinds.pop(), where)


def _weight_kind(weights: dict[str, Any]) -> str:
    """Return type and bits; of 4-bit floats also the group size, by which NVFP4 (16) and MXFP4 (32) differ."""
    kind = f"{weights.get('type')} {weights.get('num_bits')}"
    return f"{kind} {weights.get('group_size')}" if kind == "float 4" else kind


def _excluded(quantization: dict[str, Any]) -> list[str]:
    lists = (quantization.get(key) or [] for key in ("exclude_modules", "ignore", "modules_to_not_convert", "ignored_layers"))
    return [str(name) for names in lists if isinstance(names, list) for name in names]


def _part(excluded: list[str], quantized: list[str], layers: int, *, mixture: bool) -> str:
    """Return what is quantised: everything linear unless attention is spared in at least half of the layers."""
    if not _spared(excluded, quantized, _ATTENTION, layers):
        return "linear"
    if mixture and (_spared(excluded, quantized, _SHARED_OR_DENSE, layers) or not any("shared" in name for name in quantized)):
        return "experts"
    return "ffn"


def _spared(excluded: list[str], quantized: list[str], what: re.Pattern[str], layers: int) -> bool:
    if quantized:
        return not any(what.search(name) for name in quantized)
    named = [name for name in excluded if what.search(name) and "norm" not in name and "indexer" not in name]
    if any(not _LAYER.search(name) for name in named):  # a pattern for all layers
        return True
    spared = {match.group(1) for name in named if (match := _LAYER.search(name))}
    return 2 * len(spared) >= layers
