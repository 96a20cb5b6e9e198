"""Rows of public tables of single devices, turned into what the model is asked: device, model, number format, tokens."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MODELS: Final = {
    "LLaMA-2-7B": "llama-2-7b",
    "Llama 2 7B": "llama-2-7b",
    "Llama-3 8B": "llama-3-8b",
    "Llama 3 8B": "llama-3-8b",
    "Llama-3 70B": "llama-3-70b",
    "Llama 3.1 8B": "llama-3.1-8b",
    "Llama 3.1:70b": "llama-3.1-70b",
    "Llama 3.2 1B": "llama-3.2-1b",
    "Llama 3.2 3B": "llama-3.2-3b",
    "Llama 3.2:3b": "llama-3.2-3b",
    "DeepSeek R1 14b": "qwen2.5-14b",  # the distilled model has the sizes of Qwen2.5 14B
    "gpt-oss 20b": "gpt-oss-20b",
    "Qwen2.5 7B": "qwen2.5-7b",
    "Qwen3-VL-2B": "qwen3-vl-2b",
    "Qwen3-VL-4B": "qwen3-vl-4b",
    "Gemma 2 2B": "gemma-2-2b",
    "Gemma 2 9B": "gemma-2-9b",
    "Gemma3-1B": "gemma-3-1b",
    "Phi 3.5 3B": "phi-3.5-mini",
    "TinyLlama 1.1B": "tinyllama-1.1b",
    "13B GPT": "llama-13b",  # 40 layers of width 5,120, as GPT 13B
}
_CARDS: Final = {
    "RTX PRO 6000 Blackwell": "rtx_pro_6000_server",
    "RTX 4090": "rtx_4090",
    "4090 24GB": "rtx_4090",
    "RTX 3090": "rtx_3090",
    "3090 24GB": "rtx_3090",
    "A40 48GB": "a40",
    "L40S 48GB": "l40s",
    "A100 PCIe 80GB": "a100_pcie_80gb",
    "A100 SXM 80GB": "a100_sxm_80gb",
    "A100 SXM 40GB": "a100_sxm_40gb",
    "H100 PCIe 80GB": "h100_pcie",
    "Intel 265K Custom PC (Nvidia RTX 4090)": "rtx_4090",
    "Intel 13900K (Nvidia 4090)": "rtx_4090",
    "Ryzen 9 7900X (Nvidia 4090)": "rtx_4090",
    "Pi CM5 - 16GB (Nvidia RTX 4090)": "rtx_4090",
}
_APPLE: Final = {
    "M1 7-Core GPU 8GB": ("m1", 7),
    "M1 Max 32-Core GPU 64GB": ("m1_max", 32),
    "M1 Ultra (48 GPU Core) 64GB": ("m1_ultra", 48),
    "M1 Max Mac Studio (10 core - 64GB)": ("m1_max", None),
    "MacBook Pro M3 (2023)": ("m3", 10),
}
_BOARDS: Final = {
    "Jetson Orin Nano 8GB (15W mode)": "jetson_orin_nano_8gb",
    "Jetson Orin NX 16GB": "jetson_orin_nx_16gb",
}
_PHONES: Final = {
    "OnePlus 12 (Snapdragon 8 Gen 3), CPU XNNPACK+KleidiAI": "snapdragon_8_gen3",
    "Galaxy S24 Ultra": "snapdragon_8_gen3",
    "Samsung Galaxy S24": "snapdragon_8_gen3",
    "Snapdragon 8 Elite QRD": "snapdragon_8_elite",
}
_NOT_STATED: Final = {"H100": "whether PCIe, SXM or NVL is not stated", "A100": "whether PCIe or SXM, 40 or 80 GB is not stated"}
# MLC, ExecuTorch, LiteRT-LM and Genie quantise the head too, to 4 or 8 bits; q4_0 (4.5 bits, head 6.6) is nearest in bytes.
_FORMATS: Final = {
    "F16": "fp16",
    "f16": "fp16",
    "fp16": "fp16",
    "BF16": "bf16",
    "q8_0": "q8_0",
    "q4_0": "q4_0",
    "Q4_0": "q4_0",
    "Q4_K_M": "q4_k_m",
    "INT4 (MLC q4f16_ft)": "q4_0",
    "SpinQuant int4": "q4_0",
    "QAT+LoRA int4": "q4_0",
    "4-bit per-channel": "q4_0",
    "w4": "q4_0",
    "w4a16": "q4_0",
    "w8a8": "int8",
}
_DEFAULT: Final = "Ollama/llama.cpp default"
_NAMED: Final = re.compile(r"^(?:(f16|q8_0|q4_0|fp16|w4a16|w8a8)_)?(tg|pp|prefill)(\d*)_tok_s$")
_WHERE_PCS_ARE: Final = ("Intel", "Ryzen")


@dataclass(frozen=True, slots=True)
class Run:
    """One measured figure of one row.

    Args:
        row: Identifies it.
        cell: Group of the report: class of device, and what computes where it is not the unit that the catalog describes.
        model: Catalog key.
        accelerator: Catalog key.
        cores: Of the GPU, where the source states them.
        precision: Number format of the weights.
        engine: Catalog key; ``llama.cpp`` stands for other runtimes of single devices.
        quantity: ``decode_tokens_per_s``, ``prefill_tokens_per_s`` or ``wall_power_w``.
        tokens: Prompt length of prefill; length at the end of decode.
        from_empty: Decode starts without a prompt, as llama-bench does.
        measured: In tokens per second or watts.
    """

    row: str
    cell: str
    model: str
    accelerator: str
    cores: int | None
    precision: str
    engine: str
    quantity: str
    tokens: int
    from_empty: bool
    measured: float


def runs(record: Mapping[str, Any]) -> tuple[list[Run], list[str]]:
    """Return the measured figures of a record that can be asked for, and why others cannot."""
    x, measured = record["inputs"], dict(record["measured"])
    device = x.get("device") or f"{x['accelerator'].removesuffix(' 40GB')} 40GB"
    found = _device(device, x)
    model = MODELS.get(x["model"])
    if isinstance(found, str) or model is None:
        return [], [found if isinstance(found, str) else f"the model {x['model']} is not in the catalog, or its size is not stated"]
    accelerator, cores, cell = found
    if "decode_latency_ms_per_token" in measured:
        measured = {"tg_tok_s": 1e3 / measured["decode_latency_ms_per_token"], "pp512_tok_s": 512e3 / measured["prefill_latency_ms"]}
    if "ttft_ms_max" in measured:
        measured.pop("prefill_tok_s_at_max_ctx", None)
    other_unit = "decode only" in cell
    taken, left = [], []
    engine = "tensorrt-llm" if record["kind"] == "llm_inference_latency" else "llama.cpp"
    for name, value in measured.items():
        kind = _NAMED.match(name)
        if kind is None or (other_unit and kind[2] != "tg"):
            continue
        precision = _precision(kind[1], x)
        if precision is None:
            left.append(f"the number format of {name} is not known")
            continue
        prefill = kind[2] != "tg"
        tokens = int(kind[3] or x.get("prompt_tokens" if prefill else "gen_tokens") or x.get("prefill_tokens") or (2048 if prefill else 512))
        common = (f"{record['id']} {name}", cell, model, accelerator, cores, precision, engine)
        taken.append(Run(*common, "prefill_tokens_per_s" if prefill else "decode_tokens_per_s", tokens, bool(kind[3]), float(value)))
    if "peak_wall_power_w" in measured and taken and cell == "workstation card":
        if device.startswith(_WHERE_PCS_ARE):
            taken.append(Run(f"{record['id']} wall", *common[1:], "wall_power_w", 512, from_empty=False, measured=float(measured["peak_wall_power_w"])))
        else:
            left.append("power at the wall: the host is not in the catalog")
    return taken, left


def _device(device: str, x: Mapping[str, Any]) -> tuple[str, int | None, str] | str:
    """Return accelerator, cores and cell, or why the row is left out."""
    if device in _NOT_STATED:
        return f"{device}: {_NOT_STATED[device]}"
    if "/CPU" in str(x.get("compute")):
        return f"{device}: part of the model ran on the CPU"
    if device in _CARDS:
        key = _CARDS[device]
        return key, None, "workstation card" if key.startswith(("rtx_4", "rtx_3")) else "data-centre card"
    if device in _APPLE:
        key, cores = _APPLE[device]
        return key, cores, "Apple silicon, CPU: decode only" if x.get("backend") == "CPU" else "Apple silicon"
    if device.startswith("Apple M"):
        return device.removeprefix("Apple ").lower().replace(" ", "_"), int(x["gpu_cores"]), "Apple silicon"
    if device in _BOARDS:
        return _BOARDS[device], None, "Jetson"
    if device in _PHONES:
        return _PHONES[device], None, "phone, CPU or NPU: decode only"
    return f"{device}: not in the catalog, or its figures are those of another unit"


def _precision(named: str | None, x: Mapping[str, Any]) -> str | None:
    quant = named or x.get("quant") or x.get("precision")
    if quant is not None and str(quant).startswith(_DEFAULT):
        return "mxfp4" if "gpt-oss" in x["model"] else "q4_k_m"
    return _FORMATS.get(str(quant))
