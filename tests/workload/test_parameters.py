"""Parameter counts against tensors counted by hand and by a second way of counting."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.specs.model import Attention, Block, DenseFfn, GatedDeltaNet, LatentAttention, Mamba2, Mixer, Mlp, MoeFfn, SparseIndexer, Transformer
from effsim.specs.models import model
from effsim.workload import parameters
from effsim.workload.parameters import ParameterCount, parameter_count

H = 8


def shapes(*tensors: tuple[int, ...]) -> int:
    """Return the numbers in tensors of these shapes."""
    total = 0
    for tensor in tensors:
        size = 1
        for side in tensor:
            size *= side
        total += size
    return total


@pytest.mark.parametrize(
    ("mixer", "tensors"),
    [
        (Attention(heads=4, kv_heads=2, head_dim=3), [(H, 12), (H, 6), (H, 6), (12, H)]),
        (Attention(heads=4, kv_heads=2, head_dim=3, value_head_dim=5), [(H, 12), (H, 6), (H, 10), (20, H)]),
        (Attention(heads=4, kv_heads=2, head_dim=3, qkv_bias=True, output_bias=True), [(H, 12), (12,), (H, 6), (6,), (H, 6), (6,), (12, H), (H,)]),
        (Attention(heads=4, kv_heads=2, head_dim=3, qk_norm="head"), [(H, 12), (H, 6), (H, 6), (12, H), (3,), (3,)]),
        (Attention(heads=4, kv_heads=2, head_dim=3, qk_norm="full"), [(H, 12), (H, 6), (H, 6), (12, H), (12,), (6,)]),
        (Attention(heads=4, kv_heads=2, head_dim=3, output_gate=True), [(H, 24), (H, 6), (H, 6), (12, H)]),
        (Attention(heads=4, kv_heads=2, head_dim=3, head_gate=True, sinks=True), [(H, 12), (H, 6), (H, 6), (12, H), (H, 4), (4,)]),
        (Attention(heads=4, kv_heads=2, head_dim=3, values_are_keys=True), [(H, 12), (H, 6), (12, H)]),
        (Attention(heads=4, kv_heads=2, head_dim=3, shares_kv=True, qk_norm="head"), [(H, 12), (12, H), (3,)]),
        (
            Attention(heads=4, kv_heads=2, head_dim=3, indexer=SparseIndexer(kind="block", heads=2, head_dim=5, top_k=16)),
            [(H, 12), (H, 6), (H, 6), (12, H), (H, 10), (H, 5), (5,), (5,)],
        ),
        (
            LatentAttention(kind="latent_attention", heads=4, q_lora_rank=6, kv_lora_rank=5, qk_nope_head_dim=3, qk_rope_head_dim=2, v_head_dim=7),
            [(H, 6), (6,), (6, 20), (H, 7), (5,), (5, 40), (28, H)],
        ),
        (
            LatentAttention(kind="latent_attention", heads=4, kv_lora_rank=5, qk_nope_head_dim=3, qk_rope_head_dim=2, v_head_dim=7),
            [(H, 20), (H, 7), (5,), (5, 40), (28, H)],
        ),
        (
            LatentAttention(
                kind="latent_attention", heads=4, q_lora_rank=6, kv_lora_rank=5, qk_nope_head_dim=3, qk_rope_head_dim=2, v_head_dim=7,
                indexer=SparseIndexer(heads=2, head_dim=9, top_k=16),
            ),
            [(H, 6), (6,), (6, 20), (H, 7), (5,), (5, 40), (28, H), (6, 18), (H, 9), (9,), (9,), (H, 2)],
        ),
        (
            Mamba2(kind="mamba2", heads=4, head_dim=3, groups=2, state_dim=5, conv_kernel=4),
            [(H, 12 + 12 + 10 + 10 + 4), (32, 4), (32,), (4,), (4,), (4,), (12,), (12, H)],
        ),
        (
            Mamba2(kind="mamba2", heads=4, head_dim=3, groups=2, state_dim=5, conv_kernel=4, conv_bias=False, projection_bias=True),
            [(H, 48), (48,), (32, 4), (4,), (4,), (4,), (12,), (12, H), (H,)],
        ),
        (
            GatedDeltaNet(kind="gated_delta_net", key_heads=2, value_heads=4, key_head_dim=3, value_head_dim=5, conv_kernel=4),
            [(H, 6), (H, 6), (H, 20), (H, 20), (H, 4), (H, 4), (32, 4), (4,), (4,), (5,), (20, H)],
        ),
    ],
)  # fmt: skip
def test_mixers_tensor_by_tensor(mixer: Mixer, tensors: list[tuple[int, ...]]) -> None:
    assert parameters.mixer_parameters(mixer, H) == shapes(*tensors)


def test_a_reused_choice_of_keys_has_no_weights() -> None:
    own = SparseIndexer(heads=2, head_dim=9, top_k=16)
    assert parameters.indexer_parameters(own.model_copy(update={"reused": True}), H, H) == 0
    assert parameters.indexer_parameters(own, H, H) > 0


@pytest.mark.parametrize(
    ("ffn", "common", "expert"),
    [
        (MoeFfn(kind="moe", experts=6, top_k=2, expert_intermediate_size=5, activation="swiglu"), [(H, 6)], [(H, 5), (H, 5), (5, H)]),
        (
            MoeFfn(kind="moe", experts=6, top_k=2, expert_intermediate_size=5, activation="swiglu", bias=True, router_bias=True),
            [(H, 6), (6,)],
            [(H, 5), (5,), (H, 5), (5,), (5, H), (H,)],
        ),
        (
            MoeFfn(kind="moe", experts=6, top_k=2, expert_intermediate_size=5, activation="swiglu", shared_intermediate_size=7, shared_gate=True),
            [(H, 6), (H, 7), (H, 7), (7, H), (H, 1)],
            [(H, 5), (H, 5), (5, H)],
        ),
        (
            MoeFfn(kind="moe", experts=6, top_k=2, expert_intermediate_size=5, activation="squared_relu", shared_intermediate_size=7, latent_size=3),
            [(H, 6), (H, 7), (7, H), (H, 3), (3, H)],
            [(3, 5), (5, 3)],
        ),
    ],
)
def test_mixtures_tensor_by_tensor(ffn: MoeFfn, common: list[tuple[int, ...]], expert: list[tuple[int, ...]]) -> None:
    assert parameters.ffn_parameters(ffn, H) == shapes(*common)
    assert parameters.routed_expert_parameters(ffn, H) == shapes(*expert)


def bert(repeat: int) -> Transformer:
    mixer = Attention(heads=12, kv_heads=12, head_dim=64, qkv_bias=True, output_bias=True)
    ffn = DenseFfn(kind="dense", intermediate_size=3072, activation="gelu", bias=True)
    return Transformer(
        name="bert", sources={}, hidden_size=768, vocab_size=30522, blocks=(Block(repeat=repeat, mixer=mixer, ffn=ffn),), tie_embeddings=True, norm="layer",
        embedding_norm=True, final_norm=False, learned_positions=512, token_types=2, output_head=False,
    )  # fmt: skip


def test_bert_base_without_pooler() -> None:
    """The encoder has 109,482,240 parameters with its pooler of 768 * 768 + 768."""
    assert parameter_count(bert(12)).total == 109_482_240 - (768 * 768 + 768)


def test_known_totals() -> None:
    assert parameter_count(model("gpt2")).total == 124_439_808
    assert parameter_count(model("bloom-176b")).total == 176_247_271_424
    assert parameter_count(model("llama-2-70b")).total == 68_976_648_192
    assert parameter_count(model("llama-4-maverick")).total == 401_583_781_376
    assert parameter_count(model("gemma-3-27b")).total == 27_432_406_640
    assert parameter_count(model("bert-base")).total == 110_106_428
    assert parameter_count(model("mpt-30b")).total == 29_975_214_080
    assert parameter_count(model("mlp-784-128-10")) == ParameterCount(ffn=101_770)


def test_active_parameters_leave_out_idle_experts_and_the_vision_tower() -> None:
    count = parameter_count(model("llama-4-scout"))
    assert count.active == count.total - count.other - count.experts * 15 // 16
    dense = parameter_count(model("llama-3.1-8b"))
    assert dense.active == dense.total


def test_tied_heads_count_once() -> None:
    untied = model("llama-3.1-8b")
    assert isinstance(untied, Transformer)
    tied = untied.model_copy(update={"tie_embeddings": True})
    assert parameter_count(untied).total - parameter_count(tied).total == 4096 * 128256


@given(first=st.integers(1, 200), second=st.integers(1, 200))
def test_counts_are_linear_in_layers(first: int, second: int) -> None:
    def layers(count: int) -> int:
        return parameter_count(bert(count)).total - parameter_count(bert(1)).total

    assert layers(first) + layers(second) == layers(first + second - 1)


@given(sizes=st.lists(st.integers(1, 50), min_size=2, max_size=6), bias=st.booleans())
def test_a_plain_network_counts_its_edges_and_neurons(sizes: list[int], bias: bool) -> None:
    figure = {"value": 1, "kind": "assumed", "source": "s"}
    sources = {"s": {"title": "none", "date": "2026"}}
    network = Mlp.model_validate(
        {"name": "n", "family": "mlp", "sources": sources, "layer_sizes": sizes, "activation": "relu", "bias": bias, "published_parameters": figure}
    )
    edges = sum(1 for a, b in itertools.pairwise(sizes) for _ in range(a * b))
    assert parameter_count(network).total == edges + (sum(sizes[1:]) if bias else 0)
