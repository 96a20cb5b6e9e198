"""Metered power and energy of MLPerf Training, and GPU-hours of reported trainings."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from effsim.errors import EffSimError
from effsim.specs import loading
from effsim.specs.machine import Node
from effsim.validate.training.case import ENERGY_FILE, THROUGHPUT_FILE, Case, NotStatedError, Record, Setup, case, read
from effsim.validate.training.megatron import sc21_table_2
from effsim.validate.training.mlperf import accelerator_key, arguments_of
from effsim.validate.training.report import estimate_of

METERED: Final = "mlperf_training_power"
REPORTED: Final = "llm_training_energy"
SECONDS_PER_HOUR: Final = 3600.0
GOODPUT: Final = 0.90
"""Assumed where none is reported: share of the accelerators' hours that trained; Llama 3 405B reports more than 0.9 (arXiv:2407.21783)."""


BERT_SAMPLES: Final = 96
BERT_TOKENS: Final = 256
"""Samples per accelerator and step (768 on 8), and tokens of a sample on average."""


def node_behind(record: Record, accelerator: str) -> tuple[Node, str]:
    """Return the server as it was metered, and the scope in words.

    The accelerator's default node; without fans where it is immersed, and without the loss of the power supply where the meter stood
    behind it.
    """
    default = loading.accelerator(accelerator).default_node
    if default is None:
        raise NotStatedError(f"{accelerator} has no default node")
    node, scope = loading.node(default), "at the wall, air-cooled"
    text = " ".join(str(record["inputs"].get(key, "")) for key in ("host", "power_boundary")) + str(record.get("source", ""))
    if "immers" in text.lower():
        node, scope = node.model_copy(update={"fan_power": None, "cooling": "immersion"}), "at the wall, immersed: no fans"
    elif "liquid" in text.lower() or "water" in text.lower():
        node, scope = node.model_copy(update={"fan_power": None, "cooling": "liquid"}), "at the wall, cooled by liquid: no fans"
    if "DC (after PSU)" in text:
        lossless = node.psu_efficiency.model_copy(update={"value": 1.0, "low": None, "high": None})
        node, scope = node.model_copy(update={"psu_efficiency": lossless}), scope.replace("at the wall", "behind the power supply")
    return node, scope


def _bert(record: Record, key: str) -> dict[str, Any]:
    """Return BERT-large as MLPerf trains it on one node: 96 samples per accelerator without padding, 256 tokens each on average.

    The data set's sequences fill half of their 512 places (Krell et al., arXiv:2107.02027), and attention stays within a sample.
    """
    accelerators = record["inputs"]["num_accelerators"]
    if record["inputs"]["num_nodes"] != 1:
        raise NotStatedError("batch per accelerator was read for one node only")
    return {
        "model": "bert-large",
        "accelerator": key,
        "num_accelerators": accelerators,
        "global_batch_size": BERT_SAMPLES * accelerators,
        "micro_batch_size": BERT_SAMPLES,
        "sequence_length": BERT_TOKENS,
        "zero_stage": 1,
        "precision": "fp8",
        "optimizer": "adam",
        "engine": "megatron",
    }


def metered_run(record: Record) -> Setup:
    """Return a metered run; the step time is that of its samples per second.

    Raises:
        NotStatedError: No language model, or its configuration was not read.
    """
    x, measured = record["inputs"], record["measured"]
    key = accelerator_key(x["accelerator"])
    benchmark = str(x["benchmark"]).rsplit(" ", 1)[1]
    node, scope = node_behind(record, key)
    if benchmark == "bert":
        arguments, rate = _bert(record, key), measured["samples_per_s"]
        step_time_s = x["global_batch_size"] / rate
        assumed = "96 samples of 256 tokens per accelerator without padding, FP8, Adam for LAMB (smc/benchmarks/bert, run 1x8x48)"
    else:
        arguments, script = arguments_of(record)
        step_time_s = x["global_batch_size"] / measured["train_samples_per_s"]
        assumed = f"split as in {script.name}"
    return Setup({**arguments, "node": node}, step_time_s, (scope, assumed))


