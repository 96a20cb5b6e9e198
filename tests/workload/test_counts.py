"""FLOPs and bytes of serving against closed forms worked by hand from the papers' shapes; each test writes its derivation out.

Conventions: a multiply-add is 2 FLOPs; 16-bit numbers unless said; ``pairs`` are (query, key) pairs.
"""

from statistics import NormalDist

import pytest

from effsim.workload.operations import Parallelism
from tests.workload.counting import amount, decode, prefill, table_of, weights_read

PRODUCTS = {"gemm", "grouped_gemm"}


class TestGpt3:
    """96 layers, h = 12,288, 96 heads of 128, vocabulary 50,257 (Brown et al., arXiv:2005.14165, table 2.1); s = 2,048."""

    h, layers, s, vocabulary = 12_288, 96, 2_048, 50_257
    forward = prefill(2_048)

    @pytest.fixture
    def table(self):
        return table_of("gpt-3-175b", phase="train")

    def test_products_are_24_s_h2_per_layer(self, table):
        """Q, K, V: 2 s h 3h; output: 2 s h h; feed-forward: 2 s h 4h up and down. (6 + 2 + 16) s h^2 = 24 s h^2.

        24 · 2,048 · 12,288^2 · 96 = 712,483,534,798,848 (7.1e14).
        """
        layers = amount(table, "flop", self.forward, names=("attention", "ffn"), kinds={"gemm"})
        assert layers == 24 * self.s * self.h**2 * self.layers == 712_483_534_798_848

    def test_causal_attention_is_half_of_4_s2_h_and_the_diagonal(self, table):
        """Scores: 2 · 128 FLOPs per head and pair, values as many: 4 h per pair over 96 heads. A causal query at position p reads p keys:
        s (s + 1) / 2 pairs. Softmax is about 5 FLOPs a score, 96 scores a pair.
        """
        pairs = self.s * (self.s + 1) // 2
        assert amount(table, "flop", self.forward, kinds={"prefill_attention"}) == (4 * self.h + 5 * 96) * pairs * self.layers

    def test_forward_is_megatron_s_decomposition_with_causal_attention(self, table):
        """Narayanan et al., arXiv:2104.04473, equation 3, a third of it (forward only): 24 s h^2 L (1 + s / 6h + V / 12 h L), attention
        not causal. Causal: s / 12h · (s + 1) / s.
        """
        vector = 5 * 96 * self.s * (self.s + 1) / 2 * self.layers
        causal = self.s / (12 * self.h) * (self.s + 1) / self.s
        expected = 24 * self.s * self.h**2 * self.layers * (1 + causal + self.vocabulary / (12 * self.h * self.layers))
        assert amount(table, "flop", self.forward, kinds={"gemm", "prefill_attention"}) - vector == pytest.approx(expected, rel=1e-12)

    def test_training_compute_of_the_gpt_3_paper(self, table):
        """Table D.1 there: 3.14e23 FLOPs for 300e9 tokens, counted as 6 per parameter and token; three forward passes of the products
        without the head come within 0.5 %.
        """
        per_token = amount(table, "flop", self.forward, names=("attention", "ffn"), kinds={"gemm"}) / self.s
        assert 3 * per_token * 300e9 == pytest.approx(3.14e23, rel=5e-3)

    def test_weights_and_biases_are_read_once(self, table):
        """Per layer 12 h^2 weights and (3 + 1 + 4 + 1) h biases; the head is h V."""
        layers = self.layers * (12 * self.h**2 + 9 * self.h)
        assert weights_read(table, self.forward) == 2 * (layers + self.h * self.vocabulary)


