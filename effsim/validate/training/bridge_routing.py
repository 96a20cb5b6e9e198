"""What recipes of Megatron-Bridge set about mixture layers beside the columns of its tables.

Read in ``scripts/performance/configs`` of NVIDIA-NeMo/Megatron-Bridge (dates from 2025-09 to 2026-09): ``moe_flex_dispatcher_backend``,
``moe_a2a_overlap``, ``cuda_graph_impl`` with ``cuda_graph_scope``, ``cutedsl_fused_grouped_mlp``. The repository's dates are not the
containers': where a setting changed, it is taken to hold from the container whose rows have the splits of the changed recipe.
"""

import dataclasses
from typing import Final

from effsim.cost.routing import Routing
from effsim.validate.training.case import Record

MIXTURES: Final = frozenset({"DeepSeekV3", "GPT OSS 120B", "Qwen3_30B_a3B", "Qwen3_235B_a22B", "Nemotron_3_Nano"})
SETTLED: Final = "26.04"
"""Containers before it ran recipes whose dispatcher and graphs changed between the dates that were read; containers name no commit."""
SCOPED: Final = frozenset({"DeepSeekV3", "Qwen3_30B_a3B", "Nemotron_3_Nano"})
"""Whose recipes for Blackwell capture routers (``transformer_engine`` graphs with ``moe_router``) from container 26.02 on."""
SCOPED_SINCE: Final = "26.02"
CAPTURED: Final = {"DeepSeekV3": True, "GPT OSS 120B": True, "Qwen3_30B_a3B": False}
"""Whose recipes for GB200 in MXFP8 capture the whole step and fuse the experts from 26.06 on; whether they overlap the all-to-all, too."""
CAPTURED_SINCE: Final = "26.06"
OVERLAPPED_STAGES: Final = 8
"""Of DeepSeek-V3 in MXFP8 on B200 in the recipe that overlaps the all-to-all; with 16 stages it does not."""


def routing(record: Record, precision: str) -> Routing:
    """Return how the recipe of a row of a performance summary runs its mixture layers.

    Args:
        record: The row.
        precision: As the model names it.
    """
    x = record["inputs"]
    name, _, variant = str(x["model"]).partition(" (")
    system, stages, release = str(x["system"]), x.get("pipeline_parallel") or 1, str(x.get("container", ""))
    found = Routing(dispatcher="alltoall" if _permutes(name, variant, system, stages, x["micro_batch_size"]) else "fused")
    if name in SCOPED and system != "DGX-H100" and release >= SCOPED_SINCE:
        found = dataclasses.replace(found, cuda_graphs="router")
    if name in CAPTURED and (system, precision) == ("DGX-GB200", "mxfp8") and release >= CAPTURED_SINCE:
        found = Routing(overlapped=CAPTURED[name], cuda_graphs="step", dispatcher="fused", fused_experts=True)
    if name == "DeepSeekV3" and (system == "DGX-H100" or (system, precision, stages) == ("DGX-B200", "mxfp8", OVERLAPPED_STAGES)):
        found = dataclasses.replace(found, overlapped=True)
    return found


def _permutes(name: str, variant: str, system: str, stages: int, micro_batch_size: int) -> bool:
    """Return whether tokens are permuted by kernels: with dropping, in GPT OSS, and in Qwen3 before its recipes had HybridEP."""
    early = name == "Qwen3_30B_a3B" and (stages > 1 or (system, micro_batch_size) == ("DGX-B200", 1))
    return "tokendrop" in variant or name == "GPT OSS 120B" or early