def power_report(calibration: Any = "none", path: Path | str | None = None) -> pd.DataFrame:
    """Return one row per metered run: power of a node and energy per token, measured and predicted, with the scope.

    The measured average power includes evaluation pauses; the measured energy per token is that power over the samples per second
    between them, so that pauses do not count (the records also state the energy of the whole run per trained token). Predicted
    energy per token is predicted power times predicted step time; ``energy_error_pct`` therefore holds the errors of both.

    Raises:
        SpecError: The reference file is not there.
    """
    records = [record for record in read(ENERGY_FILE, path) if record["kind"] == METERED]
    return pd.DataFrame([_metered(case(record, METERED, metered_run), record, calibration) for record in records])


def metered_cases(path: Path | str | None = None) -> list[tuple[Case, float]]:
    """Return the metered runs that have a configuration, with the power of all their servers [W].

    Raises:
        SpecError: The reference file is not there.
    """
    records = [record for record in read(ENERGY_FILE, path) if record["kind"] == METERED]
    found = [(case(record, METERED, metered_run), record) for record in records]
    return [(one, record["measured"]["avg_node_power_w"] * record["inputs"]["num_nodes"]) for one, record in found if one.skipped is None]


def _metered(one: Case, record: Record, calibration: Any) -> dict[str, Any]:
    measured, nodes = record["measured"], record["inputs"]["num_nodes"]
    row: dict[str, Any] = {"record": one.record, "scope": one.assumed, "measured_node_power_w": measured["avg_node_power_w"]}
    blank = dict.fromkeys(
        ("predicted_node_power_w", "power_error_pct", "inside", "measured_energy_per_token_j", "predicted_energy_per_token_j", "energy_error_pct")
    )
    if one.skipped is not None:
        return {**row, **blank, "skipped": one.skipped}
    try:
        estimate, _ = estimate_of(one, calibration)
    except EffSimError as error:
        return {**row, **blank, "skipped": str(error)}
    power_w = estimate.server_power_w / nodes
    low_w, high_w = (value / nodes for value in estimate.interval("server_power_w"))
    measured_j = measured["avg_node_power_w"] * nodes * one.measured_step_time_s / one.tokens_per_step
    predicted_j = estimate.server_power_w * estimate.step_time_s / one.tokens_per_step
    found = {
        "predicted_node_power_w": power_w,
        "power_error_pct": 100.0 * (power_w / measured["avg_node_power_w"] - 1.0),
        "inside": low_w <= measured["avg_node_power_w"] <= high_w,
        "measured_energy_per_token_j": measured_j,
        "predicted_energy_per_token_j": predicted_j,
        "energy_error_pct": 100.0 * (predicted_j / measured_j - 1.0),
    }
    return {**row, **found, "skipped": None}


@dataclasses.dataclass(frozen=True, slots=True)
class Training:
    """How a published model was trained, as far as it is known.

    Args:
        arguments: Of the call.
        tokens: In all; None: as the record states.
        basis: Which of this is published, and which assumed.
    """

    arguments: Mapping[str, Any]
    tokens: float | None
    basis: str


def _sharded(model: str, accelerators: int, sequences: int, sequence: int, precision: str = "bf16") -> dict[str, Any]:
    return {
        "model": model,
        "accelerator": "a100_sxm_80gb",
        "num_accelerators": accelerators,
        "global_batch_size": sequences,
        "micro_batch_size": 1,
        "sequence_length": sequence,
        "zero_stage": 3,
        "recompute": "selective",
        "precision": precision,
        "engine": "fsdp",
    }