class TestLlama:
    """Llama-3.1-8B: 32 layers, h = 4,096, 32 heads and 8 key-value heads of 128, feed-forward 14,336, vocabulary 128,256."""

    layers, h, vocabulary = 32, 4_096, 128_256
    per_layer = 4_096 * 4_096 + 2 * 4_096 * 1_024 + 4_096 * 4_096 + 3 * 4_096 * 14_336
    """Q, K and V, output, gate with up and down: 218,103,808 weights."""
    numbers_per_token = 32 * 2 * 8 * 128
    """Keys and values of a token over all layers: 65,536."""

    @pytest.fixture
    def table(self):
        return table_of("llama-3.1-8b")

    def test_prefill_of_1000_tokens_flops(self, table):
        """2 FLOPs per weight of the layers and token; the head runs on the last token only. 500,500 pairs, 4 · 32 · 128 FLOPs each."""
        once = prefill(1_000)
        assert self.per_layer * self.layers == 6_979_321_856
        assert amount(table, "flop", once, kinds=PRODUCTS) == 2 * 6_979_321_856 * 1_000 + 2 * self.h * self.vocabulary
        scores = 500_500 * 32 * self.layers
        assert amount(table, "flop", once, kinds={"prefill_attention"}) == 2 * 2 * 128 * scores + 5 * scores

    def test_prefill_of_1000_tokens_bytes(self, table):
        """Weights once, 2 bytes each; the cache takes 65,536 numbers a token: 131,072,000 bytes."""
        once = prefill(1_000)
        assert weights_read(table, once) == 2 * (6_979_321_856 + self.h * self.vocabulary)
        assert amount(table, "write", once, names="attention.cache_write") == 1_000 * self.numbers_per_token * 2 == 131_072_000

    def test_prefill_in_two_chunks_does_the_same_arithmetic_and_reads_the_cache_again(self, table):
        """400 then 600 tokens: the pairs are 400·401/2 + (1000·1001 - 400·401)/2; the second chunk reads 400 cached keys once more."""
        parts = [prefill(400), prefill(600, before=400)]
        whole = amount(table, "flop", prefill(1_000), kinds={"prefill_attention"})
        assert sum(amount(table, "flop", part, kinds={"prefill_attention"}) for part in parts) == pytest.approx(whole, rel=1e-12)
        reads = [amount(table, "read", part, kinds={"prefill_attention"}) for part in (*parts, prefill(1_000))]
        assert reads[0] + reads[1] - reads[2] == pytest.approx(400 * self.numbers_per_token * 2)

    def test_decode_at_batch_1_reads_all_but_the_embedding_table(self, table):
        """8,030,261,248 parameters less the look-up table (525,336,576) less the norms, (2 · 32 + 1) · 4,096 = 266,240, which travel with
        elementwise kernels.
        """
        assert weights_read(table, decode(1, 1_000)) == 2 * (8_030_261_248 - 525_336_576 - 266_240)

    def test_decode_at_batch_1_reads_1000_cached_tokens(self, table):
        """Keys and values of 1,000 tokens: 1000 · 32 · 2 · 8 · 128 · 2 bytes; the query itself adds 32 · 128 numbers a layer."""
        cache = 1_000 * 32 * 2 * 8 * 128 * 2
        assert amount(table, "read", decode(1, 1_000), kinds={"decode_attention"}) == cache + 32 * (32 * 128) * 2

    def test_decode_at_batch_1_flops(self, table):
        """2 per weight read, and 4 · 32 · 128 + 5 · 32 per cached token and layer."""
        step = decode(1, 1_000)
        assert amount(table, "flop", step, kinds=PRODUCTS) == 2 * (6_979_321_856 + self.h * self.vocabulary)
        assert amount(table, "flop", step, kinds={"decode_attention"}) == 32 * 1_000 * (4 * 32 * 128 + 5 * 32)

    def test_weights_do_not_grow_with_the_batch_but_the_cache_does(self, table):
        assert weights_read(table, decode(64, 1_000)) == weights_read(table, decode(1, 1_000))
        one, many = (amount(table, "read", decode(batch, 1_000), kinds={"decode_attention"}) for batch in (1, 64))
        assert many == 64 * one

    def test_an_fp8_cache_is_half_as_large(self):
        kept = [table_of("llama-3.1-8b", kv_precision=kv).cache for kv in ("bf16", "fp8")]
        assert [sum(layer.bytes_per_token for layer in layers) for layers in kept] == [131_072, 65_536]


