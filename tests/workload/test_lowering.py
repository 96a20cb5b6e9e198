"""Every model of the catalog, lowered for serving and training, whole and split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim import catalog
from effsim.errors import SpecError
from effsim.specs.model import Attention, GatedDeltaNet, LatentAttention, Mamba2, MoeFfn, Transformer
from effsim.specs.models import model
from effsim.workload.features import Iteration, feature_matrix
from effsim.workload.lowering import Numerics, lower, numerics
from effsim.workload.operations import Parallelism, total
from effsim.workload.parameters import parameter_count
from effsim.workload.transfers import cache_transfer, weight_loading
from tests.workload.counting import ALL_DTYPES, amount, decode, prefill, table_of, weights_read

NAMES = list(catalog.files("models"))
MATRICES = ("flop", "read", "write", "rows", "groups", "payload")


def divisor(spec):
    """The largest of 8, 4, 2, 1 tensor ranks over which everything in a model divides."""
    sizes = []
    for block in spec.blocks:
        match block.mixer:
            case Attention() | LatentAttention() | Mamba2():
                sizes.append(block.mixer.heads)
            case GatedDeltaNet():
                sizes.append(block.mixer.value_heads)
        sizes += [block.mixer.kv_heads] if isinstance(block.mixer, Attention) else []
        if isinstance(block.ffn, MoeFfn):
            sizes += [block.ffn.expert_intermediate_size, block.ffn.shared_intermediate_size or 8]
        elif block.ffn is not None:
            sizes.append(block.ffn.intermediate_size)
    return next(ranks for ranks in (8, 4, 2, 1) if all(size % ranks == 0 for size in sizes))


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_the_operations_are_the_parameters(name):
    """Every parameter that serving touches sits in one operation: within 0.5 % (small vectors such as biases of convolutions are left out)."""
    spec = model(name)
    counted = parameter_count(spec)
    width = 2 if isinstance(spec, Transformer) else 4
    for phase in ("serve", "train"):
        table = table_of(spec, precision="bf16" if width == 2 else "fp32", phase=phase)
        held = sum(op.count * op.weight_bytes for op in table.operations)
        assert held == pytest.approx(table.weight_bytes, rel=1e-12)
        assert held / width == pytest.approx(counted.total - counted.other, rel=5e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("phase", ["serve", "train"])
def test_coefficients_are_never_negative(name, phase):
    spec = model(name)
    splits = [Parallelism()] if not isinstance(spec, Transformer) else [Parallelism(), Parallelism(tensor=divisor(spec), sequence=phase == "train")]
    for split in splits:
        table = table_of(spec, split, phase=phase)
        assert all((getattr(table, part) >= 0.0).all() for part in MATRICES)
        assert all(op.count > 0.0 for op in table.operations)
        assert sum(part.bytes_per_token + part.bytes_per_sequence for part in table.cache) > 0.0 or not isinstance(spec, Transformer) or not spec.causal


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(model(name), Transformer)])
def test_ranks_share_the_products_and_hold_at_least_their_share(name):
    spec = model(name)
    ranks = divisor(spec)
    whole, rank = table_of(spec), table_of(spec, Parallelism(tensor=ranks))
    for step in (prefill(64), decode(8, 100)):
        products = [amount(table, "flop", step, kinds={"gemm", "grouped_gemm"}) for table in (whole, rank)]
        assert products[0] * (1 - 1e-12) <= ranks * products[1]
        assert products[1] <= products[0]
    assert whole.weight_bytes * (1 - 1e-12) <= ranks * rank.weight_bytes


@pytest.mark.parametrize("name", ["llama-3.1-8b", "gemma-3-27b", "mixtral-8x7b", "deepseek-v3", "nemotron-nano-9b-v2", "qwen3.5-27b", "gpt-oss-20b"])
def test_counts_are_linear_in_layers(name):
    """Three times the layers: three times what two times minus one time has beside the ends."""
    spec = model(name)
    times = [table_of(spec.model_copy(update={"blocks": tuple(b.model_copy(update={"repeat": n * b.repeat}) for b in spec.blocks)})) for n in (1, 2, 3)]
    mixed = Iteration(decode_seqs=4, decode_from=10, decode_to=90, prefill_seqs=2, prefill_tokens=30, prefill_before=20, completed_prefills=1)
    for values in zip(*(total(table, feature_matrix(table.features, mixed)) for table in times), strict=True):
        assert values[2] - values[1] == pytest.approx(values[1] - values[0], rel=1e-9)


@given(st.integers(1, 64), st.integers(1, 3000))
def test_a_batch_reads_the_weights_once_and_computes_for_each(batch, context):
    table = table_of("qwen3-8b")
    products = {"gemm"}
    assert amount(table, "flop", decode(batch, context), kinds=products) == pytest.approx(batch * amount(table, "flop", decode(1, context), kinds=products))
    assert weights_read(table, decode(batch, context)) == weights_read(table, decode(1, context))


def test_naive_attention_writes_the_whole_square_of_scores_and_tiled_none():
    """Serving: scores are written by the product, read and written by the masked softmax, read again: 2 writes and 2 reads of 32 heads ·
    1,000^2 scores · 2 bytes a layer; both products run over the whole square, where tiles above the diagonal are skipped.
    """
    tiled, naive = table_of("llama-3.1-8b"), table_of("llama-3.1-8b", attention="naive")
    scores = 32 * 32 * 1_000**2 * 2
    for part in ("read", "write"):
        moved = [amount(table, part, prefill(1_000), kinds={"prefill_attention"}) for table in (tiled, naive)]
        assert moved[1] - moved[0] == pytest.approx(2 * scores)
    work = [amount(table, "flop", prefill(1_000), kinds={"prefill_attention"}) for table in (tiled, naive)]
    assert work[1] / work[0] == pytest.approx(1_000**2 / 500_500)


def test_two_of_four_sparsity_halves_weights_not_work():
    """2 bytes become 1.125; the FLOPs stay, as they are counted against the sparse peak."""
    dtypes = ALL_DTYPES | {"bf16:2:4"}
    spec = model("llama-3.1-8b")
    dense = table_of(spec)
    sparse = lower(spec, Parallelism(), Numerics("bf16", "bf16", dtypes, sparsity="2:4"))
    step = decode(1, 100)
    layers = ("attention", "ffn")
    assert weights_read(sparse, step, layers) == pytest.approx(weights_read(dense, step, layers) * 1.125 / 2)
    assert weights_read(sparse, step, "logits") == weights_read(dense, step, "logits")
    assert amount(sparse, "flop", step, kinds={"gemm"}) == amount(dense, "flop", step, kinds={"gemm"})


def test_a_window_limits_pairs_keys_and_cache():
    """Gemma 3 27B: 52 layers see 1,024 keys, 10 see all; 2 · 16 · 128 numbers a token and layer."""
    table = table_of("gemma-3-27b")
    read = amount(table, "read", decode(1, 10_000), kinds={"decode_attention"}) - 62 * 32 * 128 * 2
    assert read == (52 * 1_024 + 10 * 10_000) * 2 * 16 * 128 * 2
    assert sorted((part.max_tokens, part.bytes_per_token) for part in table.cache) == [(0, 10 * 8_192.0), (1_024, 52 * 8_192.0)]


def test_a_state_space_layer_keeps_a_state_not_a_cache():
    """Nemotron Nano 9B v2: 27 layers, 128 heads of 80 with state 128 in fp32, and three columns of 10,240 + 2 · 8 · 128 convolved channels."""
    table = table_of("nemotron-nano-9b-v2")
    states = 27 * (128 * 80 * 128 * 4 + 3 * (10_240 + 2 * 8 * 128) * 2)
    assert sum(part.bytes_per_sequence for part in table.cache) == states
    assert sum(part.bytes_per_token for part in table.cache) == 4 * 2 * 8 * 128 * 2
    assert amount(table, "flop", decode(1, 10), names="mamba.scan") == amount(table, "flop", decode(1, 10_000), names="mamba.scan")


def test_only_experts_are_narrow_where_the_model_says_so():
    """gpt-oss-20b: 24 layers of 32 experts, 3 · 2,880 · 2,880 weights each in mxfp4 with 16-bit biases (2 · 2,880 + 2,880); the rest in 16 bits."""
    spec = model("gpt-oss-20b")
    wide, narrow = table_of(spec).weight_bytes, table_of(spec, precision="mxfp4").weight_bytes
    assert wide - narrow == pytest.approx(24 * 32 * 3 * 2_880 * 2_880 * (2 - (0.5 + 1 / 32)))


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("llama-3.1-8b", Parallelism(tensor=3), r"attention heads = 32 cannot be split over 3 ranks"),
        ("phi-4", Parallelism(tensor=4), r"key-value heads = 10 cannot be split over 4 ranks"),
        ("mixtral-8x7b", Parallelism(data=3, expert=3), r"experts = 8 cannot be split over 3 ranks"),
        ("llama-3.1-8b", Parallelism(pipeline=33), r"pipeline_parallel: 33 stages for 32 layers"),
        ("mlp-784-128-10", Parallelism(tensor=2), r"split by data only"),
    ],
)
def test_what_does_not_divide_is_refused(name, split, message):
    with pytest.raises(SpecError, match=message):
        table_of(name, split)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "4", None])
def test_ranks_are_whole_numbers(size):
    with pytest.raises(SpecError, match="tensor_parallel: must be a whole number"):
        Parallelism(tensor=size)


def test_experts_divide_the_ranks():
    with pytest.raises(SpecError, match=r"expert_parallel: 3 must divide .* = 8"):
        Parallelism(tensor=2, data=4, expert=3)


def test_the_models_own_precision_holds_unless_asked():
    found = numerics(model("deepseek-v3"), None, None, ALL_DTYPES)
    assert (found.precision, found.kv_precision) == ("fp8", "bf16")
    assert numerics(model("deepseek-v3"), "bf16", "fp8", ALL_DTYPES).kv_precision == "fp8"


def test_stages_share_layers_and_the_ends_sit_on_two_of_them():
    """Llama-3.1-8B on 4 stages: a quarter of the layers, and embedding or head, 525,336,576 weights each."""
    table = table_of("llama-3.1-8b", Parallelism(pipeline=4))
    layers = 8_030_261_248 - 2 * 525_336_576
    assert table.weight_bytes == pytest.approx(2 * (layers / 4 + 525_336_576))


def test_transfers_carry_weights_and_caches():
    table = table_of("llama-3.1-8b")
    assert amount(weight_loading(table), "payload", prefill(1)) == 2 * 8_030_261_248
    assert amount(cache_transfer(table), "payload", prefill(1_000)) == 131_072_000
