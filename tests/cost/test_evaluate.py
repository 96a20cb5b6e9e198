"""From operations to time and energy: bounds that no efficiency may break, on several models and iterations."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.cost.collectives import Fabric, Level
from effsim.cost.deployment import Settings, deploy
from effsim.cost.device import COEFFICIENTS, MIN_CLOCK, build_device, prior_for
from effsim.cost.evaluate import BLOCK_ITERATIONS, Habits, cost_table, evaluate, operation_costs, powered
from effsim.cost.kernels import power_at
from effsim.errors import SpecError
from effsim.specs import loading
from effsim.workload.features import Iteration, feature_matrix
from effsim.workload.operations import Operation, Parallelism, build_table, total

H100 = loading.accelerator("h100_sxm")
MEDIAN = prior_for(H100, "none").median
MODELS = ("qwen3-8b", "gemma-3-27b", "mixtral-8x7b", "deepseek-v3", "nemotron-nano-9b-v2")
TENSOR = {"deepseek-v3": 8, "mixtral-8x7b": 2}


def deployment(name, **settings):
    return deploy(name, "h100_sxm", Parallelism(tensor=TENSOR.get(name, 1)), Settings(calibration="none", **settings))


def figure(given, factor):
    return given.model_copy(update={"value": given.value * factor})


iterations = st.builds(
    Iteration,
    decode_seqs=st.integers(1, 300),
    decode_from=st.integers(1, 500),
    decode_to=st.integers(500, 4_000),
    prefill_seqs=st.integers(0, 4),
    prefill_tokens=st.integers(1, 2_000),
    prefill_before=st.integers(0, 1_000),
    completed_prefills=st.integers(0, 1),
)


@pytest.mark.parametrize("name", MODELS)
@given(iterations)
def test_no_operation_beats_the_peak_or_the_bandwidth(name, iteration):
    costs = deployment(name).costs(MEDIAN)
    features = feature_matrix(costs.table.features, iteration)
    each = operation_costs(costs, features)
    active = costs.trigger @ features > 0.0
    rate = np.array([costs.device.peak_flop_per_s[op.dtype] for op in costs.table.operations])[:, None]
    assert (each.time_s >= costs.table.flop @ features / rate * (1 - 1e-9)).all()
    moved = (costs.table.read + costs.table.write) @ features * active
    assert (each.time_s >= moved / costs.device.bandwidth_bytes_per_s * (1 - 1e-9)).all()
    assert (each.time_s[~active] == 0.0).all()


@pytest.mark.parametrize("name", MODELS)
@given(iterations, st.floats(1.0, 4.0), st.booleans())
def test_more_bandwidth_or_peak_is_never_slower(name, iteration, better, is_bandwidth):
    base = deployment(name)
    if is_bandwidth:
        improved = H100.model_copy(update={"memory_bandwidth": figure(H100.memory_bandwidth, better)})
    else:
        improved = H100.model_copy(update={"peak": {dtype: figure(rate, better) for dtype, rate in H100.peak.items()}})
    features = feature_matrix(base.table.features, iteration)
    now, then = (evaluate(cost_table(base.table, build_device(acc, MEDIAN), base.fabric), features).time_s[0] for acc in (H100, improved))
    assert then <= now * (1 + 1e-9)


@pytest.mark.parametrize("name", MODELS)
@given(iterations, st.floats(200.0, 700.0))
def test_power_lies_between_idle_and_the_limit(name, iteration, limit_w):
    """Unless even the lowest clock draws more, as memory traffic does not slow down with the clock."""
    costs = deployment(name).costs(MEDIAN)
    device = dataclasses.replace(costs.device, limit_w=limit_w)
    plain = evaluate(costs, feature_matrix(costs.table.features, iteration))
    run = powered(plain, device)
    parts = (plain.time_s, plain.core_s, plain.core_j, plain.memory_j + plain.link_j)
    lowest_w = power_at(MIN_CLOCK, parts, device.idle_w, device.static_w, MEDIAN.voltage_floor)[3][0]
    watts = run.energy_j[0] / run.time_s[0]
    assert device.idle_w <= watts <= max(limit_w, lowest_w) * (1 + 1e-6)


@pytest.mark.parametrize("name", MODELS)
@given(iterations, st.floats(200.0, 700.0), st.floats(0.0, 0.05))
def test_a_lower_limit_or_a_wait_never_shortens(name, iteration, limit_w, waiting_s):
    costs = deployment(name).costs(MEDIAN)
    plain = evaluate(costs, feature_matrix(costs.table.features, iteration))
    free = powered(plain, dataclasses.replace(costs.device, limit_w=1e9))
    bound = powered(plain, dataclasses.replace(costs.device, limit_w=limit_w), waiting_s)
    assert free.time_s[0] == plain.time_s[0]
    assert bound.time_s[0] >= free.time_s[0] + waiting_s * (1 - 1e-9)
    assert bound.core_j[0] <= free.core_j[0] * (1 + 1e-9)  # fewer volts
    assert bound.energy_j[0] == pytest.approx(bound.static_j[0] + bound.core_j[0] + bound.memory_j[0] + bound.link_j[0], rel=1e-12)


def test_dynamic_energy_by_hand():
    """A product of 1e12 FLOPs at the bf16 peak takes ``compute_power · TDP / peak`` a FLOP: 0.75 · 700 W · 1e12 / 989e12 = 0.531 J; memory
    at 0.35 · 700 W / 3.35e12 a byte, whatever the efficiencies.
    """
    base = deployment("qwen3-8b")
    nothing = dict.fromkeys((name for name in COEFFICIENTS if name.endswith("busy_power")), 1e-15)
    coefficients = dataclasses.replace(MEDIAN, compute_power=0.75, memory_power=0.35, **nothing)
    features = feature_matrix(base.table.features, Iteration(decode_seqs=4, decode_from=100, decode_to=100))
    costs = evaluate(base.costs(coefficients), features)
    flop, read, write = total(base.table, features)
    idle = [op.name for op, runs in zip(base.table.operations, (base.costs(coefficients).trigger @ features)[:, 0] > 0, strict=True) if not runs]
    assert idle == ["attention.prefill"]  # nothing that reads weights stands still
    vector = sum(op.count * (base.table.flop @ features)[row, 0] for row, op in enumerate(base.table.operations) if op.dtype == "fp32")
    expected = 0.75 * 700 * ((flop[0] - vector) / 989e12 + vector / 67e12)
    assert costs.core_j[0] == pytest.approx(expected, rel=1e-9)
    assert costs.memory_j[0] == pytest.approx(0.35 * 700 * (read[0] + write[0]) / 3.35e12, rel=1e-9)


def test_many_iterations_are_the_same_as_one_by_one():
    costs = deployment("mixtral-8x7b").costs(MEDIAN)
    batch = np.linspace(1.0, 512.0, BLOCK_ITERATIONS + 3)
    together = evaluate(costs, feature_matrix(costs.table.features, Iteration(decode_seqs=batch, decode_from=10.0, decode_to=500.0)))
    for index in (0, 7, BLOCK_ITERATIONS - 1, BLOCK_ITERATIONS, BLOCK_ITERATIONS + 2):
        alone = evaluate(costs, feature_matrix(costs.table.features, Iteration(decode_seqs=batch[index], decode_from=10.0, decode_to=500.0)))
        assert [part[index] for part in together] == pytest.approx([part[0] for part in alone], rel=1e-12)


@pytest.mark.parametrize("name", MODELS)
@given(st.integers(1, 500), st.integers(1, 4_000))
def test_a_larger_batch_or_a_longer_context_is_never_faster(name, batch, context):
    costs = deployment(name).costs(MEDIAN)
    step = Iteration(decode_seqs=np.array([batch, batch + 1, batch]), decode_from=context, decode_to=np.array([context, context, context + 1]))
    times = evaluate(costs, feature_matrix(costs.table.features, step)).time_s
    assert times[0] <= times[1] * (1 + 1e-9)
    assert times[0] <= times[2] * (1 + 1e-9)


def test_launches_cost_their_time_once_per_kernel():
    base = deployment("qwen3-8b")
    features = feature_matrix(base.table.features, Iteration(decode_seqs=1.0))
    device = build_device(H100, MEDIAN)
    quick, slow = (cost_table(base.table, device, base.fabric, Habits(launch_s)) for launch_s in (0.0, 5e-6))
    running = (quick.trigger @ features)[:, 0] > 0.0
    kernels = sum(op.count * op.kernels for op, runs in zip(base.table.operations, running, strict=True) if runs)
    assert evaluate(slow, features).time_s[0] - evaluate(quick, features).time_s[0] == pytest.approx(kernels * 5e-6)


def test_conversion_of_narrow_weights_takes_time():
    """int4 moves fewer bytes than bf16 but is unpacked; compute-bound, it is the slower of the two."""
    step = Iteration(prefill_seqs=1, prefill_tokens=8_000, completed_prefills=1)
    seconds = {}
    for precision in ("bf16", "int4"):
        costs = deployment("qwen3-8b", precision=precision).costs(MEDIAN)
        seconds[precision] = evaluate(costs, feature_matrix(costs.table.features, step)).time_s[0]
    assert seconds["int4"] > seconds["bf16"]


def test_a_dtype_without_units_is_refused():
    op = Operation("odd", "gemm", 1.0, {}, {}, {}, dtype="fp3")
    with pytest.raises(SpecError, match="has no units for fp3"):
        cost_table(build_table([op], Parallelism()), build_device(H100, MEDIAN), Fabric(1, None, None))


def test_a_collective_takes_alpha_beta_and_its_fixed_time():
    """An all-reduce of 1 GB on 8 ranks: ring of 14 steps, 2 · 7/8 of the buffer at 450 GB/s times the link's efficiency."""
    table = deploy("llama-3.1-8b", "h100_sxm", Parallelism(tensor=8), Settings(calibration="none")).table
    fabric = Fabric(8, Level(1e-6, 450e9), None)
    coefficients = dataclasses.replace(MEDIAN, link_efficiency=0.5, collective_latency_factor=2.0, elementwise_kernel_s=3e-6)
    costs = cost_table(table, build_device(H100, coefficients), fabric)
    row = next(i for i, op in enumerate(table.operations) if op.name == "ffn.all_reduce")
    tokens = 1e9 / (4_096 * 2)
    each = operation_costs(costs, feature_matrix(table.features, Iteration(prefill_seqs=1, prefill_tokens=tokens, completed_prefills=1)))
    assert each.time_s[row, 0] == pytest.approx(14 * 2e-6 + 2 * 7 / 8 * 1e9 / (450e9 * 0.5) + 3e-6)


def test_a_device_that_works_for_half_of_the_passes_spends_half_of_their_dynamic_energy():
    """And static power all the time, so that half-idle pipeline stages are not free."""
    costs = deployment("qwen3-8b").costs(MEDIAN)
    plain = evaluate(costs, feature_matrix(costs.table.features, Iteration(decode_seqs=8, decode_from=100, decode_to=100)))
    whole, half = powered(plain, costs.device), powered(plain, costs.device, share=0.5)
    assert half.time_s[0] == whole.time_s[0]
    assert half.static_j[0] == pytest.approx(whole.static_j[0]) == pytest.approx(costs.device.static_w * whole.time_s[0])
    for part in ("core_j", "memory_j", "link_j"):
        assert getattr(half, part)[0] == pytest.approx(0.5 * getattr(whole, part)[0])
