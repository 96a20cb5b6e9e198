"""MaxText on TPU v4, v5e, v5p and on H100, and Google's TPU recipes."""

import math
from typing import Any, Final

from effsim.specs import loading
from effsim.specs.machine import Node
from effsim.specs.model import Transformer
from effsim.specs.models import model
from effsim.validate.training.case import NotStatedError, Record, Setup, stated

ENGINE: Final = "maxtext"
TPUS: Final = {
    "TPU v4": ("tpu_v4", "tpu_v4_host"),
    "TPU v5e": ("tpu_v5e", "tpu_v5e_host"),
    "TPU v5p": ("tpu_v5p", "tpu_v5p_host"),
    "TPU v6e (Trillium)": ("tpu_v6e", "tpu_v6e_host"),
}
REMAT: Final = {"full": "full", "minimal": "minimal", "minimal_flash": "minimal_flash"}
"""MaxText's ``remat_policy``: ``minimal`` keeps the outputs of all products but those of attention, which run again."""
SOURCES: Final = {
    "base": {"title": "MaxText configs/base.yml and global_parameter_scale (pyconfig.py)", "url": "https://github.com/AI-Hypercomputer/maxtext", "date": "2025"}
}


def scaled_model(scale: int) -> Transformer:
    """Return MaxText's default model at a ``global_parameter_scale``, a power of two.

    The exponent is dealt out in thirds: layers get ``k = e // 3`` doublings, heads and feed-forward width one more where there is a
    remainder, the hidden width where the remainder is 2. Base: 16 layers, 2,048 wide, 16 heads of 128, gated 7,168, vocabulary 32,000.

    >>> m = scaled_model(32)
    >>> m.num_layers, m.hidden_size, m.blocks[0].mixer.heads, m.blocks[0].ffn.intermediate_size
    (32, 8192, 64, 28672)
    """
    thirds, rest = divmod(round(math.log2(scale)), 3)
    heads = 16 * 2 ** (thirds + (rest > 0))
    return _gpt(f"maxtext-{scale}b", 16 * 2**thirds, 2048 * 2 ** (thirds + (rest > 1)), (heads, 128), (7168 * 2 ** (thirds + (rest > 0)), "swiglu"))


def _gpt(name: str, layers: int, hidden: int, heads: tuple[int, int], ffn: tuple[int, str]) -> Transformer:
    spec = model(
        {
            "name": name,
            "sources": SOURCES,
            "hidden_size": hidden,
            "vocab_size": 32000,
            "blocks": [
                {
                    "repeat": layers,
                    "mixer": {"kind": "attention", "heads": heads[0], "kv_heads": heads[0], "head_dim": heads[1]},
                    "ffn": {"kind": "dense", "intermediate_size": ffn[0], "activation": ffn[1]},
                }
            ],
        }
    )
    assert isinstance(spec, Transformer)  # noqa: S101 -- narrows the type
    return spec


def maxtext_flop_per_token(spec: Transformer, sequence: float) -> float:
    """Return the FLOPs of a token as MaxText counted them before July 2025: three forward passes, attention in full, nothing repeated.

    Source: ``calculate_tflops_training_per_device`` of maxtext_utils.py, AI-Hypercomputer/maxtext.

    >>> round(maxtext_flop_per_token(scaled_model(32), 2048) / 1e9, 1)
    194.8
    """
    block = spec.blocks[0]
    mixer: Any = block.mixer
    ffn: Any = block.ffn
    matrices = 3 if ffn.activation in {"swiglu", "geglu"} else 2
    feed_forward = 2.0 * matrices * ffn.intermediate_size * spec.hidden_size
    projections = 2.0 * spec.hidden_size * (2 * mixer.heads + 2 * mixer.kv_heads) * mixer.head_dim
    attention = 4.0 * sequence * mixer.heads * mixer.head_dim
    total: float = 3.0 * (spec.num_layers * (feed_forward + projections + attention) + 2.0 * spec.hidden_size * spec.vocab_size)
    return total


def _slice_node(host: str, chips: int) -> Node:
    """Return a host whose fast network ends at its slice; slices talk over the data-centre network."""
    node = loading.node(host)
    return node.model_copy(update={"scale_up_domain": min(chips, node.scale_up_domain)})


