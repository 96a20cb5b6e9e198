"""Megatron-LM and Megatron-Core: SC'21 tables 1 and 2, H100 weak scaling, Llama in FP8."""

import re
from typing import Any, Final

from effsim.specs.models import model
from effsim.validate.training.case import NotStatedError, Record, Setup, stated

ENGINE: Final = "megatron"
ENGINE_2021: Final = "megatron-2021"
GPT3_PARAMS_B: Final = 174.6
SC21: Final = {
    "attention": "naive",
    "sequence_parallel": False,
    "recompute": "full",
    "precision": "fp16",
    "engine": ENGINE_2021,
    "accelerator": "a100_sxm_80gb",
}
"""Megatron-LM of 2021: attention scores in memory, neither sequence parallelism nor sharded optimizer, every layer recomputed."""


def sc21_flop(batch: float, sequence: float, layers: int, hidden: int, vocabulary: int) -> float:
    """Return the hardware FLOPs of a step as SC'21 counts them, full recomputation included.

    ``96 B s l h^2 (1 + s / 6h + V / 16 l h)``. Source: Narayanan et al., arXiv:2104.04473, equation 3.

    >>> round(sc21_flop(1536, 2048, 96, 12288, 51200) / 1e18, 2)
    4.51
    """
    return 96.0 * batch * sequence * layers * hidden**2 * (1.0 + sequence / (6.0 * hidden) + vocabulary / (16.0 * layers * hidden))


def megatron_core_flop(batch: float, sequence: float, layers: int, hidden: int, vocabulary: int) -> float:
    """Return the model FLOPs of a step as Megatron-Core logs them for a GPT whose feed-forward layer is 4 h wide.

    ``72 B s l h^2 (1 + s / 6h + V / 12 l h)``: three forward passes, attention in full. Source: ``num_floating_point_operations``
    of megatron/training/training.py, NVIDIA/Megatron-LM, core r0.8.0 (2024).

    >>> round(megatron_core_flop(192, 4096, 24, 2048, 131072) / 1e16, 2)
    0.89
    """
    return 72.0 * batch * sequence * layers * hidden**2 * (1.0 + sequence / (6.0 * hidden) + vocabulary / (12.0 * layers * hidden))


def sc21_table_1(record: Record) -> Setup:
    """Return a row of SC'21 table 1; all is stated but the optimizer's sharding, which Megatron-LM of 2021 did not have."""
    x = record["inputs"]
    layers, hidden, vocabulary, sequence = stated(record, "num_layers", "hidden_size", "vocab_size", "seq_len")
    key = f"megatron-{str(x['model']).removeprefix('GPT-').lower()}"
    spec: Any = model(key)
    if (spec.num_layers, spec.hidden_size, spec.vocab_size) != (layers, hidden, vocabulary):
        raise NotStatedError(f"the catalog's {key} is not the model of this row")
    batch, accelerators = x["global_batch_size"], x["num_accelerators"]
    chunk = x.get("layers_per_virtual_pipeline_stage")
    arguments = {
        **SC21,
        "model": key,
        "num_accelerators": accelerators,
        "global_batch_size": batch,
        "micro_batch_size": x["micro_batch_size"],
        "sequence_length": sequence,
        "tensor_parallel": x["tensor_parallel"],
        "pipeline_parallel": x["pipeline_parallel"],
        "virtual_pipeline_stages": layers // (x["pipeline_parallel"] * chunk) if chunk else 1,
        "zero_stage": 0,
    }
    flop = sc21_flop(batch, sequence, layers, hidden, vocabulary)
    return Setup(arguments, flop / (accelerators * record["measured"]["tflops_per_gpu"] * 1e12))


