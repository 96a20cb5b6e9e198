"""NeMo Megatron-Bridge performance summaries, and NeMo's long-sequence table.

What the summaries leave open (recomputation, overlap) is read in scripts/performance/configs of NVIDIA-NeMo/Megatron-Bridge.
"""

from typing import Any, Final

from effsim.specs.model import MoeFfn, Transformer
from effsim.specs.models import model
from effsim.validate.training.bridge_recipes import engine_of, memory_settings, unstated
from effsim.validate.training.bridge_routing import MIXTURES, SETTLED, routing
from effsim.validate.training.case import NotStatedError, Record, Setup, data_parallel, stated

MODELS: Final = {
    "LLAMA3_8B": "llama-3-8b",
    "LLAMA3_70B": "llama-3-70b",
    "LLAMA3.1_405B": "llama-3.1-405b",
    "DeepSeekV3": "deepseek-v3",
    "GPT OSS 120B": "gpt-oss-120b",
    "Qwen3_30B_a3B": "qwen3-30b-a3b",
    "Qwen3_235B_a22B": "qwen3-235b-a22b",
    "Nemotron_3_Nano": "nemotron-3-nano-30b-a3b",
}
ACCELERATORS: Final = {
    "DGX-H100": "h100_sxm",
    "DGX-B200": "b200_sxm",
    "DGX-B300": "b300_sxm",
    "DGX-GB200": "gb200",
    "DGX-GB300": "gb300",
}
PRECISIONS: Final = {"FP8": "fp8", "FP8-CS": "fp8", "FP8-CS (FP8-MX)": "fp8", "MXFP8": "mxfp8", "FP8-MX": "mxfp8", "NVFP4": "nvfp4", "BF16": "bf16"}


def performance_summary(record: Record) -> Setup:
    """Return a row of a performance summary, any container."""
    x = record["inputs"]
    name, _, variant = str(x["model"]).partition(" (")
    if name not in MODELS:
        raise NotStatedError(f"model {x['model']!r} is not in the catalog")
    if x.get("system") not in ACCELERATORS:
        raise NotStatedError(f"accelerator of {x.get('system')!r} is not in the catalog")
    accelerators, batch, micro, sequence = stated(record, "num_accelerators", "global_batch_size", "micro_batch_size", "seq_len")
    assumed = ["recomputation, offloading and widths of gradients and moments as in the recipes of Megatron-Bridge"]
    precision = PRECISIONS.get(str(x["precision"]))
    if precision is None:
        if "FP8 implied" not in str(x["precision"]):
            raise NotStatedError(f"precision {x['precision']!r}")
        precision = "fp8"
        assumed.append("FP8, as the footnote of the table implies")
    sharded = bool(x.get("fsdp"))
    arguments: dict[str, Any] = {
        "model": _with_prediction_layer(name, variant),
        "accelerator": ACCELERATORS[x["system"]],
        "num_accelerators": accelerators,
        "global_batch_size": batch,
        "micro_batch_size": micro,
        "sequence_length": sequence,
        "tensor_parallel": x.get("tensor_parallel") or 1,
        "pipeline_parallel": x.get("pipeline_parallel") or 1,
        "context_parallel": x.get("context_parallel") or 1,
        "virtual_pipeline_stages": x.get("virtual_pipeline") or 1,
        "expert_parallel": x.get("expert_parallel") or 1,
        "zero_stage": 3 if sharded else 1,
        "recompute": "none",
        "precision": precision,
        "engine": engine_of(precision),
        **memory_settings(record, precision),
    }
    if name in MIXTURES:
        arguments["routing"] = routing(record, precision)
    guessed = list(filter(None, [unstated(record)]))
    if name in MIXTURES and str(x.get("container", "")) < SETTLED:
        guessed.append("dispatcher and graphs of a container before the recipes that were read settled")
    if "tokendrop" in variant:
        arguments["capacity_factor"] = 1.0
        guessed.append("capacity factor 1")
    if str(x.get("mode", "")).startswith("LoRA"):
        arguments |= {"trainable": "lora", "lora_rank": 16}
        guessed.append("LoRA of rank 16 on attention")
    if batch % (micro * data_parallel(x)):
        raise NotStatedError("the global batch is no multiple of micro-batch x data-parallel ranks as printed")
    return Setup(arguments, batch * sequence / (accelerators * record["measured"]["tokens_per_s_per_gpu"]), tuple(assumed), tuple(guessed))


def _with_prediction_layer(name: str, variant: str) -> Any:
    """Return the model; DeepSeek-V3 trains its multi-token prediction layer too, unless the row says that it does not."""
    spec = model(MODELS[name])
    if name != "DeepSeekV3" or variant.startswith("w/o MTP") or not isinstance(spec, Transformer):
        return MODELS[name]
    blocks = tuple(b.model_copy(update={"repeat": b.repeat + 1}) if isinstance(b.ffn, MoeFfn) else b for b in spec.blocks)
    return spec.model_copy(update={"blocks": blocks, "name": f"{spec.name}-with-mtp"})


def long_sequence(record: Record) -> Setup:
    """Refuse the rows of NeMo's long-sequence table.

    Raises:
        NotStatedError: Always: neither micro-batch nor whether attention FLOPs are halved is stated, and at 65,536 tokens the latter
            alone changes the step time that is meant by 36 % and more.
    """
    x = record["inputs"]
    ranks = x["tensor_parallel"] * x["pipeline_parallel"] * x["data_parallel"] * x["context_parallel"]
    mismatch = f"; printed ranks multiply to {ranks}, not {x['num_accelerators']}" if ranks != x["num_accelerators"] else ""
    raise NotStatedError(f"micro-batch and FLOP convention of attention are not stated{mismatch}")