class TestDeepSeekV3:
    """DeepSeek-V3 report, arXiv:2412.19437, section 4.2: 61 layers, h = 7,168, 128 heads, query rank 1,536, latent rank 512, heads of
    128 + 64 (rotary), values of 128; 3 dense layers of 18,432, then 256 experts of 2,048, 8 chosen, 1 shared. Decode is absorbed.
    """

    h, heads, context = 7_168, 128, 4_096
    fp8 = 1 + 4 / 128**2
    """Bytes of an fp8 weight with its share of an fp32 scale per 128 x 128 block (section 3.3.2)."""
    expert = 3 * 7_168 * 2_048

    @pytest.fixture
    def table(self):
        return table_of("deepseek-v3", precision="fp8")

    @staticmethod
    def distinct(batch):
        """A given expert is missed by one token with probability 1 - 8/256."""
        return 256 * (1 - (1 - 8 / 256) ** batch)

    @pytest.mark.parametrize("batch", [1, 64])
    def test_attention_products(self, table, batch):
        """Per token and layer: down to 1,536 + 512 + 64; queries up to 128 · 192; into the latent space 128 · 128 · 512; out of it
        128 · 512 · 128; output 128 · 128 · 7,168. The latent itself is never expanded.
        """
        weights = self.h * 2_112 + 1_536 * self.heads * 192 + 2 * self.heads * 128 * 512 + self.heads * 128 * self.h
        step = decode(batch, self.context)
        assert amount(table, "flop", step, names="attention", kinds={"gemm"}) == 61 * 2 * weights * batch
        assert amount(table, "flop", step, names="attention.kv_up") == 0.0

    @pytest.mark.parametrize("batch", [1, 64])
    def test_scores_against_one_shared_latent(self, table, batch):
        """Per head and cached token 2 · 576 for the score, 2 · 512 for the value, 5 for the softmax."""
        flop = amount(table, "flop", decode(batch, self.context), kinds={"decode_attention"})
        assert flop == 61 * batch * self.context * self.heads * (2 * 576 + 2 * 512 + 5)

    @pytest.mark.parametrize("batch", [1, 64])
    def test_cache_is_576_numbers_a_token_and_layer_for_all_heads_together(self, table, batch):
        read = amount(table, "read", decode(batch, self.context), kinds={"decode_attention"})
        assert read - 61 * batch * self.heads * 576 * 2 == 61 * batch * self.context * 576 * 2
        assert sum(layer.bytes_per_token for layer in table.cache) == 61 * 576 * 2 == 70_272

    @pytest.mark.parametrize("batch", [1, 64])
    def test_experts(self, table, batch):
        """Eight expert passes per token and layer; of the weights, the experts that anyone chose: 8 at batch 1, 222.5 of 256 at 64."""
        step = decode(batch, self.context)
        assert amount(table, "flop", step, kinds={"grouped_gemm"}) == 58 * batch * 8 * 2 * self.expert
        assert weights_read(table, step, names=("moe.up", "moe.down")) == pytest.approx(58 * self.distinct(batch) * self.expert * self.fp8, rel=1e-12)
        assert self.distinct(batch) == pytest.approx({1: 8.0, 64: 222.45}[batch], abs=0.01)

    def test_all_weights_read_at_batch_1(self, table):
        """In fp8: attention without the expansion, dense layers, 8 chosen and 1 shared expert. In 16 bits: absorbed expansion, router with its
        bias, head.
        """
        attention = self.h * 2_112 + 1_536 * self.heads * 192 + self.heads * 128 * self.h
        narrow = 61 * attention + 3 * 3 * self.h * 18_432 + 58 * (8 + 1) * self.expert
        wide = 61 * 2 * self.heads * 128 * 512 + 58 * (self.h + 1) * 256 + self.h * 129_280
        assert weights_read(table, decode(1, self.context)) == pytest.approx(narrow * self.fp8 + 2 * wide, rel=1e-12)

    def test_prefill_expands_the_latent(self, table):
        """Up from 512 to 128 · (128 + 128) a token, then ordinary attention with heads of 192 and values of 128."""
        once = prefill(100)
        assert amount(table, "flop", once, names="attention.kv_up", kinds={"gemm"}) == 61 * 2 * 100 * 512 * self.heads * 256
        assert amount(table, "flop", once, names="attention.absorb") == 0.0
        assert amount(table, "flop", once, kinds={"prefill_attention"}) == 61 * 5_050 * self.heads * (2 * 192 + 2 * 128 + 5)


class TestMixtral:
    """Mixtral-8x7B, arXiv:2401.04088, table 1: 32 layers, h = 4,096, 8 experts of 14,336, 2 chosen."""

    expert = 3 * 4_096 * 14_336

    @pytest.mark.parametrize(("batch", "distinct"), [(1, 2.0), (64, 8 * (1 - 0.75**64))])
    def test_experts_read(self, batch, distinct):
        """One token: its 2 experts. 64 tokens: each expert is missed with probability (3/4)^64, about 1e-8: all 8."""
        table, step = table_of("mixtral-8x7b"), decode(batch, 1_000)
        assert weights_read(table, step, names=("moe.up", "moe.down")) == pytest.approx(32 * distinct * self.expert * 2, rel=1e-12)
        assert amount(table, "flop", step, kinds={"grouped_gemm"}) == 32 * batch * 2 * 2 * self.expert

    def test_batch_1_reads_the_active_parameters(self):
        """12,879,925,248 active (of 46.7e9), less the look-up table 32,000 · 4,096 and the norms 65 · 4,096."""
        read = weights_read(table_of("mixtral-8x7b"), decode(1, 1_000))
        assert read == 2 * (12_879_925_248 - 32_000 * 4_096 - 65 * 4_096)


