"""PyTorch FSDP: MosaicML's MPT tables and torchtitan."""

import re
from typing import Final

from effsim.specs.models import model
from effsim.validate.training.case import NotStatedError, Record, Setup, stated

ENGINE: Final = "fsdp"
ACCELERATORS: Final = {"A100 SXM 40GB": "a100_sxm_40gb", "A100 SXM 80GB": "a100_sxm_80gb", "H100 SXM 80GB": "h100_sxm"}
SHARDING: Final = {"FULL_SHARD": 3, "SHARD_GRAD_OP": 2, "NO_SHARD": 0}
PRECISIONS: Final = {"amp_bf16": "bf16", "bf16": "bf16", "amp_fp8": "fp8"}


def mosaic_mpt(record: Record) -> Setup:
    """Return a row of MosaicML's MPT tables; all is stated. Positions are learned, as many as the row's sequence is long."""
    x = record["inputs"]
    names = ("num_accelerators", "global_batch_size", "micro_batch_size", "seq_len", "fsdp_sharding", "activation_checkpointing")
    accelerators, batch, micro, sequence, sharding, checkpointing = stated(record, *names)
    if x["accelerator"] not in ACCELERATORS or x["precision"] not in PRECISIONS:
        raise NotStatedError(f"{x['accelerator']} with {x['precision']} is not in the catalog")
    arguments = {
        "model": model(str(x["model"]).lower()).model_copy(update={"learned_positions": sequence, "max_context_tokens": sequence}),
        "accelerator": ACCELERATORS[x["accelerator"]],
        "num_accelerators": accelerators,
        "global_batch_size": batch,
        "micro_batch_size": micro,
        "sequence_length": sequence,
        "zero_stage": SHARDING[sharding],
        "recompute": "full" if checkpointing else "none",
        "precision": PRECISIONS[x["precision"]],
        "engine": ENGINE,
    }
    return Setup(arguments, batch * sequence / record["measured"]["tokens_per_s"])


def torchtitan(record: Record) -> Setup:
    """Return a row of torchtitan's benchmarks on the 96 GB H100 with a limit of 500 W.

    Raises:
        NotStatedError: Row-wise scaled FP8 or asynchronous tensor parallelism, which the model does not have.
    """
    x = record["inputs"]
    accelerators, local, sequence = stated(record, "num_accelerators", "local_batch_size", "seq_len")
    size = re.search(r"(8|70)B", x["model"])
    if size is None:
        raise NotStatedError(f"model {x['model']!r} is not in the catalog")
    if "rowwise" in x["precision"]:
        raise NotStatedError("row-wise scaling of FP8 is another recipe, slower than tensor-wise; the model has one FP8")
    if "asyncTP" in x["technique"]:
        raise NotStatedError("asynchronous tensor parallelism (collectives cut into chunks under the products) is not modelled")
    split = re.search(r"TP(\d+)", x.get("parallelism", ""))
    tensor = int(split[1]) if split else 1
    arguments = {
        "model": f"llama-3-{size[1]}b",
        "accelerator": "h100_hbm2e_96gb",
        "num_accelerators": accelerators,
        "global_batch_size": local * accelerators // tensor,
        "micro_batch_size": local,
        "sequence_length": sequence,
        "tensor_parallel": tensor,
        "zero_stage": 3,
        "recompute": "alternate" if size[1] == "8" else "full",
        "precision": "fp8" if "float8" in x["precision"] or x["precision"] == "fp8" else "bf16",
        "power_limit_w": 500.0,
        "engine": ENGINE,
    }
    if arguments["precision"] == "fp8":
        arguments["amax_reads"] = 1.0  # tensor-wise, scaled by the tensor at hand
    mode = "selective checkpointing of operations, every second product" if size[1] == "8" else "full checkpointing"
    assumed = (f"{mode}: torchtitan's default for this model (train_configs/llama3_{size[1]}b.toml, 2025)",)
    guessed = ("checkpointing is not in the table of tensor-parallel runs",) if split else ()
    return Setup(arguments, local / tensor * sequence / record["measured"]["tokens_per_s_per_gpu"], assumed, guessed)