def sc21_table_2(record: Record) -> Setup:
    """Return a row of SC'21 table 2: GPT-3 175B with tensor and pipeline parallelism, or with ZeRO-3 alone."""
    x = record["inputs"]
    batch, micro, accelerators, sequence, ranks = stated(record, "global_batch_size", "micro_batch_size", "num_accelerators", "seq_len", "model_parallel_size")
    if x["params_b"] != GPT3_PARAMS_B:
        raise NotStatedError("parallelism of this model size is not stated in the table")
    zero = x["scheme"].startswith("ZeRO")
    assumed: tuple[str, ...] = ("V = 51,200 as in table 1", "every layer recomputed, as in table 1")
    guessed: tuple[str, ...] = ()
    if not zero:
        guessed = ("tensor 8 (a node) x pipeline 12: the paper's rule for its 96 model-parallel ranks", "no interleaving")
    arguments = {
        **SC21,
        "model": "gpt-3-175b",
        "num_accelerators": accelerators,
        "global_batch_size": batch,
        "micro_batch_size": micro,
        "sequence_length": sequence,
        "tensor_parallel": 1 if zero else 8,
        "pipeline_parallel": 1 if zero else ranks // 8,
        "zero_stage": 3 if zero else 0,
        "engine": "deepspeed-2021" if zero else ENGINE_2021,
    }
    flop = sc21_flop(batch, sequence, 96, 12288, 51200)
    return Setup(arguments, flop / (accelerators * record["measured"]["tflops_per_gpu"] * 1e12), assumed, guessed)


def core_weak_scaling(record: Record) -> Setup:
    """Return a row of Megatron-Core's weak scaling on H100. Micro-batch and interleaving are not in the table."""
    x = record["inputs"]
    layers, hidden, vocabulary, sequence, heads = stated(record, "num_layers", "hidden_size", "vocab_size", "seq_len", "attention_heads")
    batch, accelerators, stages = stated(record, "global_batch_size", "num_accelerators", "pipeline_parallel")
    spec = {
        "name": f"megatron-core-{str(x['model']).lower()}",
        "sources": {"table": {"title": record["source"], "date": "2024"}},
        "hidden_size": hidden,
        "vocab_size": vocabulary,
        "blocks": [
            {
                "repeat": layers,
                "mixer": {"kind": "attention", "heads": heads, "kv_heads": heads, "head_dim": hidden // heads, "qkv_bias": True, "output_bias": True},
                "ffn": {"kind": "dense", "intermediate_size": 4 * hidden, "activation": "gelu", "bias": True},
            }
        ],
        "norm": "layer",
        "learned_positions": sequence,
        "max_context_tokens": sequence,
    }
    arguments = {
        "model": model(spec),
        "accelerator": "h100_sxm",
        "num_accelerators": accelerators,
        "global_batch_size": batch,
        "micro_batch_size": 1,
        "sequence_length": sequence,
        "tensor_parallel": x["tensor_parallel"],
        "pipeline_parallel": stages,
        "zero_stage": 1,
        "recompute": "none",
        "precision": "bf16",
        "engine": ENGINE,
    }
    assumed = ("micro-batch 1", "flash attention, nothing recomputed", *(("no interleaving",) if stages > 1 else ()))
    flop = megatron_core_flop(batch, sequence, layers, hidden, vocabulary)
    return Setup(arguments, flop / (accelerators * record["measured"]["tflops_per_gpu"] * 1e12), (), assumed)


def core_llama_fp8(record: Record) -> Setup:
    """Return a row of Megatron-LM's Llama example in FP8."""
    names = ("global_batch_size", "micro_batch_size", "num_accelerators", "seq_len", "tensor_parallel", "pipeline_parallel", "context_parallel")
    batch, micro, accelerators, sequence, tensor, stages, context = stated(record, *names)
    size = re.fullmatch(r"LLAMA3-(8|70)B", record["inputs"]["model"])
    if size is None:
        raise NotStatedError(f"model {record['inputs']['model']!r} is not in the catalog")
    arguments = {
        "model": f"llama-3-{size[1]}b",
        "accelerator": "h100_sxm",
        "num_accelerators": accelerators,
        "global_batch_size": batch,
        "micro_batch_size": micro,
        "sequence_length": sequence,
        "tensor_parallel": tensor,
        "pipeline_parallel": stages,
        "context_parallel": context,
        "virtual_pipeline_stages": record["inputs"].get("virtual_pipeline") or 1,
        "zero_stage": 1,
        "recompute": "none",
        "precision": "fp8",
        "engine": ENGINE,
    }
    measured_s = batch * sequence / (accelerators * record["measured"]["tokens_per_s_per_gpu"])
    return Setup(arguments, measured_s, (), ("nothing recomputed", "distributed optimizer"))
