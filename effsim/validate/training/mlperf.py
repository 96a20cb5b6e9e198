"""MLPerf Training: Llama-2-70B LoRA, Llama-3.1-8B and GPT-3 175B.

The result files do not say how a run was split; the configuration scripts of the submissions do. Their names carry it:
``config_<system>_<nodes>x<accelerators>x<mini-batch>xtp<TP>pp<PP>cp<CP>``. Rows whose script was not read are skipped.
"""

import dataclasses
import re
from typing import Any, Final

from effsim.validate.training.case import NotStatedError, Record, Setup, stated

ACCELERATORS: Final = (
    ("A100-SXM4-80GB", "a100_sxm_80gb"),
    ("H100-SXM", "h100_sxm"),
    ("H100 SXM", "h100_sxm"),
    ("H200-SXM", "h200_sxm"),
    ("L40S", "l40s"),
    ("GB300", "gb300"),
    ("GB200", "gb200"),
    ("B300", "b300_sxm"),
    ("B200", "b200_sxm"),
)
EVALUATION_SHARE: Final = {"llama31_8b": 0.043}
"""Of the time of a run by benchmark, where records of the round state the throughput with and without (3.5 and 5.1 %); GPT-3's throughputs are equal."""
WIDE_UNREAD: Final = "no layer in 16 bits, as in Megatron-Bridge's variant after MLPerf; the submission's own settings of FP4 and FP8 attention were not read"
BENCHMARKS: Final = {"llama2_70b_lora": "llama-2-70b", "llama31_8b": "llama-3.1-8b", "gpt3": "gpt-3-175b"}


@dataclasses.dataclass(frozen=True, slots=True)
class Script:
    """A submission's configuration script: how the ranks are split, and what its products compute in.

    ``submitters`` are those known to have run it; empty: all of the round that ran NVIDIA's code on that size.
    """

    name: str
    tensor: int
    pipeline: int = 1
    context: int = 1
    micro_batch_size: int = 1
    virtual_stages: int = 1
    precision: str = "fp8"
    submitters: tuple[str, ...] = ()


SCRIPTS: Final = {
    ("llama2_70b_lora", "v4.0", "h100_sxm", 8, 8): Script("NVIDIA config_DGXH100_1x8x4xtp4pp1cp1", 4),
    ("llama2_70b_lora", "v4.0", "h100_sxm", 1024, 128): Script("NVIDIA config_DGXH100_128x8x1xtp4pp1cp2", 4, context=2),
    ("llama2_70b_lora", "v4.0", "h200_sxm", 8, 8): Script("NVIDIA config_DGXH200_1x8x2xtp2pp1cp1", 2),
    ("llama2_70b_lora", "v4.0", "l40s", 64, 8): Script("NVIDIA config_L40S_16x4x2xtp4pp1cp2", 4, context=2),
    ("llama2_70b_lora", "v4.0", "l40s", 384, 48): Script("NVIDIA config_L40S_96x4x1xtp4pp1cp2", 4, context=2),
    ("llama2_70b_lora", "v5.1", "b200_sxm", 16, 16): Script("Dell config_2xXE9680Lx8B200-SXM-180GB_2x8x1xtp1pp1cp1", 1, submitters=("Dell",)),
    ("llama2_70b_lora", "v5.1", "b200_sxm", 16, 8): Script(
        "Nebius config_DGXB200_2x8x1xtp1pp1cp2_fp4", 1, context=2, precision="nvfp4", submitters=("Nebius",)
    ),
    ("llama2_70b_lora", "v5.1", "b200_sxm", 32, 8): Script(
        "Nebius config_DGXB200_4x8x1xtp1pp1cp4_fp4", 1, context=4, precision="nvfp4", submitters=("Nebius",)
    ),
    ("llama31_8b", "v5.1", "b200_sxm", 8, 16): Script(
        "Nebius config_DGXB200_1x8x2xtp1pp1cp1_8b_fp4", 1, micro_batch_size=2, precision="nvfp4", submitters=("Nebius", "Dell")
    ),
    ("llama31_8b", "v5.1", "b200_sxm", 16, 32): Script(
        "Nebius config_DGXB200_2x8x2xtp1pp1cp1_8b_fp4", 1, micro_batch_size=2, precision="nvfp4", submitters=("Nebius",)
    ),
    ("llama31_8b", "v5.1", "b200_sxm", 32, 32): Script("Nebius config_DGXB200_4x8x1xtp1pp1cp1_8b_fp4", 1, precision="nvfp4", submitters=("Nebius",)),
    ("gpt3", "v4.0", "h100_sxm", 512, 2048): Script("NVIDIA config_DGXH100_64x8x128x4x8_mbs2", 4, 8, micro_batch_size=2, virtual_stages=4),
    ("gpt3", "v4.0", "h100_sxm", 10752, 2688): Script("NVIDIA config_DGXH100_1344x8x6x4x6_mbs1_cg", 4, 6, virtual_stages=8),
    ("gpt3", "v4.0", "h100_sxm", 11616, 2904): Script("NVIDIA config_DGXH100_1452x8x6x4x6_mbs1_cg", 4, 6, virtual_stages=8),
    ("gpt3", "v4.1", "h100_sxm", 11616, 2904): Script("NVIDIA config_DGXH100_1452x8x6x4x6_mbs1_cg of v4.0", 4, 6, virtual_stages=8),
}
"""By benchmark, round, accelerator, number of accelerators and global batch; read in mlcommons/training_results_v4.0 and v5.1."""


