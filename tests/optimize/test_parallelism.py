"""The search over splits, beside one estimate at a time."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import effsim
from effsim.cost.deployment import Settings
from effsim.cost.recipe import Recipe
from effsim.errors import InfeasibleError, SpecError
from effsim.optimize.parallelism import OBJECTIVES, Job, Space, compare, optimize_training, search_parallelism
from effsim.optimize.parallelism.result import ARGUMENTS

SMALL = Job("llama-2-13b", "a100_sxm_80gb", 16, 64, 4096)
FEW = Space(zero_stage=[0, 1], tensor_parallel=[2, 4], pipeline_parallel=[1, 2, 5, 8], context_parallel=1, micro_batch_size=[1, 2], recompute=["none", "full"])
"""Five stages do not divide 16 accelerators; 40 layers over 8 stages do."""


def llama(hidden, layers, heads):
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "vocab_size": 32000,
        "max_position_embeddings": 8192,
    }


def mixture(hidden, layers, heads, experts):
    return {**llama(hidden, layers, heads), "model_type": "mixtral", "num_local_experts": experts, "num_experts_per_tok": 2}


def combinations(job, space, layers):
    """Every combination of a space in which each dimension is given, by the definitions alone: those that differ in nothing count once."""
    for tensor, pipeline, context, expert in itertools.product(space.tensor_parallel, space.pipeline_parallel, space.context_parallel, space.expert_parallel):
        ranks = tensor * pipeline * context
        if job.num_accelerators % ranks or pipeline > layers:
            continue
        data = job.num_accelerators // ranks
        if (tensor * data) % expert:
            continue
        chunks = [v for v in space.virtual_pipeline_stages if v == 1 or (pipeline > 1 and any((layers + t) % (pipeline * v) == 0 for t in range(4)))]
        schedules = [("1f1b", v) for v in chunks if v <= max((layers + 3) // pipeline, 1)] + [("zero_bubble", 1)] * (pipeline > 1)
        copies = data * context
        groups = {None if g in {0, copies} else g for g in space.shard_group if g == 0 or copies % g == 0}
        shards = [(z, g) for z in space.zero_stage for g in groups if z or g is None] if copies > 1 else [(min(space.zero_stage), None)]
        sequences = space.sequence_parallel if tensor > 1 else (False,)
        rest = itertools.product(sequences, schedules, shards, space.recompute, space.micro_batch_size)
        for sequence, (schedule, v), (zero, group), recompute, micro in rest:
            values = (tensor, pipeline, v, context, expert, sequence, micro, recompute, zero, group, schedule, "bf16", job.global_batch_size)
            yield dict(zip(ARGUMENTS, values, strict=True))


def one_by_one(job, space, layers):
    """Time, energy and memory by combination, and how many were refused for which reason; each from its own estimate."""
    values, refused = {}, Counter()
    for chosen in combinations(job, space, layers):
        sizes = {"num_accelerators": job.num_accelerators, "sequence_length": job.sequence_length}
        as_array = {**chosen, "global_batch_size": [chosen["global_batch_size"]]}  # an array: what does not fit is marked, not raised
        try:
            estimate = effsim.estimate_training(job.model, job.accelerator, **sizes, **as_array)
        except SpecError:
            refused["the model does not divide"] += 1
            continue
        replicas = job.num_accelerators // (chosen["tensor_parallel"] * chosen["pipeline_parallel"] * chosen["context_parallel"])
        if estimate.feasible[0]:
            values[tuple(chosen.values())] = (estimate.step_time_s[0], estimate.energy_j_per_step[0], estimate.memory.total_bytes[0])
        else:
            refused["the batch does not divide" if job.global_batch_size % (replicas * chosen["micro_batch_size"]) else "memory"] += 1
    return values, refused


def searched(found):
    rows = [(found.arguments(place), found.best.iloc[place]) for place in range(len(found.best))]
    return {tuple(chosen.values()): (row.step_time_s, row.energy_j_per_step, row.memory_bytes) for chosen, row in rows}


def whole(**limits):
    """A small space with every dimension given."""
    base = {
        "tensor_parallel": [1, 4],
        "pipeline_parallel": [2, 3],
        "virtual_pipeline_stages": [1, 2],
        "context_parallel": [1, 2],
        "expert_parallel": [1],
        "sequence_parallel": [True],
        "micro_batch_size": [1, 3],
        "recompute": ["none", "full"],
        "zero_stage": [0, 1],
        "shard_group": [0],
    }
    return Space(**{**base, **limits})


@given(
    hidden=st.sampled_from([1024, 4096, 8192]),
    layers=st.integers(2, 9),
    heads=st.sampled_from([4, 6, 8]),
    count=st.sampled_from([4, 6, 16]),
    batch=st.sampled_from([12, 16, 48]),
    limits=st.sampled_from(
        [{}, {"zero_stage": [1, 2, 3], "shard_group": [0, 2], "micro_batch_size": [1, 4]}, {"recompute": ["selective", "alternate"], "zero_stage": [1]}]
    ),
)
@settings(max_examples=5, deadline=None)
def test_dense_models_as_one_by_one(hidden, layers, heads, count, batch, limits):
    if hidden % heads:
        hidden = heads * (hidden // heads // 8) * 8
    job, space = Job(llama(hidden, layers, heads), "a100_sxm_40gb", count, batch, 4096), whole(**limits)
    expected, refused = one_by_one(job, space, layers)
    _same(job, space, expected, refused)


@given(layers=st.integers(2, 5), experts=st.sampled_from([4, 6, 8]), hidden=st.sampled_from([1024, 4096]), count=st.sampled_from([8, 16]))
@settings(max_examples=4, deadline=None)
def test_mixtures_as_one_by_one(layers, experts, hidden, count):
    space = whole(
        expert_parallel=[1, 2, 4, 8], context_parallel=[1], sequence_parallel=[True, False], micro_batch_size=[1], recompute=["none"], zero_stage=[1, 3]
    )
    job = Job(mixture(hidden, layers, 8, experts), "a100_sxm_40gb", count, 32, 2048)
    expected, refused = one_by_one(job, space, layers)
    _same(job, space, expected, refused)


def _same(job, space, expected, refused):
    if not expected:
        with pytest.raises(InfeasibleError):
            search_parallelism(job, space=space)
        return
    found = search_parallelism(job, space=space)
    assert searched(found) == {key: pytest.approx(values, rel=1e-9) for key, values in expected.items()}
    assert (found.feasible, found.refused) == (len(expected), dict(refused))
    assert found.considered == found.feasible + sum(found.refused.values())


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("job", [SMALL, Job("mixtral-8x7b", "h100_sxm", 16, 64, 2048)], ids=["dense", "mixture"])
def test_what_the_bound_rules_out_is_not_among_the_best(objective, job):
    ranks = {"tensor_parallel": [2, 4], "pipeline_parallel": [1, 2, 4], "virtual_pipeline_stages": [1, 2], "context_parallel": 1}
    ranks["expert_parallel"] = [1] if job is SMALL else [1, 4]
    space = Space(**ranks, micro_batch_size=[1, 2], sequence_parallel=True, recompute=["none", "minimal", "full"])
    whole_table, best = search_parallelism(job, objective, space=space), search_parallelism(job, objective, space=space, top=7)
    assert best.best[objective].tolist() == pytest.approx(whole_table.best[objective].head(7).tolist(), rel=1e-12)
    assert np.all(np.diff(whole_table.best[objective]) >= 0.0)
    assert whole_table.feasible == len(whole_table.best) >= best.timed
    assert (best.feasible, best.refused, best.considered) == (whole_table.feasible, whole_table.refused, whole_table.considered)


def test_rows_are_arguments_of_an_estimate():
    found = search_parallelism(SMALL, space=FEW, top=3)
    estimate = effsim.estimate_training(SMALL.model, SMALL.accelerator, num_accelerators=16, sequence_length=4096, **found.arguments())
    row = found.best.iloc[0]
    assert estimate.step_time_s == pytest.approx(row.step_time_s, rel=1e-12)
    assert float(estimate.memory.total_bytes) == pytest.approx(row.memory_bytes, rel=1e-12)


def test_stages_that_do_not_divide_the_layers():
    stages = set(
        search_parallelism(
            Job("llama-2-13b", "a100_sxm_80gb", 48, 96, 4096), space=Space(micro_batch_size=1, context_parallel=1, recompute="full", zero_stage=1)
        ).best.pipeline_parallel
    )
    assert {3, 6, 12} <= stages  # of 40 layers


def test_limits():
    found = search_parallelism(
        SMALL, space=Space(tensor_parallel=4, zero_stage=[1, 2], recompute="full", data_parallel=2, micro_batch_size=1, pipeline_schedule="interleaved")
    )
    best = found.best
    assert set(best.tensor_parallel) == {4}
    assert set(best.zero_stage) <= {1, 2}
    assert set(best.recompute) == {"full"}
    assert set(best.data_parallel) == {2}
    assert 1 not in set(best[best.pipeline_parallel > 1].virtual_pipeline_stages)  # without stages there is nothing to interleave


def test_a_limit_that_changes_nothing_is_kept_to():
    one = search_parallelism(
        Job("llama-2-7b", "a100_sxm_80gb", 4, 8, 2048), space=Space(tensor_parallel=4, zero_stage=2, recompute="none", pipeline_schedule="zero_bubble")
    )
    assert set(one.best.zero_stage) == {2}  # on one replica, where no stage shares anything
    assert set(one.best.pipeline_schedule) == {"zero_bubble"}  # of one stage


def test_headroom_leaves_room():
    job = Job("llama-2-13b", "a100_sxm_80gb", 16, 64, 4096, memory_headroom=0.25)
    found, without = search_parallelism(job, space=FEW), search_parallelism(SMALL, space=FEW)
    limit_bytes = 0.75 * effsim.accelerator("a100_sxm_80gb").memory.value
    assert found.best.memory_bytes.max() <= limit_bytes < without.best.memory_bytes.max()
    assert found.feasible == int((without.best.memory_bytes <= limit_bytes).sum())


@pytest.mark.parametrize("engine", ["megatron", "fsdp"])
def test_memory_of_every_sharding(engine):
    """Engines without gradient buffers are fullest at another moment."""
    job = Job("llama-2-7b", "a100_sxm_80gb", 16, 32, 4096, settings=Settings(precision="bf16", engine=engine, phase="train"))
    found = search_parallelism(
        job, "memory_bytes", space=Space(tensor_parallel=2, pipeline_parallel=2, context_parallel=1, micro_batch_size=[1, 2], recompute="full")
    )
    assert len(found.best) >= 20
    for place in range(0, len(found.best), 7):
        chosen = found.arguments(place)
        estimate = effsim.estimate_training(job.model, job.accelerator, num_accelerators=16, sequence_length=4096, engine=engine, **chosen)
        assert float(estimate.memory.total_bytes) == pytest.approx(found.best.memory_bytes[place], rel=1e-12)


def test_a_split_beside_the_best():
    found = search_parallelism(SMALL, space=FEW, top=1)
    beside = compare(SMALL, found, {"tensor_parallel": 8, "pipeline_parallel": 2, "recompute": "full", "micro_batch_size": 1, "context_parallel": 1})
    assert beside.parts.best_s.sum() == pytest.approx(beside.best["step_time_s"], rel=1e-9)
    assert beside.parts.given_s.sum() == pytest.approx(beside.given["step_time_s"], rel=1e-9)
    assert (beside.given["tensor_parallel"], beside.given["recompute"]) == (8, "full")
    assert "recompute" in beside.summary
    assert "more than the best" in beside.summary
    assert compare(SMALL, found, found.arguments()).summary.endswith(f"it is the best, or as good ({found.best.step_time_s[0]:.4g} s).")
    nothing = compare(SMALL, found, {"tensor_parallel": 1, "pipeline_parallel": 1, "zero_stage": 0})
    assert nothing.given is None
    assert "What would lift it" in nothing.summary
    with pytest.raises(SpecError, match="compare: no dimension 'tensor'; did you mean 'tensor_parallel'"):
        compare(SMALL, found, {"tensor": 8})


def test_several_batch_sizes_and_precisions():
    both = search_parallelism(
        Job("llama-2-13b", "h100_sxm", 16, [64, 128], 4096),
        space=Space(precision=["bf16", "fp8"], recompute="full", context_parallel=1, micro_batch_size=1, tensor_parallel=[2, 4], zero_stage=1),
    )
    assert set(both.best.precision) == {"bf16", "fp8"}
    one = search_parallelism(
        Job("llama-2-13b", "h100_sxm", 16, 64, 4096),
        space=Space(recompute="full", context_parallel=1, micro_batch_size=1, tensor_parallel=[2, 4], zero_stage=1),
    )
    part = both.best[(both.best.global_batch_size == 64) & (both.best.precision == "bf16")]
    assert part.step_time_s.sort_values().tolist() == pytest.approx(one.best.step_time_s.tolist())


def test_an_interrupt_keeps_what_was_found():
    calls = []

    def stop(what, share):
        calls.append(what)
        if calls.count("time") == 3:
            raise KeyboardInterrupt

    found = search_parallelism(SMALL, space=FEW, top=3, progress=stop)
    assert not found.complete
    assert len(found.best) == 3
    assert search_parallelism(SMALL, space=FEW, top=3).complete


def test_optimize_training_is_the_search():
    limits = {"tensor_parallel": [2, 4], "context_parallel": 1, "zero_stage": 1}
    public = optimize_training("llama-2-13b", "a100_sxm_80gb", 16, 64, 4096, top=5, **limits)
    assert public.best.step_time_s.tolist() == search_parallelism(SMALL, space=Space(**limits), top=5).best.step_time_s.tolist()
    document = public.to_dict()
    assert document["best"][0]["tensor_parallel"] in {2, 4}
    assert document["best"][0]["shard_group"] is None


WRONG = [
    ({"tensor_parallel": 0}, "tensor_parallel: must be a whole number of at least 1, got 0"),
    ({"tensor_parallel": [2, "4"]}, "tensor_parallel: must be a whole number of at least 1, got '4'"),
    ({"zero_stage": 4}, "zero_stage: allowed: 0, 1, 2, 3; got 4"),
    ({"zero_stage": True}, "zero_stage: allowed: 0, 1, 2, 3; got True"),
    ({"sequence_parallel": 1}, "sequence_parallel: allowed: True, False; got 1"),
    ({"recompute": "ful"}, "recompute: .*'ful'"),
    ({"pipeline_schedule": "zero-bubble"}, "pipeline_schedule: did you mean 'zero_bubble'.*"),
    ({"micro_batch_size": []}, "micro_batch_size: no value given"),
    ({"tensor": 4}, "optimize_training: no argument 'tensor'; did you mean 'tensor_parallel'.*"),
    ({"expert_parallel": [2, 4]}, "expert_parallel: 2, 4 groups for experts that llama-2-13b does not have; give 1"),
    ({"expert_parallel": [1, 4]}, "expert_parallel: 4 groups for experts that llama-2-13b does not have; give 1"),
    ({"objective": "cost"}, "objective: expected step_time_s, energy_j_per_step, energy_per_token_j, memory_bytes, got 'cost'"),
    ({"top": 0}, "top: must be a whole number of at least 1, got 0"),
    ({"memory_headroom": 1.0}, r"memory_headroom: must be a number in \[0, 1\), got 1.0"),
    ({"optimizer": "adamm"}, "optimizer: .*adam"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_mistakes(given, message):
    with pytest.raises(SpecError, match=message):
        optimize_training("llama-2-13b", "a100_sxm_80gb", 16, 64, 4096, **given)


def test_accelerators_that_nothing_joins():
    with pytest.raises(SpecError, match="num_accelerators: 16 are more than the 1 that are joined; give a node with a network"):
        search_parallelism(Job("llama-2-7b", "m4_max_40c", 16, 64, 2048))


REMEDIES = [
    (Job("gpt-3-175b", "a100_sxm_80gb", 8, 64), Space(), "accelerator memory", r"\d+ accelerators"),
    (Job("llama-2-13b", "a100_sxm_80gb", 16, 7), Space(data_parallel=16), "divisibility", r"data_parallel \(such as 1\)"),
    (Job("llama-2-13b", "a100_sxm_80gb", 16, 64), Space(tensor_parallel=3), "divisibility", r"tensor_parallel \(such as \d\)"),
    (Job("llama-2-13b", "a100_sxm_80gb", 16, 64, 4096, memory_headroom=0.9), Space(), "accelerator memory", "no memory_headroom"),
    (
        Job("llama-2-13b", "a100_sxm_80gb", 4, 64, 4096),
        Space(tensor_parallel=1, pipeline_parallel=1, zero_stage=0),
        "accelerator memory",
        r"tensor_parallel \(such as \d\)",
    ),
    (Job("llama-2-7b", "a100_sxm_40gb", 1, 64, 2048), Space(), "accelerator memory", "optimizer=|accelerators|h200|GiB"),
]


@pytest.mark.parametrize(("job", "space", "constraint", "remedy"), REMEDIES, ids=lambda value: None)
def test_nothing_fits_says_why_and_what_would(job, space, constraint, remedy):
    with pytest.raises(InfeasibleError, match=f"What would lift it: .*({remedy})") as caught:
        search_parallelism(job, space=space)
    assert caught.value.constraint == constraint


def test_a_named_remedy_makes_it_fit():
    with pytest.raises(InfeasibleError) as caught:
        search_parallelism(Job("gpt-3-175b", "a100_sxm_80gb", 8, 64))
    more = next(remedy for remedy in caught.value.remedies if remedy.endswith("accelerators"))
    count = int(more.split()[0])
    assert search_parallelism(Job("gpt-3-175b", "a100_sxm_80gb", count, 64), top=1).feasible
    with pytest.raises(InfeasibleError):
        search_parallelism(Job("gpt-3-175b", "a100_sxm_80gb", count // 2, 64), top=1)


def test_recipes_are_kept():
    lighter = search_parallelism(Job("llama-2-13b", "a100_sxm_80gb", 16, 64, 4096, recipe=Recipe(optimizer="adam_8bit")), "memory_bytes", space=FEW, top=1)
    assert lighter.best.memory_bytes[0] < search_parallelism(SMALL, "memory_bytes", space=FEW, top=1).best.memory_bytes[0]
