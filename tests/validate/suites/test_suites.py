"""What each suite reads out of its records, with the rest left out for a stated reason."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from effsim.errors import UnknownNameError
from effsim.validate.context import Context
from effsim.validate.edge_rows import runs
from effsim.validate.registry import names, run_suites
from effsim.validate.suites import edge, power, vllm_logs

APPLE = {
    "id": "m2pro", "kind": "llm_inference_throughput",
    "inputs": {"model": "LLaMA-2-7B", "device": "Apple M2 Pro", "gpu_cores": 16, "prompt_tokens": 512, "gen_tokens": 128},
    "measured": {"f16_pp512_tok_s": 300.0, "q4_0_tg128_tok_s": 40.0, "rss_mib": 3},
}  # fmt: skip
PC = {
    "id": "pc", "kind": "llm_decode_throughput_and_wall_power",
    "inputs": {"model": "Llama 3.2:3b", "device": "Intel 265K Custom PC (Nvidia RTX 4090)", "compute": "GPU", "quant": "Ollama/llama.cpp default (Q4_K_M)"},
    "measured": {"tg_tok_s": 240.0, "peak_wall_power_w": 400.0},
}  # fmt: skip


def changed(record, **inputs):
    return {**record, "inputs": {**record["inputs"], **inputs}}


def test_apple_rows_name_format_tokens_and_cores():
    taken, left = runs(APPLE)
    assert left == []
    prefill, decode = taken
    assert (prefill.quantity, prefill.precision, prefill.tokens, prefill.accelerator, prefill.cores) == ("prefill_tokens_per_s", "fp16", 512, "m2_pro", 16)
    assert (decode.quantity, decode.precision, decode.tokens, decode.from_empty) == ("decode_tokens_per_s", "q4_0", 128, True)


def test_fewer_cores_have_their_share_of_the_rate_and_all_the_bandwidth():
    one = runs(APPLE)[0][0]
    whole = edge.device_of(replace(one, cores=None))
    part = edge.device_of(one)
    assert part.peak["fp16"].value == pytest.approx(whole.peak["fp16"].value * 16 / 19)
    assert part.memory_bandwidth == whole.memory_bandwidth


def test_power_at_the_wall_needs_a_host_of_the_catalog():
    taken, left = runs(PC)
    assert [one.quantity for one in taken] == ["decode_tokens_per_s", "wall_power_w"]
    taken, left = runs(changed(PC, device="Pi CM5 - 16GB (Nvidia RTX 4090)"))
    assert [one.quantity for one in taken] == ["decode_tokens_per_s"]
    assert "host" in left[0]


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"device": "Minisforum MS-R1"}, "not in the catalog"),
        ({"device": "H100"}, "PCIe, SXM or NVL is not stated"),
        ({"compute": "GPU/CPU"}, "part of the model ran on the CPU"),
        ({"model": "Llama 9"}, "the model Llama 9"),
        ({"quant": "Q3_X"}, "number format"),
    ],
)
def test_what_cannot_be_asked_is_left_out_with_its_reason(inputs, reason):
    taken, left = runs(changed(PC, **inputs))
    assert taken == []
    assert reason in left[0]


def test_a_phones_cpu_is_compared_in_decode_only():
    record = {
        "id": "phone", "kind": "llm_inference_throughput", "inputs": {"model": "Llama 3.2 1B", "quant": "BF16", "prompt_tokens": 64,
        "device": "OnePlus 12 (Snapdragon 8 Gen 3), CPU XNNPACK+KleidiAI"}, "measured": {"tg_tok_s": 19.2, "prefill_tok_s": 60.3},
    }  # fmt: skip
    taken, _ = runs(record)
    assert [one.quantity for one in taken] == ["decode_tokens_per_s"]


def test_edge_suite_compares_rates(tmp_path):
    (tmp_path / "mobile_edge.json").write_text(json.dumps([APPLE, PC, changed(APPLE, device="abacus")]))
    (tmp_path / "inference_energy.json").write_text("[]")
    found = edge.run(Context(data=tmp_path))
    by_quantity = {one.quantity: one for one in found.comparisons if one.cell == "workstation card"}
    decode = by_quantity["decode_tokens_per_s"]
    assert decode.low_90 < decode.low_50 < decode.predicted < decode.high_50 < decode.high_90
    # weights of about 1.9 GB at 1,008 GB/s: at most 530 tokens per second
    assert 150.0 < decode.predicted < 530.0
    assert 100.0 < by_quantity["wall_power_w"].predicted < 700.0
    assert len(found.skipped) == 1


REQUESTS = [(0.0, 0.0, 0.5, 2.5, 100, 21), (1.0, 1.2, 1.5, 3.5, 200, 11)]


@pytest.fixture
def vllm_run(tmp_path):
    folder = tmp_path / "vllm_runs" / "rtx-pro-6000_llama-3.1-8b"
    folder.mkdir(parents=True)
    keys = ("queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts", "input_toks", "output_toks")
    (folder / "requests.jsonl").write_text("\n".join(json.dumps(dict(zip(keys, row, strict=True))) for row in REQUESTS))
    (folder / "timeseries.csv").write_text("t,running,waiting\n1,1,1\n2,2,1\n")
    engine = {"dtype": "bfloat16", "data_parallel_size": 1, "tensor_parallel_size": 1, "max_num_seqs": 8, "max_num_batched_tokens": 2048}
    (folder / "meta.json").write_text(json.dumps({"engine_kwargs": engine}))
    return tmp_path


class Echo:
    """A simulator that answers what was measured, slower or faster by a fifth at the ends."""

    def __init__(self, path, end):
        factor = {-1: 0.8, 0: 1.0, 1: 1.25}[end]
        assert "max_num_seqs: 8" in path.read_text()
        trace = pd.read_csv(path.parent / "trace.csv")
        e2e_s = [factor * (last - queued) for queued, _, _, last, _, _ in REQUESTS]
        ttft_s = [factor * (first - queued) for queued, _, first, _, _, _ in REQUESTS]
        tpot_s = [factor * (last - first) / (tokens - 1) for _, _, first, last, _, tokens in REQUESTS]
        self.requests = trace.assign(e2e_latency_s=e2e_s, ttft_s=ttft_s, tpot_s=tpot_s, dropped="")
        self.power = pd.DataFrame({"running": [1.5], "waiting": [1.0], "duration_s": [2.0]})


def test_a_perfect_simulator_has_no_error(vllm_run):
    found = vllm_logs.run(Context(data=vllm_run, simulate=Echo))
    assert {one.quantity: round(one.relative_error, 9) for one in found.comparisons} == dict.fromkeys((one.quantity for one in found.comparisons), 0.0)
    ttft = next(one for one in found.comparisons if one.quantity == "ttft_s p50")
    assert (ttft.measured, ttft.unit) == (0.5, "s")
    assert (ttft.low_90, ttft.high_90) == pytest.approx((0.4, 0.625))


def test_a_spoilt_line_of_a_request_log_is_named(vllm_run):
    path = vllm_run / "vllm_runs" / "rtx-pro-6000_llama-3.1-8b" / "requests.jsonl"
    path.write_text(path.read_text() + "\n{}")
    found = vllm_logs.run(Context(data=vllm_run, simulate=Echo))
    assert found.comparisons == ()
    assert "line 3" in found.skipped[0].reason


def test_capped_cards_draw_their_cap():
    idle, busy = (power.node_power_w("h200_sxm", "dgx_h200", 8, watts, busy=share) for watts, share in ((75.0, 0.0), (350.0, 1.0)))
    assert 1500.0 < idle < busy
    assert busy > 8 * 350.0
    assert power.node_power_w("h200_sxm", "dgx_h200", 8, 700.0, busy=1.0) - busy > 8 * 350.0, "fans and losses come on top"


def test_suites_are_found_in_their_folder():
    assert names() == ("mlenergy", "vllm_logs", "training", "edge", "power")
    with pytest.raises(UnknownNameError, match="did you mean 'edge'"):
        run_suites(Context(), ["egde"])


def test_a_suite_without_its_measurements_says_what_is_missing(tmp_path):
    (found,) = run_suites(Context(data=tmp_path), ["vllm_logs"])
    assert found.comparisons == ()
    assert "vllm_runs: not found" in found.skipped[0].reason


def test_kernels_of_llama_cpp_beside_its_own_table(reference_file):
    """Nothing is fitted: rows of Apple silicon in q4_0, q8_0 and f16 are met within a third, in the median within a tenth."""
    records = [one for one in json.loads(reference_file("mobile_edge.json").read_text()) if one["id"].startswith("llamacpp4167")]
    errors = pd.Series([one.relative_error for record in records for run in runs(record)[0] for one in edge.compared(run)])
    assert len(errors) > 20
    assert errors.abs().median() < 0.10
    assert errors.abs().max() < 0.34