def published(record: Record) -> Setup:
    """Return a row of MaxText's tables of TPU performance."""
    x = record["inputs"]
    chips, local = stated(record, "num_accelerators", "per_device_batch_size")
    assumed: tuple[str, ...] = ("weights sharded over the slice, copies over slices: the script beside the table",)
    if "emb_dim" in x:
        heads, ffn = (x["num_query_heads"], x["emb_dim"] // x["num_query_heads"]), (x["mlp_dim"], "relu")
        spec = _gpt("maxtext-22b", x["num_layers"], x["emb_dim"], heads, ffn)
        assumed += ("heads of 256 and ungated layers, base.yml of 2023, which give the 22 billion parameters",)
    else:
        spec = scaled_model(int(record["id"].rsplit("_", 1)[1].removesuffix("B")))
    sequence = x.get("seq_len")
    if sequence is None:
        sequence, assumed = 2048, (*assumed, "2,048 tokens, as the other tables")
    slices = x.get("num_slices", 1)
    key, host = TPUS[x["accelerator"]]
    tensor = x.get("ici_tensor_parallelism") or 1
    arguments = {
        "model": spec,
        "accelerator": key,
        "node": _slice_node(host, chips // slices),
        "num_accelerators": chips,
        "global_batch_size": local * chips,
        "micro_batch_size": local * tensor,
        "sequence_length": sequence,
        "tensor_parallel": tensor,
        "zero_stage": 3,
        "recompute": REMAT[x["remat_policy"]],
        "precision": "bf16",
        "engine": ENGINE,
    }
    if slices > 1:
        arguments["shard_group"] = chips // slices // tensor
    measured_s = local * sequence * maxtext_flop_per_token(spec, sequence) / (record["measured"]["tflops_per_chip"] * 1e12)
    return Setup(arguments, measured_s, assumed)


def a3(record: Record) -> Setup:
    """Return a row of MaxText's Llama-2-7B on A3 machines (H100)."""
    x = record["inputs"]
    accelerators, nodes = stated(record, "num_accelerators", "num_nodes")
    spec = model("llama-2-7b")
    assert isinstance(spec, Transformer)  # noqa: S101 -- narrows the type
    arguments = {
        "model": "llama-2-7b",
        "accelerator": "h100_sxm",
        "network": "ethernet_100g",
        "num_accelerators": accelerators,
        "global_batch_size": 4 * accelerators,
        "micro_batch_size": 4,
        "sequence_length": 4096,
        "zero_stage": 3,
        "recompute": "minimal",
        "precision": x["precision"],
        "engine": ENGINE,
    }
    if nodes > 1:
        arguments["shard_group"] = 8
    measured_s = 4 * 4096 * maxtext_flop_per_token(spec, 4096) / (record["measured"]["tflops_per_gpu"] * 1e12)
    return Setup(
        arguments,
        measured_s,
        ("4 sequences of 4,096 tokens per device, minimal remat, FSDP in the node, copies over nodes: configs/a3/llama_2_7b; 4 x 200 Gbit/s",),
    )


def mixtral(record: Record) -> Setup:
    """Refuse the Mixtral row.

    Raises:
        NotStatedError: Always.
    """
    raise NotStatedError(f"{record['inputs']['model']}: batch, sequence length and parallelism are not stated")


def tpu_recipe(record: Record) -> Setup:
    """Return a run of Google's TPU recipes: Llama 3.1 8B on Trillium."""
    x = record["inputs"]
    chips, tokens = stated(record, "num_accelerators", "tokens_per_device_per_step")
    if not str(x["model"]).startswith("Llama3.1-8B"):
        raise NotStatedError(f"recipe of {x['model']!r} was not read")
    local = round(tokens / 8192)
    key, host = TPUS[x["accelerator"]]
    arguments = {
        "model": "llama-3.1-8b",
        "accelerator": key,
        "node": host,
        "num_accelerators": chips,
        "global_batch_size": local * chips,
        "micro_batch_size": local,
        "sequence_length": 8192,
        "zero_stage": 3,
        "recompute": "full",
        "offload_activations": 1.0,
        "precision": "bf16",
        "engine": ENGINE,
    }
    assumed = (
        "8,192 tokens, FSDP over all chips (run_recipe.sh)",
        "full recomputation with layer inputs on the host; the recipe keeps attention projections there, too (maxtext_trillium_model_configs.py)",
    )
    return Setup(arguments, record["measured"]["step_time_s"], assumed)
