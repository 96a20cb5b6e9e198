"""Published training runs as cases: mappings checked by hand on made-up records, the report on the reference data where it is there."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import effsim
from effsim.cost.device import prior_for
from effsim.errors import SpecError
from effsim.specs import loading
from effsim.specs.model import Transformer
from effsim.specs.models import model
from effsim.validate.training import FAMILIES, cases, chosen_cases, family_counts, predictions, report, role_errors, skipped, summary, with_roles
from effsim.validate.training.calibrated import PLANS, calibrate, calibration_errors, document, observation, split
from effsim.validate.training.case import ENERGY_FILE, THROUGHPUT_FILE, Case, configurations, superseded
from effsim.validate.training.energy import extrapolated_trainings, node_behind, power_report, reported_trainings

SC21_SMALLEST = {
    "id": "megatron_sc21_t1_1.7B",
    "inputs": {
        "model": "GPT-1.7B", "num_layers": 24, "hidden_size": 2304, "vocab_size": 51200, "seq_len": 2048, "num_accelerators": 32,
        "tensor_parallel": 1, "pipeline_parallel": 1, "micro_batch_size": 16, "global_batch_size": 512,
    },
    "measured": {"tflops_per_gpu": 100.0},
}  # fmt: skip
BRIDGE = {
    "id": "mbridge_made_up",
    "inputs": {
        "model": "LLAMA3_70B", "system": "DGX-GB200", "num_accelerators": 64, "precision": "MXFP8", "global_batch_size": 256, "micro_batch_size": 1,
        "seq_len": 8192, "tensor_parallel": 2, "pipeline_parallel": 4, "context_parallel": 1, "virtual_pipeline": 5, "fsdp": 0, "mode": "Pre-Training",
    },
    "measured": {"tokens_per_s_per_gpu": 4096.0},
}  # fmt: skip
MPT = {
    "id": "mpt_made_up",
    "inputs": {
        "model": "MPT-7b", "seq_len": 8192, "accelerator": "A100 SXM 40GB", "num_accelerators": 8, "micro_batch_size": 3, "global_batch_size": 96,
        "precision": "bf16", "fsdp_sharding": "FULL_SHARD", "activation_checkpointing": True,
    },
    "measured": {"tokens_per_s": 24576.0},
}  # fmt: skip
TITAN = {
    "id": "torchtitan_made_up",
    "inputs": {
        "model": "Llama 3 70B", "num_accelerators": 256, "seq_len": 8192, "local_batch_size": 16, "parallelism": "FSDP32,TP8", "precision": "bf16",
        "technique": "vanillaTP",
    },
    "measured": {"tokens_per_s_per_gpu": 512.0},
}  # fmt: skip
MAXTEXT = {
    "id": "maxtext_v5p-128x2_32B",
    "inputs": {
        "accelerator": "TPU v5p", "num_accelerators": 128, "num_slices": 2, "seq_len": 2048, "per_device_batch_size": 6, "remat_policy": "minimal",
        "ici_tensor_parallelism": 4,
    },
    "measured": {"tflops_per_chip": 300.0},
}  # fmt: skip
LORA = {
    "id": "mlperf_ttt_made_up_llama2_70b_lora",
    "inputs": {
        "benchmark": "MLPerf Training v4.0 llama2_70b_lora", "accelerator": "NVIDIA H100-SXM5-80GB", "num_accelerators": 8, "global_batch_size": 8,
        "seq_len": 8192,
    },
    "measured": {"tokens_per_s_per_accelerator_logged": 2048.0, "tokens_per_s_per_accelerator_incl_eval": 1900.0},
}  # fmt: skip
METERED = {
    "id": "metered_made_up",
    "kind": "mlperf_training_power",
    "source": "made up, AC input power",
    "inputs": {**LORA["inputs"], "num_nodes": 1, "host": "immersion cooled", "power_boundary": "AC input power"},
    "measured": {"avg_node_power_w": 7000.0, "train_samples_per_s": 2.0},
}
OPT = {"id": "opt", "kind": "llm_training_energy", "inputs": {"model": "OPT-175B"}, "measured": {"gpu_hours": 800000}}


def changed(record: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    return {**record, "inputs": {**record["inputs"], **inputs}}


@pytest.fixture
def mapped(tmp_path: Path):
    def read(*records: dict[str, Any]) -> list[Case]:
        (tmp_path / THROUGHPUT_FILE).write_text(json.dumps(records), encoding="utf-8")
        return cases(tmp_path)

    return read


def test_sc21_step_time_is_that_of_its_hardware_flop(mapped) -> None:
    (one,) = mapped(SC21_SMALLEST)
    # 96 * 512 * 2048 * 24 * 2304^2 * (1 + 2048 / 13824 + 51200 / 884736) = 1.5466e16 FLOP over 32 x 100 TFLOP/s
    assert one.measured_step_time_s == pytest.approx(4.833, rel=1e-3)
    assert (one.arguments["attention"], one.arguments["recompute"], one.arguments["sequence_parallel"], one.arguments["zero_stage"]) == (
        "naive",
        "full",
        False,
        0,
    )
    assert one.assumed == ""


def test_sc21_chunks_become_virtual_stages(mapped) -> None:
    record = changed(SC21_SMALLEST, model="GPT-530B", num_layers=105, hidden_size=20480, pipeline_parallel=35, layers_per_virtual_pipeline_stage=1)
    assert mapped(record)[0].arguments["virtual_pipeline_stages"] == 3


def test_a_row_whose_sizes_are_not_those_of_the_catalog_is_skipped(mapped) -> None:
    assert "not the model of this row" in (mapped(changed(SC21_SMALLEST, num_layers=25))[0].skipped or "")


def test_bridge_rows_give_tokens_per_second(mapped) -> None:
    (one,) = mapped(BRIDGE)
    assert one.measured_step_time_s == pytest.approx(256 * 8192 / (64 * 4096.0))
    assert (one.arguments["precision"], one.arguments["zero_stage"], one.arguments["virtual_pipeline_stages"]) == ("mxfp8", 1, 5)


def test_bridge_rows_with_fsdp_share_weights(mapped) -> None:
    assert mapped(changed(BRIDGE, fsdp=64))[0].arguments["zero_stage"] == 3


def test_bridge_lora_rows_freeze_the_weights(mapped) -> None:
    assert mapped(changed(BRIDGE, mode="LoRA Performance"))[0].arguments["trainable"] == "lora"


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"micro_batch_size": None}, "not stated: micro_batch_size"),
        ({"precision": "INT3"}, "precision 'INT3'"),
        ({"model": "GPT-9"}, "'GPT-9' is not in the catalog"),
        ({"system": "DGX-9"}, "'DGX-9' is not in the catalog"),
        ({"global_batch_size": 250}, "no multiple"),
    ],
)
def test_what_is_not_stated_is_skipped_with_its_reason(mapped, inputs: dict[str, Any], reason: str) -> None:
    (one,) = mapped(changed(BRIDGE, **inputs))
    assert reason in (one.skipped or "")
    assert not one.arguments


def test_deepseek_trains_its_prediction_layer_unless_the_row_says_not(mapped) -> None:
    plain, without = mapped(changed(BRIDGE, model="DeepSeekV3"), changed(BRIDGE, model="DeepSeekV3 (w/o MTP)"))
    assert model(plain.arguments["model"]).num_layers == model("deepseek-v3").num_layers + 1
    assert model(without.arguments["model"]).num_layers == model("deepseek-v3").num_layers


def test_mpt_has_as_many_positions_as_its_sequence(mapped) -> None:
    (one,) = mapped(MPT)
    assert one.arguments["model"].learned_positions == 8192
    assert one.measured_step_time_s == pytest.approx(96 * 8192 / 24576.0)
    assert (one.arguments["zero_stage"], one.arguments["recompute"]) == (3, "full")


def test_torchtitan_batch_is_local_times_data_ranks(mapped) -> None:
    (one,) = mapped(TITAN)
    assert (one.arguments["global_batch_size"], one.arguments["tensor_parallel"]) == (512, 8)
    assert one.measured_step_time_s == pytest.approx(16 / 8 * 8192 / 512.0)
    assert one.arguments["power_limit_w"] == 500.0


def test_maxtext_slices_are_the_reach_of_the_fast_network(mapped) -> None:
    (one,) = mapped(MAXTEXT)
    assert one.arguments["node"].scale_up_domain == 64
    assert one.arguments["shard_group"] == 16
    assert (one.arguments["micro_batch_size"], one.arguments["global_batch_size"]) == (24, 768)
    # 6 x 2048 tokens x 194.8 GFLOP over 300 TFLOP/s
    assert one.measured_step_time_s == pytest.approx(7.98, rel=1e-3)


def test_mlperf_split_comes_from_the_script_of_that_size(mapped) -> None:
    (one,) = mapped(LORA)
    assert (one.arguments["tensor_parallel"], one.arguments["trainable"], one.arguments["precision"]) == (4, "lora", "fp8")
    assert one.measured_step_time_s == pytest.approx(4.0)
    assert "config_DGXH100_1x8x4xtp4pp1cp1" in one.assumed


def test_mlperf_rows_without_a_script_are_skipped(mapped) -> None:
    assert "no script of this size" in (mapped(changed(LORA, num_accelerators=24))[0].skipped or "")


def test_evaluations_in_the_measured_time_are_named_and_refused_where_they_weigh(mapped) -> None:
    whole_run = {"tokens_per_s_per_accelerator_incl_eval": 2048.0}
    pretraining = changed(
        LORA, benchmark="MLPerf Training v5.1 llama31_8b", accelerator="NVIDIA Blackwell GPU (B200-SXM-180GB)", global_batch_size=16, submitter="Nebius"
    )
    one, lora, other = mapped({**pretraining, "measured": whole_run}, {**LORA, "measured": whole_run}, changed(pretraining, submitter="another"))
    assert "evaluations" in one.assumed
    assert one.arguments["precision"] == "nvfp4"
    assert "evaluations" in (lora.skipped or "")
    assert "no script of this size" in (other.skipped or "")


def test_other_kinds_of_record_are_left_out(mapped) -> None:
    assert mapped({**SC21_SMALLEST, "id": "matmul_max_h100"}) == []


def test_runs_of_one_configuration_stay_on_one_side(mapped) -> None:
    again = {**MPT, "id": "mpt_made_up_again"}
    found = mapped(MPT, again, {**changed(MPT, seq_len=4096), "id": "mpt_short"})
    assert [len(group) for group in configurations(found)] == [2, 1]
    calibrate, validate, older = split(PLANS[2], found)
    assert older == []
    assert {one.record for group in calibrate for one in group} == {"mpt_made_up", "mpt_made_up_again"}
    assert [one.record for one in validate] == ["mpt_short"]


def test_an_earlier_release_neither_calibrates_nor_validates(mapped) -> None:
    old, new = {**changed(BRIDGE, container="26.02"), "id": "mbridge_old"}, {**changed(BRIDGE, container="26.02.01"), "id": "mbridge_new"}
    found = mapped(new, old, {**changed(BRIDGE, seq_len=4096, container="25.11"), "id": "mbridge_short"})
    assert superseded(found) == {"mbridge_old"}
    plan = next(plan for plan in PLANS if plan.name == "gb200_megatron")
    calibrate, validate, older = split(plan, found)
    assert [one.record for one in older] == ["mbridge_old"]
    assert {one.record for group in calibrate for one in group} | {one.record for one in validate} == {"mbridge_new", "mbridge_short"}


def test_predictions_stand_beside_measurements(mapped) -> None:
    rows = predictions(mapped(MPT, changed(BRIDGE, micro_batch_size=None)))
    first = rows.iloc[0]
    assert first.error_pct == pytest.approx(100.0 * (first.predicted_step_time_s / 32.0 - 1.0))
    assert first.low_s < first.predicted_step_time_s < first.high_s
    assert rows.skipped.notna().tolist() == [False, True]
    table = summary(rows)
    assert table.records.tolist() == [1]
    assert table.median_ape_pct[0] == pytest.approx(abs(first.error_pct))
    assert skipped(rows).records.tolist() == [1]


def test_a_run_that_seems_not_to_fit_is_timed_all_the_same(mapped) -> None:
    row, crowded = (predictions(mapped(changed(MPT, activation_checkpointing=checkpointing))).iloc[0] for checkpointing in (True, False))
    assert row.does_not_fit is None
    assert "does not fit" in crowded.does_not_fit
    assert crowded.predicted_step_time_s > 0.0


def test_runs_of_a_known_machine_give_its_coefficients_back(mapped, tmp_path: Path) -> None:
    shapes = [(name, sequence, micro) for name in ("MPT-1b", "MPT-3b") for sequence, micro in ((1024, 16), (2048, 8), (8192, 2), (16384, 1))]
    records = [
        {**changed(MPT, model=name, seq_len=sequence, micro_batch_size=micro, global_batch_size=8 * micro), "id": f"mpt_{name}_{sequence}"}
        for name, sequence, micro in shapes
    ]
    known = prior_for(loading.accelerator("a100_sxm_40gb"), "none").median
    truth = replace(known, gemm_efficiency=0.62, attention_efficiency=0.31)
    for record, one in zip(records, sorted(mapped(*records), key=lambda c: [r["id"] for r in records].index(c.record)), strict=True):
        record["measured"] = {"tokens_per_s": one.tokens_per_step / observation(one).predicted(truth)}
    mapped(*records)
    plan = next(plan for plan in PLANS if plan.name == "a100_sxm_40gb_fsdp")
    found, table = document(plan, tmp_path)
    assert found["coefficients"]["gemm_efficiency"]["value"] == pytest.approx(0.62, rel=0.03)
    assert found["coefficients"]["attention_efficiency"]["value"] == pytest.approx(0.31, rel=0.1)
    assert table[table.role == "validated"].error_pct.abs().max() < 5.0
    assert table.role.value_counts().to_dict() == {"calibrated": 4, "validated": 4}
    assert calibration_errors(table).rows.sum() == 8


def test_an_unknown_calibration_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpecError, match="gb200_megatron"):
        calibrate(names=["gb200_megatro"])


def test_an_unknown_family_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpecError, match="mosaicml_mpt"):
        chosen_cases("mosaicml")


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"id": "x"}]'])
def test_a_file_that_is_no_list_of_records_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / THROUGHPUT_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=THROUGHPUT_FILE):
        cases(tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match=THROUGHPUT_FILE):
        cases(tmp_path)
    monkeypatch.delenv("EFFSIM_DATA", raising=False)
    with pytest.raises(SpecError, match="EFFSIM_DATA, which is not set"):
        cases()


def test_immersed_nodes_have_no_fans_and_direct_current_no_loss() -> None:
    wall, scope = node_behind(METERED, "h100_sxm")
    assert wall.fan_power is None
    assert wall.psu_efficiency.value < 1.0
    assert "immersed" in scope
    behind, scope = node_behind(changed(METERED, power_boundary="DC (after PSU) power"), "h100_sxm")
    assert behind.psu_efficiency.value == 1.0
    assert scope.startswith("behind the power supply")
    air, _ = node_behind(changed(METERED, host="a host"), "h100_sxm")
    assert air.fan_power is not None


def test_metered_power_is_of_a_node_and_energy_of_a_token(tmp_path: Path) -> None:
    (tmp_path / ENERGY_FILE).write_text(json.dumps([METERED, changed(METERED, benchmark="MLPerf Training v4.0 resnet")]), encoding="utf-8")
    rows = power_report(path=tmp_path)
    # 7,000 W x 4 s a step over 8 x 8,192 tokens
    assert rows.measured_energy_per_token_j[0] == pytest.approx(7000.0 * 4.0 / 65536.0)
    assert 4000.0 < rows.predicted_node_power_w[0] < 9000.0
    assert rows.power_error_pct[0] == pytest.approx(100.0 * (rows.predicted_node_power_w[0] / 7000.0 - 1.0))
    assert "resnet" in rows.skipped[1]


def test_implied_hours_are_in_proportion_to_the_goodput(tmp_path: Path) -> None:
    (tmp_path / ENERGY_FILE).write_text(json.dumps([OPT, {**OPT, "inputs": {"model": "unheard-of", "train_tokens_b": 1}}]), encoding="utf-8")
    all_of_it, half = reported_trainings(1.0, path=tmp_path), reported_trainings(0.5, path=tmp_path)
    assert half.implied_accelerator_hours[0] == pytest.approx(2.0 * all_of_it.implied_accelerator_hours[0])
    assert half.error_pct[0] == pytest.approx(100.0 * (half.implied_accelerator_hours[0] / 800000 - 1.0))
    assert all_of_it.skipped[1] == "unheard-of: architecture and split are not in the catalog"


def test_trainings_without_a_record_are_shown_without_reported_hours(tmp_path: Path) -> None:
    (tmp_path / ENERGY_FILE).write_text(json.dumps([OPT]), encoding="utf-8")
    rows = reported_trainings(path=tmp_path).set_index("record")
    assert {"LLaMA-65B", "Llama 2 70B", "BLOOM-176B", "Llama 3.1 405B"} <= set(rows.index)
    assert rows.drop(OPT["id"]).reported_accelerator_hours.isna().all()
    assert rows.drop(OPT["id"]).error_pct.isna().all()
    assert (rows.implied_accelerator_hours > 0.0).all()


def test_days_from_a_throughput_know_no_failures(tmp_path: Path) -> None:
    inputs = {
        "params_b": 174.6, "scheme": "PTD", "model_parallel_size": 96, "global_batch_size": 1536, "micro_batch_size": 1, "num_accelerators": 384,
        "seq_len": 2048, "train_tokens_b": 300,
    }  # fmt: skip
    record = {"id": "megatron_sc21_t2_made_up", "inputs": inputs, "measured": {"tflops_per_gpu": 100.0, "training_time_300b_tokens_days": 100}}
    (tmp_path / THROUGHPUT_FILE).write_text(json.dumps([record, {**record, "measured": {"tflops_per_gpu": 100.0}}]), encoding="utf-8")
    rows = extrapolated_trainings(path=tmp_path)
    assert len(rows) == 1
    assert rows.reported_accelerator_hours[0] == 100 * 24 * 384
    assert rows.goodput[0] == 1.0


def test_masked_models_predict_a_share_of_their_tokens() -> None:
    bert = model("bert-large")
    assert isinstance(bert, Transformer)
    times = [
        effsim.estimate_training(bert.model_copy(update={"predicted_share": share}), "h100_sxm", 1, 96, 96, 256, calibration="none").breakdown
        for share in (0.15, 1.0)
    ]
    few, all_of_them = (rows[rows.operation == "logits"].flop.sum() for rows in times)
    assert few == pytest.approx(0.15 * all_of_them)


def test_roles_are_those_of_the_fit_and_older_runs_have_no_part_in_errors(mapped) -> None:
    older = changed(BRIDGE, container="25.01") | {"id": "mbridge_old"}
    latest = changed(BRIDGE, container="26.01") | {"id": "mbridge_new"}
    other = changed(BRIDGE, container="26.01", global_batch_size=512) | {"id": "mbridge_other"}
    chosen = mapped(older, latest, other)
    rows = with_roles(predictions(chosen), chosen).set_index("record", drop=False)
    assert rows.role.to_dict() == {"mbridge_old": "older", "mbridge_new": "calibrated", "mbridge_other": "validated"}
    counts, errors = family_counts(rows).iloc[0], role_errors(rows).iloc[0]
    assert (counts.records, counts.older, counts.calibrated, counts.validated) == (3, 1, 1, 1)
    assert errors.calibrated_median_pct == pytest.approx(abs(rows.error_pct["mbridge_new"]))
    assert errors.validated_mean_pct == pytest.approx(abs(rows.error_pct["mbridge_other"]))
    assert (errors.worst, errors["all"]) == ("mbridge_other", 2)
    some = [one for one in chosen if one.record == "mbridge_other"]
    assert with_roles(predictions(some), chosen).role.tolist() == ["validated"]


def test_rows_of_which_a_part_is_a_guess_are_shown_apart(mapped) -> None:
    mixture = changed(
        BRIDGE, model="Qwen3_30B_a3B", num_accelerators=8, global_batch_size=512, micro_batch_size=4, seq_len=4096, tensor_parallel=1, pipeline_parallel=1,
        virtual_pipeline=1, expert_parallel=8,
    )  # fmt: skip
    early, late = (changed(mixture, container=release) | {"id": f"mbridge_{release}"} for release in ("25.11", "26.06"))
    titan = TITAN | {"id": "torchtitan_split"}
    chosen = mapped(BRIDGE, early, late, MPT, titan)
    rows = predictions(chosen).set_index("record")
    assert rows.configuration.to_dict() == {
        BRIDGE["id"]: "stated",
        "mbridge_25.11": "assumed",
        "mbridge_26.06": "stated",
        MPT["id"]: "stated",
        "torchtitan_split": "assumed",
    }
    assert all((rows.unstated != "") == (rows.configuration == "assumed"))
    assert all(guess in given for guess, given in zip(rows.unstated, rows.assumed, strict=True))


def test_recipes_of_mixtures_say_how_they_route(mapped) -> None:
    mixture = changed(
        BRIDGE, model="Qwen3_30B_a3B", num_accelerators=8, global_batch_size=512, micro_batch_size=4, seq_len=4096, tensor_parallel=1, pipeline_parallel=1,
        virtual_pipeline=1, expert_parallel=8,
    )  # fmt: skip
    runs = mapped(*(changed(mixture, container=release) for release in ("25.11", "26.04", "26.06")), changed(mixture, system="DGX-H100", precision="FP8"))
    early, graphs, fused, hopper = (one.arguments["routing"] for one in runs)
    assert [one.cuda_graphs for one in (early, graphs, fused, hopper)] == ["none", "router", "step", "none"]
    assert [one.fused_experts for one in (early, graphs, fused)] == [False, False, True]
    (dropping,) = mapped(changed(mixture, model="Qwen3_30B_a3B (tokendrop)"))
    assert dropping.arguments["routing"].dispatcher == "alltoall"
    (dense,) = mapped(BRIDGE)
    assert "routing" not in dense.arguments


REFERENCE = next((folder for folder in os.environ.get("EFFSIM_DATA", "").split(os.pathsep) if folder and (Path(folder) / THROUGHPUT_FILE).is_file()), None)
needs_reference = pytest.mark.skipif(REFERENCE is None, reason=f"EFFSIM_DATA names no folder with {THROUGHPUT_FILE}")


@needs_reference
def test_every_family_of_the_reference_has_records() -> None:
    found = cases(REFERENCE)
    assert {one.family for one in found} == set(FAMILIES)
    assert all(one.measured_step_time_s > 0.0 for one in found if one.skipped is None)


@needs_reference
def test_sc21_stands_on_data_sheet_and_priors_alone() -> None:
    rows = report("megatron_sc21", "none", REFERENCE)
    assert rows.refused.isna().all()
    assert float(np.mean(np.abs(rows.error_pct))) < 8.0
    assert rows.inside.all()


@needs_reference
def test_metered_nodes_are_met_within_a_fifth() -> None:
    rows = power_report("none", REFERENCE)
    errors = rows.power_error_pct.dropna().astype(float)
    assert len(errors) >= 4
    assert errors.abs().max() < 20.0
