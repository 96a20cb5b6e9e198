"""The search over splits, beside one estimate at a time."""

import itertools

import numpy as np
import pytest

import effsim
from effsim.errors import InfeasibleError, SpecError
from effsim.optimize.parallelism import Job, search_parallelism

SMALL = Job("llama-2-13b", "a100_sxm_80gb", 16, 64, 4096)


def brute_force():
    """Every combination of a reduced grid, each by its own estimate; infeasible ones left out."""
    best = {}
    for tensor, pipeline, micro, recompute, zero in itertools.product((1, 2, 4, 8), (1, 2, 4, 8), (1, 2, 4), ("none", "full"), (0, 1)):
        if tensor * pipeline > 16:
            continue
        try:
            estimate = effsim.estimate_training(
                SMALL.model,
                SMALL.accelerator,
                num_accelerators=16,
                global_batch_size=64,
                micro_batch_size=micro,
                sequence_length=4096,
                tensor_parallel=tensor,
                pipeline_parallel=pipeline,
                recompute=recompute,
                zero_stage=zero,
            )
        except effsim.EffSimError:
            continue
        best[tensor, pipeline, micro, recompute, zero] = estimate.step_time_s
    return best


def test_the_search_agrees_with_single_estimates():
    found = search_parallelism(SMALL)
    single = found[(found.virtual_pipeline_stages == 1) & (found.zero_stage <= 1) & (found.recompute != "selective") & (found.micro_batch_size <= 4)]
    keys = ["tensor_parallel", "pipeline_parallel", "micro_batch_size", "recompute", "zero_stage"]
    searched = {tuple(row[key] for key in keys): row["step_time_s"] for row in single.to_dict(orient="records") if row["pipeline_parallel"] <= 8}
    expected = {key: time_s for key, time_s in brute_force().items() if key in searched or key[4] == 0 or key[0] * key[1] < 16}
    assert searched == pytest.approx(expected, rel=1e-9)


def test_sorted_by_the_objective():
    for objective in ("step_time_s", "energy_j_per_step"):
        assert np.all(np.diff(search_parallelism(SMALL, objective)[objective]) >= 0.0)


def test_several_batch_sizes_at_once():
    both = search_parallelism(Job("llama-2-13b", "a100_sxm_80gb", 16, [64, 128], 4096))
    one = search_parallelism(SMALL)
    assert both[both.global_batch_size == 64].step_time_s.sort_values().tolist() == pytest.approx(one.step_time_s.tolist())


def test_what_cannot_be():
    with pytest.raises(SpecError, match="objective: expected step_time_s or energy_j_per_step"):
        search_parallelism(SMALL, "cost")
    with pytest.raises(InfeasibleError, match="no split of gpt-3-175b over 8 x a100_sxm_80gb fits"):
        search_parallelism(Job("gpt-3-175b", "a100_sxm_80gb", 8, 64))