_LLAMA_1: Final = "4 M tokens a step, 2,048 accelerators for 65B (arXiv:2302.13971, section 2); 512 for the smaller, fully sharded: assumed"
_LLAMA_2: Final = "4 M tokens a step (arXiv:2307.09288, section 2.2); 1,024 accelerators, fully sharded, attention repeated: assumed"
_OPT: Final = {
    **_sharded("opt-175b", 992, 992, 2048, "fp16"),
    "micro_batch_size": 8,
    "tensor_parallel": 8,
    "recompute": "full",
}
_GPT_3: Final = {
    "model": "gpt-3-175b",
    "accelerator": "v100_sxm_32gb",
    "num_accelerators": 9984,
    "global_batch_size": 1560,
    "micro_batch_size": 1,
    "sequence_length": 2048,
    "tensor_parallel": 8,
    "pipeline_parallel": 12,
    "sequence_parallel": False,
    "zero_stage": 0,
    "recompute": "full",
    "attention": "naive",
    "precision": "fp16",
    "engine": "megatron-2021",
}
_BLOOM: Final = {
    **_sharded("bloom-176b", 384, 2048, 2048),
    "micro_batch_size": 2,
    "tensor_parallel": 4,
    "pipeline_parallel": 12,
    "sequence_parallel": False,
    "zero_stage": 1,
    "recompute": "full",
    "attention": "naive",
    "engine": "megatron-2021",
}
_LLAMA_405B: Final = {
    **_sharded("llama-3.1-405b", 16384, 2048, 8192),
    "accelerator": "h100_sxm",
    "network": "roce_400g",
    "tensor_parallel": 8,
    "pipeline_parallel": 16,
    "virtual_pipeline_stages": 8,
    "recompute": "none",
    "zero_stage": 1,
    "engine": "megatron",
}
TRAININGS: Final[dict[str, Training]] = {
    "LLaMA-7B": Training({**_sharded("llama-7b", 512, 2048, 2048), "micro_batch_size": 4}, None, _LLAMA_1),
    "LLaMA-13B": Training({**_sharded("llama-13b", 512, 2048, 2048), "micro_batch_size": 4}, None, _LLAMA_1),
    "LLaMA-65B": Training(_sharded("llama-65b", 2048, 2048, 2048), None, _LLAMA_1),
    "Llama 2 7B": Training(_sharded("llama-2-7b", 1024, 1024, 4096), None, _LLAMA_2),
    "Llama 2 13B": Training(_sharded("llama-2-13b", 1024, 1024, 4096), None, _LLAMA_2),
    "Llama 2 70B": Training(_sharded("llama-2-70b", 1024, 1024, 4096), None, _LLAMA_2),
    "OPT-175B": Training(_OPT, 300e9, "992 accelerators, tensor 8, 2 M tokens a step, 300 B tokens (arXiv:2205.01068, section 2); 8 sequences a step: derived"),
    "GPT3": Training(_GPT_3, None, "3.2 M tokens a step (arXiv:2005.14165); split 8 x 12 over 9,984 of the 10,000 accelerators: assumed"),
    "BLOOM-176B": Training(_BLOOM, 366e9, "tensor 4, pipeline 12, data 8, micro-batch 2, 2,048 sequences (arXiv:2211.05100, section 3.2)"),
    "Llama 3.1 405B": Training(
        _LLAMA_405B, 15.6e12, "tensor 8, pipeline 16, data 128, 16 M tokens a step (arXiv:2407.21783, table 4), a layer a chunk and nothing repeated: assumed"
    ),
}
"""By the name in the records. Only what is stated in the papers is taken from them; throughputs are predicted."""
UNRECORDED_TOKENS_B: Final = {
    "LLaMA-7B": 1000.0,
    "LLaMA-13B": 1000.0,
    "LLaMA-65B": 1400.0,
    "Llama 2 7B": 2000.0,
    "Llama 2 13B": 2000.0,
    "Llama 2 70B": 2000.0,
    "GPT3": 300.0,
}
"""Billions of tokens where no record states them: arXiv:2302.13971, table 2; arXiv:2307.09288, table 1; arXiv:2005.14165, table 2.1."""


