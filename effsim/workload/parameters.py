"""Parameters of a model, counted tensor by tensor from its architecture.

A shape ``(a, b)`` in a docstring is a weight matrix of ``a * b`` parameters; ``h`` is the hidden size.
"""

import itertools
from dataclasses import dataclass

from effsim.specs.model import (
    GATED,
    Attention,
    Block,
    DenseFfn,
    Ffn,
    GatedDeltaNet,
    LatentAttention,
    Mamba2,
    Mixer,
    Mlp,
    Model,
    MoeFfn,
    SparseIndexer,
    Transformer,
)


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Parameters by part of a model.

    Args:
        embedding: Token, position and token type tables.
        head: Output projection; 0 where it is the embedding.
        mixer: Attention, state-space and linear-attention layers with their own norms, gates and indexers.
        ffn: Dense feed-forward layers, shared experts, routers.
        experts: All routed experts.
        active_experts: The share of ``experts`` that one token passes through.
        norm: Normalisations of the hidden state.
        other: What serving text does not touch, such as a vision tower.
    """

    embedding: int = 0
    head: int = 0
    mixer: int = 0
    ffn: int = 0
    experts: int = 0
    active_experts: int = 0
    norm: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """All parameters."""
        return self.embedding + self.head + self.mixer + self.ffn + self.experts + self.norm + self.other

    @property
    def active(self) -> int:
        """Parameters that one text token passes through: without ``other`` and the experts not chosen; with both embeddings."""
        return self.total - self.other - self.experts + self.active_experts


def parameter_count(model: Model) -> ParameterCount:
    """Return the parameters of a model by part.

    >>> from effsim.specs.models import model
    >>> parameter_count(model("llama-3.1-8b")).total
    8030261248
    >>> parameter_count(model("mixtral-8x7b")).total, parameter_count(model("mixtral-8x7b")).active
    (46702792704, 12879925248)
    >>> parameter_count(model("qwen3-8b")).total
    8190735360
    """
    if isinstance(model, Mlp):
        return ParameterCount(ffn=mlp_parameters(model))
    hidden = model.hidden_size
    blocks = model.blocks
    return ParameterCount(
        embedding=embedding_parameters(model),
        head=head_parameters(model),
        mixer=sum(block.repeat * mixer_parameters(block.mixer, hidden) for block in blocks),
        ffn=sum(block.repeat * ffn_parameters(block.ffn, hidden) for block in blocks),
        experts=sum(block.repeat * _routed(block, hidden, active=False) for block in blocks),
        active_experts=sum(block.repeat * _routed(block, hidden, active=True) for block in blocks),
        norm=norm_parameters(model),
        other=model.other_parameters,
    )


def embedding_parameters(model: Transformer) -> int:
    """Return the tables: tokens (vocabulary, h), positions (rows, h), token types (rows, h)."""
    return (model.vocab_size + model.learned_positions + model.token_types) * model.hidden_size


def head_parameters(model: Transformer) -> int:
    """Return the output projection: (h, vocabulary) unless tied or absent, bias (vocabulary) where there is one."""
    if not model.output_head:
        return 0
    weight = 0 if model.tie_embeddings else model.hidden_size * model.vocab_size
    return weight + (model.vocab_size if model.head_bias else 0)


def norm_parameters(model: Transformer) -> int:
    """Return the normalisations of the hidden state: each (h), twice where it has a bias."""
    count = sum(block.repeat * block.norms for block in model.blocks) + int(model.embedding_norm) + int(model.final_norm)
    return count * model.hidden_size * (2 if model.has_norm_bias else 1)


def mixer_parameters(mixer: Mixer | None, hidden: int) -> int:
    """Return the parameters of one token mixer; 0 for None."""
    match mixer:
        case None:
            return 0
        case Attention():
            return attention_parameters(mixer, hidden)
        case LatentAttention():
            return latent_attention_parameters(mixer, hidden)
        case Mamba2():
            return mamba2_parameters(mixer, hidden)
        case GatedDeltaNet():
            return gated_delta_net_parameters(mixer, hidden)


def attention_parameters(mixer: Attention, hidden: int) -> int:
    """Return the parameters of one attention layer.

    With n heads, k key-value heads, head size d and value head size v: Q (h, n d), twice as wide with an output gate;
    K (h, k d) and V (h, k v) unless shared with an earlier layer, V also unless made from K; O (n v, h); biases as wide as
    the outputs; sinks (n); a gate per head (h, n).
    Head-wise norms of Q and K are (d) each, full ones (n d) and (k d).

    >>> attention_parameters(Attention(heads=32, kv_heads=8, head_dim=128), 4096)
    41943040
    """
    value_dim = mixer.value_head_dim or mixer.head_dim
    query = mixer.heads * mixer.head_dim
    query_out = query * (2 if mixer.output_gate else 1)
    key = 0 if mixer.shares_kv else mixer.kv_heads * mixer.head_dim
    value = 0 if mixer.shares_kv or mixer.values_are_keys else mixer.kv_heads * value_dim
    projections = hidden * (query_out + key + value) + mixer.heads * value_dim * hidden
    biases = (query_out + key + value if mixer.qkv_bias else 0) + (hidden if mixer.output_bias else 0)
    norms = {"none": 0, "head": mixer.head_dim * (1 if mixer.shares_kv else 2), "full": query + key}[mixer.qk_norm]
    sinks = mixer.heads if mixer.sinks else 0
    gate = hidden * mixer.heads if mixer.head_gate else 0
    return projections + biases + norms + sinks + gate + indexer_parameters(mixer.indexer, hidden, hidden)


def latent_attention_parameters(mixer: LatentAttention, hidden: int) -> int:
    """Return the parameters of one multi-head latent attention layer (DeepSeek-V2, arXiv:2405.04434, section 2.1).

    With n heads, ranks q and c, head sizes d = nope + rope and v: Q down (h, q), norm (q), Q up (q, n d), or one (h, n d);
    KV down (h, c + rope), norm (c); KV up (c, n (nope + v)); O (n v, h).

    >>> mixer = LatentAttention(kind="latent_attention", heads=128, q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128,
    ...                         qk_rope_head_dim=64, v_head_dim=128)
    >>> latent_attention_parameters(mixer, 7168)
    187107328
    """
    head_dim = mixer.qk_nope_head_dim + mixer.qk_rope_head_dim
    rank = mixer.q_lora_rank
    query = hidden * mixer.heads * head_dim if rank is None else hidden * rank + rank + rank * mixer.heads * head_dim
    latent = hidden * (mixer.kv_lora_rank + mixer.qk_rope_head_dim) + mixer.kv_lora_rank
    expand = mixer.kv_lora_rank * mixer.heads * (mixer.qk_nope_head_dim + mixer.v_head_dim)
    output = mixer.heads * mixer.v_head_dim * hidden
    return query + latent + expand + output + indexer_parameters(mixer.indexer, hidden, rank or hidden)


def indexer_parameters(indexer: SparseIndexer | None, hidden: int, query_input: int) -> int:
    """Return the parameters of the attention that picks keys; 0 for None and where an earlier choice is reused.

    With n index heads of size d. Both kinds: queries (query_input, n d), one key (h, d). ``lightning`` adds head weights
    (h, n) and a layer norm of the key (2 d); ``block`` adds RMS norms of query and key, (d) each.

    >>> indexer_parameters(SparseIndexer(heads=64, head_dim=128, top_k=2048), 7168, 1536)
    13959424
    """
    if indexer is None or indexer.reused:
        return 0
    projections = query_input * indexer.heads * indexer.head_dim + hidden * indexer.head_dim
    head_weights = hidden * indexer.heads if indexer.kind == "lightning" else 0
    return projections + head_weights + 2 * indexer.head_dim


def mamba2_parameters(mixer: Mamba2, hidden: int) -> int:
    """Return the parameters of one Mamba-2 mixer (Dao and Gu, arXiv:2405.21060, section 7).

    With n heads of size d, inner size e = n d, g groups and state size s: input projection (h, 2 e + 2 g s + n) to gate, x,
    B, C and dt; convolution (e + 2 g s, kernel); A_log, D and dt_bias (n) each; gated norm (e); output projection (e, h).

    >>> mamba2_parameters(Mamba2(kind="mamba2", heads=128, head_dim=80, groups=8, state_dim=128, conv_kernel=4), 4480)
    147446144
    """
    inner = mixer.heads * mixer.head_dim
    channels = inner + 2 * mixer.groups * mixer.state_dim
    projected = inner + channels + mixer.heads
    convolution = channels * (mixer.conv_kernel + int(mixer.conv_bias))
    biases = projected + hidden if mixer.projection_bias else 0
    return hidden * projected + convolution + 3 * mixer.heads + inner + inner * hidden + biases


def gated_delta_net_parameters(mixer: GatedDeltaNet, hidden: int) -> int:
    """Return the parameters of one gated delta net (Yang, Kautz and Hatamizadeh, arXiv:2412.06464, as in Qwen3-Next).

    With key width a, value width b and n value heads of size v: Q, K (h, a) each, V and gate (h, b) each; beta and decay
    (h, n) each; convolution (2 a + b, kernel); A_log and dt_bias (n) each; gated norm (v); output projection (b, h).

    >>> mixer = GatedDeltaNet(kind="gated_delta_net", key_heads=16, value_heads=32, key_head_dim=128, value_head_dim=128, conv_kernel=4)
    >>> gated_delta_net_parameters(mixer, 2048)
    33718464
    """
    key = mixer.key_heads * mixer.key_head_dim
    value = mixer.value_heads * mixer.value_head_dim
    projections = hidden * (2 * key + 2 * value + 2 * mixer.value_heads) + value * hidden
    return projections + (2 * key + value) * mixer.conv_kernel + 2 * mixer.value_heads + mixer.value_head_dim


def ffn_parameters(ffn: Ffn | None, hidden: int) -> int:
    """Return what every token passes through in one feed-forward part: all of a dense one; router and shared experts of a mixture."""
    match ffn:
        case None:
            return 0
        case DenseFfn():
            return dense_parameters(hidden, ffn.intermediate_size, gated=ffn.activation in GATED, bias=ffn.bias)
        case MoeFfn():
            return moe_common_parameters(ffn, hidden)


def dense_parameters(hidden: int, intermediate: int, *, gated: bool, bias: bool) -> int:
    """Return up (h, i), down (i, h) and, if gated, gate (h, i); biases (i) for up and gate, (h) for down.

    >>> dense_parameters(4096, 14336, gated=True, bias=False)
    176160768
    """
    wide = 2 if gated else 1
    return (wide + 1) * hidden * intermediate + (wide * intermediate + hidden if bias else 0)


def moe_common_parameters(ffn: MoeFfn, hidden: int) -> int:
    """Return the router (h, experts) with its bias (experts), the shared experts, their gate (h, 1), the latent projections (h, l), (l, h)."""
    router = hidden * ffn.experts + (ffn.experts if ffn.router_bias else 0)
    shared = dense_parameters(hidden, ffn.shared_intermediate_size, gated=ffn.activation in GATED, bias=ffn.bias) if ffn.shared_intermediate_size else 0
    return router + shared + (hidden if ffn.shared_gate else 0) + 2 * hidden * (ffn.latent_size or 0)


def routed_expert_parameters(ffn: MoeFfn, hidden: int) -> int:
    """Return the parameters of one routed expert, which works in the latent space where there is one.

    >>> routed_expert_parameters(MoeFfn(kind="moe", experts=8, top_k=2, expert_intermediate_size=14336, activation="swiglu"), 4096)
    176160768
    """
    return dense_parameters(ffn.latent_size or hidden, ffn.expert_intermediate_size, gated=ffn.activation in GATED, bias=ffn.bias)


def _routed(block: Block, hidden: int, *, active: bool) -> int:
    if not isinstance(block.ffn, MoeFfn):
        return 0
    return (block.ffn.top_k if active else block.ffn.experts) * routed_expert_parameters(block.ffn, hidden)


def mlp_parameters(model: Mlp) -> int:
    """Return weights (a, b) and biases (b) between each two layers.

    784-128-10 has 784 * 128 + 128 + 128 * 10 + 10 = 101,770.
    """
    sizes = model.layer_sizes
    return sum(a * b + (b if model.bias else 0) for a, b in itertools.pairwise(sizes))
