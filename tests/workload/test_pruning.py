import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.errors import SpecError
from effsim.specs.models import model
from effsim.workload.parameters import parameter_count
from effsim.workload.pruning import prune_heads, prune_structured, remove_layers
from tests.workload.counting import amount, prefill, table_of

LLAMA = "llama-3.1-8b"
CHANGES = (prune_structured, remove_layers, prune_heads)


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_removed_is_the_same_model(change):
    assert change(model(LLAMA), 0.0).blocks == model(LLAMA).blocks


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_outside_its_range_is_refused(change, fraction):
    with pytest.raises(SpecError, match=r"fraction: must lie in \[0, 1\)"):
        change(model(LLAMA), fraction)


def test_half_the_columns_halve_the_feed_forward_work():
    """7,168 of 14,336 columns: 3 · 4,096 · 7,168 weights a layer are gone."""
    pruned = prune_structured(model(LLAMA), 0.5)
    assert parameter_count(model(LLAMA)).total - parameter_count(pruned).total == 32 * 3 * 4_096 * 7_168
    work = [amount(table_of(name), "flop", prefill(100), names="ffn", kinds={"gemm"}) for name in (LLAMA, pruned)]
    assert work[0] == 2 * work[1]


def test_half_the_experts_columns():
    pruned = prune_structured(model("mixtral-8x7b"), 0.5)
    assert parameter_count(pruned).experts * 2 == parameter_count(model("mixtral-8x7b")).experts


def test_half_the_layers_leave_half_the_weights_of_layers():
    pruned = remove_layers(model(LLAMA), 0.5)
    whole, half = parameter_count(model(LLAMA)), parameter_count(pruned)
    assert (pruned.num_layers, half.mixer * 2, half.ffn * 2, half.embedding) == (16, whole.mixer, whole.ffn, whole.embedding)


def test_half_the_heads_take_their_queries_and_their_cache_along():
    pruned = prune_heads(model(LLAMA), 0.5)
    mixer = pruned.blocks[0].mixer
    assert (mixer.heads, mixer.kv_heads) == (16, 4)
    assert table_of(pruned).cache[0].bytes_per_token * 2 == table_of(LLAMA).cache[0].bytes_per_token


def test_a_plain_network_keeps_its_ends():
    pruned = prune_structured(model("mlp-784-128-10"), 0.5)
    assert pruned.layer_sizes == (784, 64, 10)


def test_a_pruned_model_has_no_published_size():
    assert prune_structured(model(LLAMA), 0.25).published_parameters is None


@given(st.floats(0.0, 0.999), st.sampled_from([LLAMA, "mixtral-8x7b", "deepseek-v3", "nemotron-nano-9b-v2"]))
def test_more_removed_is_never_larger_and_still_lowers(fraction, name):
    whole = model(name)
    for change in CHANGES:
        pruned = change(whole, fraction)
        assert 0 < parameter_count(pruned).total <= parameter_count(whole).total
        assert table_of(pruned).weight_bytes > 0.0