def reported_trainings(goodput: float = GOODPUT, calibration: Any = "none", path: Path | str | None = None) -> pd.DataFrame:
    """Return accelerator-hours implied by the model beside those reported: of every record, then of trainings known from papers alone.

    ``implied = tokens / (tokens per second) x accelerators / goodput``; the goodput is an assumption, stated in its column. Where no
    record states hours they are absent, and so is the error.

    Raises:
        SpecError: The reference file is not there.
    """
    records = [record for record in read(ENERGY_FILE, path) if record["kind"] == REPORTED and record["inputs"].get("model")]
    rows = [_reported(record, goodput, calibration) for record in records]
    named = {record["inputs"]["model"] for record in records}
    rows += [_reported(_unrecorded(name), goodput, calibration) for name in TRAININGS if name not in named]
    return pd.DataFrame(rows)


def extrapolated_trainings(calibration: Any = "none", path: Path | str | None = None) -> pd.DataFrame:
    """Return accelerator-hours implied by the model beside those of tables that state days for 300 B tokens from a measured throughput.

    Such days know no failures: goodput 1.

    Raises:
        SpecError: The reference file is not there.
    """
    stated = [one for one in read(THROUGHPUT_FILE, path) if one["measured"].get("training_time_300b_tokens_days")]
    return pd.DataFrame([_extrapolated(record, calibration) for record in stated])


def _unrecorded(name: str) -> Record:
    return {"id": name, "inputs": {"model": name, "train_tokens_b": UNRECORDED_TOKENS_B.get(name)}, "measured": {}}


def _extrapolated(record: Record, calibration: Any) -> dict[str, Any]:
    days = record["measured"]["training_time_300b_tokens_days"]
    row: dict[str, Any] = {"record": record["id"], "reported_accelerator_hours": 24.0 * days * record["inputs"]["num_accelerators"]}
    one = case(record, "megatron_sc21_175b", sc21_table_2)
    training = Training(one.arguments, 1e9 * float(record["inputs"]["train_tokens_b"]), one.assumed)
    return _implied(row, training, 1.0, calibration)


def _reported(record: Record, goodput: float, calibration: Any) -> dict[str, Any]:
    x, measured = record["inputs"], record["measured"]
    hours = measured.get("gpu_hours") or _hours_of_days(record)
    row: dict[str, Any] = {"record": record["id"], "reported_accelerator_hours": hours}
    training = TRAININGS.get(x["model"])
    if training is None:
        return {**row, **_BLANK, "basis": None, "skipped": f"{x['model']}: architecture and split are not in the catalog"}
    tokens = training.tokens or 1e9 * float(x.get("train_tokens_b") or 0.0)
    if not tokens:
        return {**row, **_BLANK, "basis": training.basis, "skipped": "tokens are not stated"}
    return _implied(row, dataclasses.replace(training, tokens=tokens), goodput, calibration)


_BLANK: Final = dict.fromkeys(("implied_accelerator_hours", "error_pct", "mfu", "goodput"))


def _implied(row: dict[str, Any], training: Training, goodput: float, calibration: Any) -> dict[str, Any]:
    """Return a row with the hours that the model implies, or why it implies none."""
    hours = row["reported_accelerator_hours"]
    try:
        estimate, _ = estimate_of(Case(row["record"], REPORTED, training.arguments, 0.0, training.basis), calibration)
    except EffSimError as error:
        return {**row, **_BLANK, "basis": training.basis, "skipped": str(error)}
    implied = (training.tokens or 0.0) / estimate.tokens_per_s * training.arguments["num_accelerators"] / SECONDS_PER_HOUR / goodput
    off_pct = 100.0 * (implied / hours - 1.0) if hours else None
    found = {"implied_accelerator_hours": implied, "error_pct": off_pct, "mfu": estimate.mfu, "goodput": goodput}
    return {**row, **found, "basis": training.basis, "skipped": None}


def _hours_of_days(record: Record) -> float | None:
    days, accelerators = record["measured"].get("training_days"), record["inputs"].get("num_accelerators")
    return 24.0 * days * accelerators if days and accelerators else None
