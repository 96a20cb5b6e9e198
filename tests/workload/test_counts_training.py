"""Training: FLOPs, traffic and memory against closed forms worked by hand from the papers; each test writes its derivation out."""

import numpy as np
import pytest

from effsim.workload.features import ONE, feature_matrix
from effsim.workload.operations import Parallelism, build_table
from effsim.workload.optimizers import OPTIMIZERS, update
from effsim.workload.training import activation_bytes, backward, recomputed
from tests.workload.counting import amount, prefill, table_of

PRODUCTS = {"gemm", "grouped_gemm"}
TOKENS = 2_048
forward_of = prefill(TOKENS)


@pytest.mark.parametrize("name", ["gpt-3-175b", "llama-3.1-8b", "mixtral-8x7b", "deepseek-v3"])
def test_backward_doubles_products_and_repeats_attention_two_and_a_half_times(name):
    """Each product Y = X W gives dX = dY W' and dW = X' dY. Tiled attention: five products (S again, dP, dV, dQ, dK) for two."""
    table = table_of(name, phase="train")
    behind = backward(table)
    assert amount(behind, "flop", forward_of, kinds=PRODUCTS) == pytest.approx(2 * amount(table, "flop", forward_of, kinds=PRODUCTS))
    attention = {"prefill_attention"}
    assert amount(behind, "flop", forward_of, kinds=attention) == pytest.approx(2.5 * amount(table, "flop", forward_of, kinds=attention))


def test_a_weight_gradient_reads_both_operands_and_adds_to_fp32():
    """ffn.down of Llama-3.1-8B: X is tokens x 14,336 and dY tokens x 4,096, 2 bytes each; the fp32 sum, 4 bytes a weight, is read and
    written back: bytes = 2 M (K + N) + 8 K N.
    """
    behind = backward(table_of("llama-3.1-8b", phase="train"))
    moved = sum(amount(behind, part, forward_of, names="ffn.down.weight_gradient") for part in ("read", "write"))
    inner, cols = 14_336, 4_096
    assert moved == 32 * (2 * TOKENS * (inner + cols) + 8 * inner * cols)


def test_an_input_gradient_moves_what_the_forward_product_moves():
    """dX = dY W' reads dY (M N) and W (K N), writes dX (M K): the forward pass's three matrices in other roles."""
    table = table_of("llama-3.1-8b", phase="train")
    behind = backward(table)
    ahead = sum(amount(table, part, forward_of, names="ffn.down") for part in ("read", "write"))
    assert sum(amount(behind, part, forward_of, names="ffn.down.input_gradient") for part in ("read", "write")) == ahead


def test_collectives_run_as_often_backward_as_forward():
    table = table_of("llama-3.1-8b", Parallelism(tensor=4, sequence=True), phase="train")
    behind = backward(table)
    assert amount(behind, "payload", forward_of) == amount(table, "payload", forward_of)


def test_a_ring_passes_keys_and_values_forward_and_their_gradients_too_backward():
    """Llama 3.1 8B on 4 context ranks: 32 layers, 8 key-value heads of 128, 2 bytes: the gathered buffer is 4 · 2,048 tokens of K and V."""
    table = table_of("llama-3.1-8b", Parallelism(context=4), phase="train")
    forward_bytes = 32 * 4 * TOKENS * 2 * 8 * 128 * 2
    assert amount(table, "payload", forward_of) == forward_bytes
    assert amount(backward(table), "payload", forward_of) == 2 * forward_bytes


def test_full_recomputation_adds_one_forward_pass_of_the_layers():
    """Korthikanti et al., arXiv:2205.05198, section 5; embedding, head and loss are not in a checkpointed layer."""
    table = table_of("llama-3.1-8b", phase="train")
    again = recomputed(table, "full")
    ends = amount(table, "flop", forward_of, names=("logits", "embedding", "cross_entropy"))
    assert amount(again, "flop", forward_of) == pytest.approx(amount(table, "flop", forward_of) - ends, rel=1e-12)


def test_selective_recomputation_repeats_attention_alone():
    table = table_of("llama-3.1-8b", phase="train")
    again = recomputed(table, "selective")
    assert amount(again, "flop", forward_of) == amount(table, "flop", forward_of, kinds={"prefill_attention"})
    assert recomputed(table, "none") is None


