"""What recipes of Megatron-Bridge set about memory beside the columns of its tables.

Read in ``scripts/performance/configs`` of NVIDIA-NeMo/Megatron-Bridge (several dates of 2025 and 2026): ``recompute_modules``,
``cpu_offloading_num_layers``, ``grad_reduce_in_fp32``, layers that stay in bf16 (none: ``utils/precision.py``), and
the optimizer's dtypes of the model's recipe.
"""

from typing import Any, Final

from effsim.specs import loading
from effsim.specs.engine import Engine
from effsim.validate.training.case import Record

OFFLOADED_LAYERS: Final = {
    ("LLAMA3_70B", "DGX-GB300", "bf16"): (30, 80),
    ("LLAMA3_70B", "DGX-GB300", "fp8"): (20, 80),
    ("LLAMA3_70B", "DGX-GB200", "bf16"): (20, 80),
    ("LLAMA3_70B", "DGX-GB200", "fp8"): (40, 80),
    ("LLAMA3_70B", "DGX-B200", "fp8"): (5, 80),
    ("LLAMA3.1_405B", "DGX-GB300", "bf16"): (40, 126),
    ("LLAMA3.1_405B", "DGX-GB300", "fp8"): (10, 126),
    ("LLAMA3.1_405B", "DGX-GB200", "fp8"): (95, 126),
}
"""Layers whose activations go to the host, of all, where the weights are sharded (``fsdp``)."""

RECOMPUTED: Final = {
    ("DeepSeekV3", "DGX-H100", "fp8"): "mla_up_proj+mlp",
    ("DeepSeekV3", "DGX-H100", "bf16"): "mla_up_proj+mlp",
    ("DeepSeekV3", "DGX-B200", "bf16"): "mla_up_proj",
    ("DeepSeekV3", "DGX-B200", "fp8"): "mla_up_proj",
    ("DeepSeekV3", "DGX-B200", "mxfp8"): "mla_up_proj",
    ("DeepSeekV3", "DGX-GB200", "bf16"): "mla_up_proj",
    ("DeepSeekV3", "DGX-GB200", "fp8"): "mlp",
    ("DeepSeekV3", "DGX-GB200", "mxfp8"): "mla_up_proj",
    ("GPT OSS 120B", "DGX-H100", "bf16"): "layernorm+moe_act",
    ("GPT OSS 120B", "DGX-B200", "bf16"): "layernorm+moe_act",
    ("GPT OSS 120B", "DGX-GB200", "bf16"): "layernorm+moe_act",
    ("Nemotron_3_Nano", "DGX-H100", "bf16"): "layernorm+moe",
    ("Nemotron_3_Nano", "DGX-H100", "fp8"): "core_attn+layernorm+moe",
}
STATED_OTHERWISE: Final = {("GPT OSS 120B", "DGX-H100"): 1}
"""Micro-batches of recipe files where the tables print another: what such a run recomputed is not stated."""
OVERLAPPED_STAGES: Final = 8
"""Of DeepSeek-V3 in MXFP8 on B200, where the recipe recomputes the dense layers' feed-forward parts, too."""
BLOCKS: Final = ("DeepSeekV3", "DGX-H100")
"""Whose FP8 has a scale for each block (``fp8_sc``); the other rows in FP8 are of current scaling (``fp8_cs``), one scale for each tensor."""
BF16_MOMENTS: Final = frozenset({"DeepSeekV3"})
"""Models whose recipe sets ``exp_avg_dtype`` and ``exp_avg_sq_dtype`` to bf16 with the precision-aware optimizer."""


def memory_settings(record: Record, precision: str) -> dict[str, Any]:
    """Return arguments of :func:`effsim.estimate_training` that the recipe of a row sets.

    Args:
        record: Of a performance summary.
        precision: As the model names it.
    """
    x = record["inputs"]
    name, _, _ = str(x["model"]).partition(" (")
    key = (name, str(x["system"]), precision)
    if str(x.get("mode", "")).startswith("LoRA"):
        return {}
    found: dict[str, Any] = {"gradient_bytes": 2.0}
    if precision == "nvfp4":
        found["wide_share"] = 0.0
    if precision == "fp8" and key[:2] != BLOCKS:
        found["amax_reads"] = 1.0
    if key in RECOMPUTED:
        found["recompute"] = RECOMPUTED[key]
        if key == ("DeepSeekV3", "DGX-B200", "mxfp8") and x.get("pipeline_parallel") == OVERLAPPED_STAGES:
            found["recompute"] = "mla_up_proj+mlp"
    if x.get("fsdp") and key in OFFLOADED_LAYERS:
        layers, of = OFFLOADED_LAYERS[key]
        found["offload_activations"] = layers / of
    if name in BF16_MOMENTS:
        found["optimizer"] = "adam_bf16"
    return found


def engine_of(precision: str) -> Engine:
    """Return Megatron as the recipes run it: in NVFP4 they set ``tp_comm_overlap`` to false."""
    engine = loading.engine("megatron")
    if precision != "nvfp4" or engine.collective_overlap is None:
        return engine
    return engine.model_copy(update={"collective_overlap": engine.collective_overlap.model_copy(update={"value": 0.0})})


def unstated(record: Record) -> str | None:
    """Return why the recipe of a row may not be that of its run, if so."""
    x = record["inputs"]
    stated = STATED_OTHERWISE.get((str(x["model"]).partition(" (")[0], str(x["system"])))
    if stated is None or stated == x.get("micro_batch_size"):
        return None
    return f"the recipe file has a micro-batch of {stated}, the table {x['micro_batch_size']}: what the run recomputed is not stated"