def accelerator_key(text: str) -> str:
    """Return the catalog's key for an accelerator as MLPerf writes it.

    Raises:
        NotStatedError: It is not in the catalog.
    """
    found = next((key for part, key in ACCELERATORS if part in text), None)
    if found is None:
        raise NotStatedError(f"{text} is not in the catalog")
    return found


def script_for(record: Record, benchmark: str, key: str) -> Script:
    """Return the script of a row.

    Raises:
        NotStatedError: None was read for it, or the submitter ran other software.
    """
    x = record["inputs"]
    version = re.search(r"v\d\.\d", x["benchmark"])
    place = (benchmark, version[0] if version else "", key, x["num_accelerators"], x["global_batch_size"])
    if "deepspeed" in record["id"]:
        raise NotStatedError("DeepSpeed submission: its configuration was not read")
    script = SCRIPTS.get(place)
    if script is None or (script.submitters and x.get("submitter") not in script.submitters):
        raise NotStatedError("parallelism and micro-batch are not stated, and no script of this size was read")
    return script


def arguments_of(record: Record) -> tuple[dict[str, Any], Script]:
    """Return the arguments of the call for a row of a language model, and the script that they come from.

    Raises:
        NotStatedError: As :func:`script_for`, or it is no language model of the catalog.
    """
    x = record["inputs"]
    benchmark = str(x["benchmark"]).rsplit(" ", 1)[1]
    if benchmark not in BENCHMARKS:
        raise NotStatedError(f"{benchmark} is no language model of the catalog")
    accelerators, batch, sequence = stated(record, "num_accelerators", "global_batch_size", "seq_len")
    key = accelerator_key(x["accelerator"])
    script = script_for(record, benchmark, key)
    arguments: dict[str, Any] = {
        "model": BENCHMARKS[benchmark],
        "accelerator": key,
        "num_accelerators": accelerators,
        "global_batch_size": batch,
        "micro_batch_size": script.micro_batch_size,
        "sequence_length": sequence,
        "tensor_parallel": script.tensor,
        "pipeline_parallel": script.pipeline,
        "context_parallel": script.context,
        "virtual_pipeline_stages": script.virtual_stages,
        "zero_stage": 1,
        "recompute": "none",
        "precision": script.precision,
        "engine": "megatron",
    }
    if script.precision == "nvfp4":
        arguments["wide_share"] = 0.0
    if benchmark.endswith("_lora"):
        arguments |= {"trainable": "lora", "lora_rank": 16}
    return arguments, script


def _is_own(record: Record, script: Script) -> bool:
    """Return whether the submitter's own script was read: that of the row, not that of another row or round."""
    submitter, last = str(record["inputs"].get("submitter")), script.name.rsplit(" ", 1)[1]
    return script.name.startswith(submitter) and last.startswith("config_")


def throughput(record: Record) -> Setup:
    """Return a row of MLPerf Training: samples per second as logged, else over the whole run with its evaluations.

    Raises:
        NotStatedError: As :func:`arguments_of`; or only the whole run was timed, of which evaluations of LoRA take an eighth.
    """
    arguments, script = arguments_of(record)
    measured = record["measured"]
    rate = measured.get("tokens_per_s_per_accelerator_logged")
    split, own = f"split as in {script.name}", _is_own(record, script)
    assumed: tuple[str, ...] = (split,) if own else ()
    guessed: tuple[str, ...] = () if own else (f"{split}, of another submission with the same software",)
    if script.precision == "nvfp4":
        guessed += (WIDE_UNREAD,)
    if rate is None:
        if arguments.get("trainable") == "lora":
            raise NotStatedError("only the whole run with its evaluations was timed")
        share = EVALUATION_SHARE.get(str(record["inputs"]["benchmark"]).rsplit(" ", 1)[1], 0.0)
        rate = measured["tokens_per_s_per_accelerator_incl_eval"] / (1.0 - share)
        assumed += (f"the measured time includes evaluations, of which {100 * share:g} % are taken off",)
    step_time_s = arguments["global_batch_size"] * arguments["sequence_length"] / (arguments["num_accelerators"] * rate)
    return Setup(arguments, step_time_s, assumed, guessed)