def test_every_second_product_runs_again():
    """Llama 3.1 8B in the order of its modules: q 4,096, k 1,024, v 1,024, o; gate 14,336, up, down: k, o and up of seven run again."""
    table = table_of("llama-3.1-8b", phase="train")
    again = amount(recomputed(table, "alternate"), "flop", forward_of, kinds=PRODUCTS)
    assert again == pytest.approx(2 * TOKENS * 32 * 4_096 * (1_024 + 4_096 + 14_336), rel=1e-12)
    elementwise = {"elementwise"}
    ends = amount(table, "flop", forward_of, names=("cross_entropy",))
    assert amount(recomputed(table, "alternate"), "flop", forward_of, kinds=elementwise) == pytest.approx(
        amount(table, "flop", forward_of, kinds=elementwise) - ends
    )


def test_of_collectives_what_is_gathered_comes_again_and_what_is_reduced_stays():
    table = table_of("llama-3.1-8b", Parallelism(tensor=8, sequence=True), phase="train")
    again = {op.name.removesuffix(".recomputed") for op in recomputed(table, "alternate").operations if op.kind == "collective"}
    assert again == {op.name for op in table.operations if op.kind == "collective" and op.name.endswith((".all_gather",)) and "embedding" not in op.name}


class TestActivations:
    """A GPT block of Korthikanti et al., arXiv:2205.05198, section 4, in units of s·b·h bytes, 16-bit numbers.

    Kept: two norm inputs 2 + 2; input of Q, K, V 2; Q, K and V 6; input of the output product 2; inputs of up 2, of the
    activation 8, of down 8: 32. The paper's 34 (equation 1) adds two dropout masks of 1 byte; its 5 a s / h scores are not
    kept by tiled attention. Parts outside matrix products (8 of the 32) are whole on each tensor rank, the rest is split
    (equation 2); sequence parallelism splits all (equation 4).
    """

    h, layers = 12_288, 96
    ends = 2
    """The final norm's input, once for the model."""

    def kept(self, parallelism, mode="none"):
        table = table_of("gpt-3-175b", parallelism, phase="train")
        features = feature_matrix(table.features, forward_of)
        return float(activation_bytes(table, features, mode, self.layers)[0]) / (TOKENS * self.h)

    def test_one_device_keeps_32(self):
        assert self.kept(Parallelism()) == pytest.approx(32 * self.layers + self.ends)

    @pytest.mark.parametrize("tensor", [2, 4, 8])
    def test_tensor_ranks_keep_8_whole_and_24_split(self, tensor):
        assert self.kept(Parallelism(tensor=tensor)) == pytest.approx((8 + 24 / tensor) * self.layers + self.ends)

    @pytest.mark.parametrize("tensor", [2, 4, 8])
    def test_sequence_parallelism_splits_all(self, tensor):
        assert self.kept(Parallelism(tensor=tensor, sequence=True)) == pytest.approx((32 * self.layers + self.ends) / tensor)

    @pytest.mark.parametrize("tensor", [1, 8])
    def test_full_recomputation_keeps_each_layer_s_input(self, tensor):
        """2 s·b·h a layer (section 5), split by sequence parallelism."""
        assert self.kept(Parallelism(tensor=tensor, sequence=True), "full") == pytest.approx(2 * self.layers / tensor)

    def test_naive_attention_keeps_5_bytes_of_each_score(self):
        """5 a s^2 b more a layer, as 5 a s / h times s b h; selective recomputation drops them (section 5: 34 is left of the formula)."""
        table = table_of("gpt-3-175b", phase="train", attention="naive")
        features = feature_matrix(table.features, forward_of)
        kept = {mode: float(activation_bytes(table, features, mode, self.layers)[0]) / (TOKENS * self.h) for mode in ("none", "selective")}
        scores = 5 * 96 * TOKENS / self.h
        assert kept["none"] == pytest.approx((32 + scores) * self.layers + self.ends)
        assert kept["selective"] == pytest.approx(32 * self.layers + self.ends)

    def test_minimal_keeps_the_input_and_the_outputs_of_products_but_the_last(self):
        """Input 2, Q, K and V 6, output product 2, up 8: 18; with attention's output, 2 more."""
        assert self.kept(Parallelism(), "minimal") == pytest.approx(18 * self.layers)
        assert self.kept(Parallelism(), "minimal_flash") == pytest.approx(20 * self.layers)
        assert self.kept(Parallelism(tensor=8, sequence=True), "minimal") == pytest.approx(18 * self.layers / 8)

    def test_modules_drop_what_they_bring_back(self):
        """Norms: inputs of Q, K, V and up, 2 + 2. The feed-forward part: inputs of its activation and of down, 8 + 8."""
        assert self.kept(Parallelism(), "layernorm") == pytest.approx(28 * self.layers + self.ends)
        assert self.kept(Parallelism(), "mlp") == pytest.approx(16 * self.layers + self.ends)
        assert self.kept(Parallelism(), "layernorm+mlp") == pytest.approx(12 * self.layers + self.ends)


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("minimal", {"norm", "attention.rotary", "attention.prefill", "ffn.activation", "final_norm"}),
        ("minimal_flash", {"norm", "attention.rotary", "ffn.activation", "final_norm"}),
        ("layernorm", {"norm"}),
        ("mlp", {"ffn.up", "ffn.activation", "ffn.down"}),
        ("core_attn", {"attention.prefill"}),
    ],
)
def test_what_runs_again(mode, names):
    again = recomputed(table_of("llama-3.1-8b", phase="train"), mode)
    assert {op.name.removesuffix(".recomputed") for op in again.operations} == names


