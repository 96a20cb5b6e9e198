"""Capacity of experts against the definitions of GShard and Switch Transformer."""

import pytest

from effsim.cost.training import estimate_training
from effsim.errors import SpecError
from effsim.specs import loading
from effsim.workload.capacity import with_capacity
from effsim.workload.features import TOKENS, feature_matrix
from effsim.workload.operations import Parallelism
from effsim.workload.training import activation_bytes
from tests.workload.counting import prefill, table_of

GROUPS = Parallelism(data=8, expert=8)


def rows_of(table, name):
    (op,) = [op for op in table.operations if op.name == name]
    return op.rows[TOKENS]


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.25, 2.0])
def test_each_expert_has_factor_times_its_share_of_tokens(factor):
    """Switch Transformer, arXiv:2101.03961, equation 3: tokens / experts x capacity factor, for each of the top 2 (GShard, section 2.2).

    Mixtral: 8 experts, 2 per token, one expert on each of 8 ranks: a rank has 8 ranks' tokens x 2 / 8 rows.
    """
    table = with_capacity(table_of("mixtral-8x7b", GROUPS, phase="train"), factor)
    assert rows_of(table, "moe.up") == rows_of(table, "moe.down") == pytest.approx(factor * 8 * 2 / 8)


def test_both_exchanges_and_the_experts_activations_scale_and_nothing_else():
    plain = table_of("mixtral-8x7b", GROUPS, phase="train")
    capped = with_capacity(plain, 1.5)
    for one, other in zip(plain.operations, capped.operations, strict=True):
        assert one.name == other.name
        routed = one.name in {"moe.dispatch", "moe.collect", "moe.up", "moe.down", "moe.activation", "moe.combine"}
        factor = 1.5 if routed else 1.0
        assert sum(other.flop.values()) == pytest.approx(factor * sum(one.flop.values()))
        assert sum(other.payload.values()) == pytest.approx(factor * sum(one.payload.values()))
        assert sum(other.write.values()) == pytest.approx(factor * sum(one.write.values()))
        assert other.weight_bytes == one.weight_bytes
    kept = [float(activation_bytes(t, feature_matrix(t.features, prefill(512)), "none", 32)[0]) for t in (plain, capped)]
    assert kept[1] > kept[0]


def test_a_factor_of_one_is_dropless_routing_in_balance():
    """MegaBlocks, arXiv:2211.15841: without a factor every token is computed, whatever expert it goes to."""
    plain = table_of("mixtral-8x7b", GROUPS, phase="train")
    assert (with_capacity(plain, 1.0).flop == plain.flop).all()


def test_without_experts_it_is_refused():
    with pytest.raises(SpecError, match="capacity_factor: the model has no routed experts"):
        with_capacity(table_of("llama-3.1-8b", phase="train"), 1.25)


def training(**changes):
    device = loading.accelerator("h100_sxm")
    roomy = device.model_copy(update={"memory": device.memory.model_copy(update={"value": 1e13})})
    given = {"model": "mixtral-8x7b", "accelerator": roomy, "num_accelerators": 64, "global_batch_size": 64, "expert_parallel": 8, "calibration": "none"}
    return estimate_training(**{**given, **changes})


def test_imbalance_stretches_time_but_moves_no_more_bytes():
    even, uneven, padded = training(expert_imbalance=1.0), training(expert_imbalance=1.5), training(capacity_factor=1.5)
    assert uneven.compute_s > even.compute_s
    assert uneven.memory.activations_bytes == even.memory.activations_bytes
    assert padded.memory.activations_bytes > even.memory.activations_bytes
    sums = [frame[frame.operation == "moe.dispatch"].time_s.sum() for frame in (even.breakdown, uneven.breakdown, padded.breakdown)]
    assert sums[0] == sums[1] < sums[2]
    assert training(capacity_factor=1.0).memory.activations_bytes == even.memory.activations_bytes
