"""The phases of a step: they sum to the whole, and each answers to its own cause."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import effsim
from effsim.cost.training_phases import PHASE_WORDS

BASE = {"num_accelerators": 32, "global_batch_size": 64, "sequence_length": 2048, "calibration": "none"}


def phases(model="llama-3.1-8b", accelerator="h100_sxm", **given):
    found = effsim.estimate_training(model, accelerator, **{**BASE, **given})
    return found, found.phases.set_index("phase")


@given(
    tensor=st.sampled_from([1, 2, 8]),
    pipeline=st.sampled_from([1, 2, 4]),
    zero=st.sampled_from([0, 1, 3]),
    recompute=st.sampled_from(["none", "full"]),
    uneven=st.sampled_from([0.0, 0.05]),
    bytes_per_token=st.sampled_from([4.0, 1e6]),
    limit=st.sampled_from([None, 350.0]),
)
def test_phases_sum_to_the_step(tensor, pipeline, zero, recompute, uneven, bytes_per_token, limit):
    split = {"tensor_parallel": tensor, "pipeline_parallel": pipeline, "zero_stage": zero, "recompute": recompute}
    found, table = phases("llama-3.2-1b", **split, rank_time_sd=uneven, data_bytes_per_token=bytes_per_token, storage="file_server_10g", power_limit_w=limit)
    assert list(table.index) == list(PHASE_WORDS)
    assert table.time_s.min() >= 0.0
    assert math.fsum(table.time_s) == pytest.approx(found.step_time_s, rel=1e-9)
    assert math.fsum(table.energy_j) == pytest.approx(found.energy_j_per_step, rel=1e-9)
    assert (table.time_s["tensor"] > 0.0) == (tensor > 1)
    assert (table.time_s["recompute"] > 0.0) == (recompute == "full")
    assert (table.time_s["bubble"] > 0.0) == (table.time_s["pipeline"] > 0.0) == (pipeline > 1)
    assert (table.time_s["straggling"] > 0.0) == (uneven > 0.0)
    known = table[table.time_s > 0.0]
    assert (known.low_s < known.time_s).all()
    assert (known.time_s < known.high_s).all()
    assert table[table.time_s == 0.0].power_w.isna().all()


def test_each_axis_waits_for_its_own_collectives():
    _, routed = phases("mixtral-8x7b", num_accelerators=64, expert_parallel=8, zero_stage=3, recompute="full")
    assert routed.time_s["expert"] > 0.0
    assert routed.time_s["tensor"] == routed.time_s["context"] == 0.0
    _, ring = phases(context_parallel=4, zero_stage=3, recompute="full")
    assert ring.time_s["context"] > 0.0
    assert ring.time_s["expert"] == 0.0


def test_backward_takes_about_twice_the_forward():
    _, table = phases("gpt-3-175b", "a100_sxm_80gb", num_accelerators=64, tensor_parallel=8, pipeline_parallel=8, recompute="full")
    assert table.time_s["backward"] / table.time_s["forward"] == pytest.approx(2.0, abs=0.15)
    assert table.time_s["recompute"] / table.time_s["forward"] == pytest.approx(1.0, abs=0.1)


def test_accelerators_that_wait_draw_less_than_those_that_compute():
    _, table = phases(tensor_parallel=2, pipeline_parallel=4, storage="file_server_10g", data_bytes_per_token=1e6)
    assert max(table.power_w["bubble"], table.power_w["loading"]) < min(table.power_w["forward"], table.power_w["backward"])


def test_more_micro_batches_hide_no_more_of_the_sums():
    """Stage 1 exchanges once a step, behind one backward and one forward pass: what is exposed does not fall with the number of micro-batches."""
    few, many = (phases(micro_batch_size=1, global_batch_size=count, zero_stage=1, gradient_bytes=4, sequence_length=128)[0] for count in (32, 128))
    assert float(few.exchange_s) == pytest.approx(float(many.exchange_s), rel=1e-9)