def test_modules_of_mixtures_run_again():
    """An activation is elementwise: a module of it costs less time than the layer, and drops less."""
    table = table_of("deepseek-v3", phase="train")
    features = feature_matrix(table.features, forward_of)
    kept = {m: float(activation_bytes(table, features, m, 61)[0]) for m in ("none", "moe_act", "shared_experts", "mla_up_proj", "moe")}
    assert kept["none"] > kept["moe_act"] > kept["moe"]
    assert kept["none"] > max(kept["shared_experts"], kept["mla_up_proj"])
    assert {op.name for op in recomputed(table, "mla_up_proj").operations} == {
        "attention.query_up.recomputed",
        "attention.kv_up.recomputed",
        "attention.rotary.recomputed",
    }


class TestOptimizers:
    """Bytes of state per weight beside the 16-bit weight: fp32 master copy 4, each fp32 moment 4, each 8-bit moment 1."""

    @pytest.mark.parametrize(
        ("name", "state_bytes"), [("sgd", 4), ("momentum", 8), ("rmsprop", 8), ("adam", 12), ("adam_bf16", 8), ("adafactor", 4), ("adam_8bit", 6), ("muon", 8)]
    )
    def test_state(self, name, state_bytes):
        assert OPTIMIZERS[name].state_bytes == state_bytes

    @pytest.mark.parametrize("name", ["sgd", "adam", "adam_8bit"])
    def test_update_reads_gradient_and_state_and_writes_state_and_weight(self, name):
        """Per weight: state and a 4-byte gradient in; state and a 2-byte weight out. Adam: 16 in, 14 out."""
        state = OPTIMIZERS[name].state_bytes
        (op,) = update(OPTIMIZERS[name], 1e9, 4.0, [])
        assert (op.read[ONE], op.write[ONE]) == ((state + 4) * 1e9, (state + 2) * 1e9)

    def test_muon_multiplies_matrices(self):
        """A Newton-Schulz step on n x m, n <= m: X X' is 2 n^2 m, its square 2 n^3, times X 2 n^2 m; five steps."""
        ops = update(OPTIMIZERS["muon"], 1e6, 4.0, [(3.0, 500, 2_000)])
        table = build_table(ops, Parallelism())
        expected = 3 * 5 * (4 * 500**2 * 2_000 + 2 * 500**3)
        assert amount(table, "flop", prefill(1), kinds={"gemm"}) == expected

    def test_the_others_do_not(self):
        assert len(update(OPTIMIZERS["adam"], 1e6, 4.0, [(3.0, 500, 2_000)])) == 1


@pytest.mark.parametrize("mode", ["none", "full"])
def test_activations_are_linear_in_the_micro_batch(mode):
    table = table_of("llama-3.1-8b", phase="train")
    one, four = (float(activation_bytes(table, feature_matrix(table.features, prefill(512, seqs=n)), mode, 32)[0]) for n in (1, 4))
    assert four == pytest.approx(4 * one)
    assert np.isfinite(one)
    assert one > 0.0
