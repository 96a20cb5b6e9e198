"""The leaderboard's own files as rows of the benchmark."""

import json

import pytest

from effsim.errors import SpecError
from effsim.validate.leaderboard import is_leaderboard, rows_of
from effsim.validate.mlenergy import COLUMNS


def configuration(**changes):
    base = {
        "gpu_model": "H100", "num_gpus": 4, "max_num_seqs": 16, "max_num_batched_tokens": None, "avg_batch_size": 15.5,
        "parallelization": {"tensor_parallel": 4, "expert_parallel": 0, "data_parallel": 0, "notes": ""}, "energy_per_token_joules": 2.0,
        "energy_per_request_joules": 1600.0, "median_itl_ms": 20.0, "p95_itl_ms": 30.0, "output_throughput_tokens_per_sec": 700.0,
    }  # fmt: skip
    return {**base, **changes}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "index.json").write_text("{}")

    def write(name, task, *configurations):
        path = tmp_path / "models" / f"{name.replace('/', '__')}__{task}.json"
        path.write_text(json.dumps({"model_id": name, "task": task, "configurations": configurations}))
        return tmp_path

    return write


def test_a_configuration_becomes_a_row(folder):
    place = folder("Qwen/Qwen3-32B", "gpqa", configuration(), configuration(gpu_model="A40"))
    rows, left = rows_of(place)
    assert is_leaderboard(place)
    assert set(COLUMNS) <= set(rows)
    (row,) = rows.to_dict(orient="records")
    assert (row["tensor_parallel"], row["expert_parallel"], row["data_parallel"], row["prompt_tokens_estimate"]) == (4, 1, 1, 280)
    assert (row["power_w_all_gpus"], row["avg_output_tokens"], row["median_itl_ms"]) == (1400.0, 800.0, 20.0)
    assert left == []


def test_experts_spread_over_ranks_that_split_attention(folder):
    rows, _ = rows_of(folder("Qwen/Qwen3-30B-A3B", "gpqa", configuration(parallelization={"tensor_parallel": 1, "expert_parallel": 4, "data_parallel": 0})))
    assert rows[["tensor_parallel", "expert_parallel"]].to_numpy().tolist() == [[4, 4]]


def test_what_is_not_text_or_not_known_is_left_out_with_its_reason(folder):
    folder("Qwen/Qwen3-32B", "gpqa", configuration())
    folder("Qwen/Qwen3-32B", "video-chat", configuration())
    _, left = rows_of(folder("nobody/unheard-of-9b", "gpqa", configuration()))
    reasons = dict(left)
    assert "not text" in reasons["Qwen__Qwen3-32B__video-chat"]
    assert "unheard-of" in reasons["nobody__unheard-of-9b__gpqa"]


def test_nothing_to_compare_is_said(folder):
    with pytest.raises(SpecError, match="no configuration of lm-arena-chat"):
        rows_of(folder("Qwen/Qwen3-32B", "gpqa", configuration(gpu_model="A40")))