class TestTensorParallel:
    """Megatron-LM, arXiv:1909.08053, section 3: columns then rows, two all-reduces a layer; the vocabulary is split, too."""

    step = prefill(1_000)

    @pytest.mark.parametrize("tensor", [2, 4, 8])
    def test_products_and_attention_divide_evenly(self, tensor):
        whole, rank = table_of("llama-3.1-8b"), table_of("llama-3.1-8b", Parallelism(tensor=tensor))
        for kinds in ({"gemm"}, {"prefill_attention"}):
            assert tensor * amount(rank, "flop", self.step, kinds=kinds) == amount(whole, "flop", self.step, kinds=kinds)
        assert tensor * weights_read(rank, self.step) == weights_read(whole, self.step)

    def test_key_value_heads_are_replicated_beyond_their_number(self):
        """16 ranks, 8 heads: each rank holds one, so that all hold twice the cache; queries are 2 heads a rank."""
        rank = table_of("llama-3.1-8b", Parallelism(tensor=16))
        assert sum(layer.bytes_per_token for layer in rank.cache) == 32 * 2 * 1 * 128 * 2
        qkv = amount(rank, "flop", self.step, names="attention.qkv")
        assert qkv == 32 * 2 * 1_000 * 4_096 * (2 * 128 + 2 * 128)

    def test_all_reduces(self):
        """Two a layer and one for the embedding, each of tokens · h · 2 bytes; the logits of one row, 128,256 · 2 bytes, are gathered."""
        table = table_of("llama-3.1-8b", Parallelism(tensor=4))
        reduces = [op for op in table.operations if op.collective == "all_reduce"]
        assert sum(op.count for op in reduces) == 2 * 32 + 1
        assert amount(table, "payload", self.step, names=tuple(op.name for op in reduces)) == (2 * 32 + 1) * 1_000 * 4_096 * 2
        assert amount(table, "payload", self.step, names="logits.all_gather") == 128_256 * 2

    def test_sequence_parallelism_splits_each_all_reduce_into_its_halves(self):
        """Korthikanti et al., arXiv:2205.05198, section 4.2.2: a reduce-scatter and an all-gather of the same buffer."""
        table = table_of("llama-3.1-8b", Parallelism(tensor=4, sequence=True), phase="train")
        for pattern in ("reduce_scatter", "all_gather"):
            names = tuple(op.name for op in table.operations if op.collective == pattern and op.name.startswith(("attention", "ffn")))
            assert amount(table, "payload", self.step, names=names) == 2 * 32 * 1_000 * 4_096 * 2

    def test_pipeline_sends_the_residual_between_stages(self):
        table = table_of("llama-3.1-8b", Parallelism(pipeline=4))
        assert amount(table, "payload", self.step, names="pipeline.send") == 3 * 1_000 * 4_096 * 2


class TestExpertParallel:
    """Mixtral on 4 data-parallel ranks with the 8 experts spread over them: each rank holds 2 and sees the tokens of all."""

    split = Parallelism(data=4, expert=4)
    batch = 16

    def test_pairs_and_weights_of_a_rank(self):
        """4 · 16 tokens · 2 choices / 4 ranks = 32 (token, expert) pairs; of its 2 experts, 2 (1 - (3/4)^64) are touched in the mean, and
        on the fullest of 4 ranks 1.05 standard deviations more (Blom), here both.
        """
        table, step = table_of("mixtral-8x7b", self.split), decode(self.batch, 1_000)
        assert amount(table, "flop", step, kinds={"grouped_gemm"}) == 32 * 32 * 2 * TestMixtral.expert
        mean = 2 * (1 - 0.75 ** (4 * self.batch))
        touched = min(mean + NormalDist().inv_cdf(3.625 / 4.25) * (mean * 0.75 ** (4 * self.batch)) ** 0.5, 2.0)
        assert weights_read(table, step, names=("moe.up", "moe.down")) == pytest.approx(32 * touched * TestMixtral.expert * 2, rel=1e-12)

    def test_tokens_travel_there_and_back(self):
        """Each token goes out once per chosen expert, h · 2 bytes, and its result comes back: 2 all-to-alls a layer."""
        table = table_of("mixtral-8x7b", self.split)
        exchanged = amount(table, "payload", decode(self.batch, 1_000), names=("moe.dispatch", "moe.collect"))
        assert exchanged == 2 * 32 * self.batch * 2 * 4_096 * 2

    def test_tensor_ranks_hold_all_tokens_and_exchange_none(self):
        """8 tensor ranks with one whole expert each: 2 / 8 of a pair a token, no all-to-all, the layer's all-reduce joins the results."""
        table, step = table_of("mixtral-8x7b", Parallelism(tensor=8, expert=8)), decode(self.batch, 1_000)
        assert amount(table, "flop", step, kinds={"grouped_gemm"}) == 32 * self.batch * 2 / 8 * 2 * TestMixtral.expert
        assert not [op for op in table.operations if op.collective == "all_to_all"]
