"""Mixture layers in training: what is hidden, what is permuted, and waiting for the host."""

import dataclasses

import numpy as np
import pytest

import effsim
from effsim.cost.collectives import Fabric, Level
from effsim.cost.device import build_device, dtypes, prior_for
from effsim.cost.evaluate import cost_table, evaluate, operation_costs
from effsim.cost.routing import Routing, host_wait_s, part_s, with_routing
from effsim.errors import SpecError
from effsim.specs import loading
from effsim.specs.models import model
from effsim.workload.features import Iteration, feature_matrix
from effsim.workload.lowering import Numerics, lower
from effsim.workload.operations import Parallelism

CAPTURED = Routing(cuda_graphs="step")


@pytest.fixture(scope="module")
def layer():
    """Costs and features of a forward pass of a mixture whose experts lie on eight ranks."""
    accelerator = loading.accelerator("h100_sxm")
    table = lower(model("qwen3-30b-a3b"), Parallelism(data=8, expert=8), Numerics("bf16", "bf16", dtypes(accelerator)), "train")
    device = build_device(accelerator, prior_for(accelerator, "none").median)
    costs = cost_table(table, device, Fabric(8, Level(1e-6, 450e9), None))
    return costs, feature_matrix(table.features, Iteration(prefill_seqs=1.0, prefill_tokens=512.0))


@pytest.fixture(scope="module")
def engine():
    """Megatron as the catalog has it."""
    return loading.engine("megatron")


def test_waiting_is_what_the_host_takes_longer_than_the_operations_of_the_layers(layer, engine) -> None:
    costs, features = layer
    host_s = engine.host_time_per_operation.value * costs.device.coefficients.host_overhead_factor
    each = operation_costs(costs, features).time_s[:, 0]
    expected = sum(op.count * (host_s - time_s) for op, time_s in zip(costs.table.operations, each, strict=True) if op.name.startswith("moe."))
    assert host_wait_s(costs, features, engine, Routing())[0] == pytest.approx(expected)
    assert expected > 0.0


def test_capturing_the_router_leaves_its_operations_out_and_the_step_all(layer, engine) -> None:
    costs, features = layer
    whole, router = (host_wait_s(costs, features, engine, Routing(cuda_graphs=name))[0] for name in ("none", "router"))
    assert 0.0 < router < whole
    assert host_wait_s(costs, features, engine, CAPTURED)[0] == 0.0


def test_long_operations_hide_the_host(layer, engine) -> None:
    costs, _ = layer
    long = feature_matrix(costs.table.features, Iteration(prefill_seqs=1.0, prefill_tokens=1e7))
    assert host_wait_s(costs, long, engine, Routing())[0] == 0.0


def test_counts_that_are_fixed_beforehand_are_not_waited_for(layer, engine) -> None:
    costs, features = layer
    gained_s = with_routing(costs, features, engine, Routing()).time_s - with_routing(costs, features, engine, Routing(), capped=True).time_s
    assert gained_s == pytest.approx(host_wait_s(costs, features, engine, Routing()))


def test_an_exchange_is_hidden_only_where_another_micro_batch_runs_beside_it(layer, engine) -> None:
    costs, features = layer
    bare_s = evaluate(costs, features).time_s
    exchange_s = part_s(costs, features, "moe.dispatch", "moe.collect")
    assert with_routing(costs, features, engine, CAPTURED).time_s == pytest.approx(bare_s)
    overlapped = dataclasses.replace(CAPTURED, overlapped=True)
    assert with_routing(costs, features, engine, overlapped).time_s == pytest.approx(bare_s - engine.routing_overlap.value * exchange_s)
    unaware = engine.model_copy(update={"routing_overlap": None})
    assert with_routing(costs, features, unaware, CAPTURED).time_s == pytest.approx(bare_s - engine.collective_overlap.value * exchange_s)


def test_permuting_by_kernels_costs_two_more_passes_and_fused_experts_save_the_activation(layer, engine) -> None:
    costs, features = layer
    bare_s = evaluate(costs, features).time_s
    alltoall = dataclasses.replace(CAPTURED, dispatcher="alltoall")
    assert with_routing(costs, features, engine, alltoall).time_s - bare_s == pytest.approx(2.0 * part_s(costs, features, "moe.combine"))
    fused = dataclasses.replace(CAPTURED, fused_experts=True)
    assert bare_s - with_routing(costs, features, engine, fused).time_s == pytest.approx(part_s(costs, features, "moe.activation"))


def test_a_part_that_is_not_there_takes_no_time(layer) -> None:
    costs, features = layer
    assert part_s(costs, features, "delta_net").tolist() == [0.0]


@pytest.mark.parametrize(("field", "given", "nearest"), [("cuda_graphs", "steps", "step"), ("dispatcher", "all_to_all", "alltoall")])
def test_an_unknown_choice_is_refused_with_the_nearest(field: str, given: str, nearest: str) -> None:
    with pytest.raises(SpecError, match=rf"routing\.{field}: unknown '{given}'.*{nearest}"):
        Routing(**{field: given})


def test_a_dense_model_knows_nothing_of_routing() -> None:
    runs = [
        effsim.estimate_training("llama-3-8b", "h100_sxm", 8, 8, 1, 2048, zero_stage=3, calibration="none", routing=routing).step_time_s
        for routing in (None, Routing(True, "step", "alltoall", True))
    ]
    assert runs[0] == runs[1]


def test_a_flat_exchange_does_not_get_faster_with_more_nodes() -> None:
    flat, tree = (
        [
            effsim.estimate_training("gpt-3-175b", "a100_sxm_80gb", n, 2 * n, 1, 2048, zero_stage=3, recompute="full", engine=name, calibration="none")
            for n in (768, 1536)
        ]
        for name in ("deepspeed-2021", "fsdp")
    )
    assert np.all([slow.exchange_s > fast.exchange_s for slow, fast in zip(flat, tree, strict=True)])
