"""The architecture of a model as a list of layer types; counts are derived from it, never from a parameter count."""

from typing import Literal

from pydantic import Field, model_validator

from effsim.specs.figure import Count, Sourced, Spec

Activation = Literal["relu", "gelu", "squared_relu", "silu", "swiglu", "geglu"]
GATED = frozenset({"swiglu", "geglu"})


class SparseIndexer(Spec):
    """The small attention that picks which keys a sparse attention reads (DeepSeek V3.2, GLM-5, MiniMax-M3).

    ``lightning``: queries from the compressed query where there is one, a learned weight per index head, one key per token.
    ``block``: queries from the hidden state, no head weights; whole blocks of keys are picked, ``top_k`` is their keys together.
    """

    kind: Literal["lightning", "block"] = "lightning"
    heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    top_k: int = Field(ge=1, description="keys that each query reads")
    reused: bool = Field(default=False, description="takes the choice of an earlier layer: no weights and no work here")


class Attention(Spec):
    """Multi-head, grouped-query or multi-query attention, optionally windowed, chunked or linear in bias.

    ``window``: each query reads at most that many last keys; ``chunk``: only keys of its own chunk.
    """

    kind: Literal["attention"] = "attention"
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    value_head_dim: int | None = Field(default=None, ge=1, description="head_dim where absent")
    window: int | None = Field(default=None, ge=1)
    chunk: int | None = Field(default=None, ge=1)
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: Literal["none", "head", "full"] = Field(default="none", description="'head': one weight per head dimension, 'full': per column of Q and K")
    output_gate: bool = Field(default=False, description="Q is twice as wide; half gates the output (Qwen3-Next)")
    head_gate: bool = Field(default=False, description="one gate per head from the hidden state scales the output (Step-3.5)")
    sinks: bool = Field(default=False, description="one learned logit per head (gpt-oss)")
    shares_kv: bool = Field(default=False, description="K and V come from an earlier layer: no K and V matrices, no cache here")
    values_are_keys: bool = Field(default=False, description="values are made from the key projection: no V matrix (Gemma 4)")
    indexer: SparseIndexer | None = None

    @model_validator(mode="after")
    def _grouped(self) -> "Attention":
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        return self


class LatentAttention(Spec):
    """Multi-head latent attention (DeepSeek V2/V3): keys and values live in a compressed cache of ``kv_lora_rank + qk_rope_head_dim``."""

    kind: Literal["latent_attention"]
    heads: int = Field(ge=1)
    q_lora_rank: int | None = Field(default=None, ge=1, description="None: one full-rank query projection")
    kv_lora_rank: int = Field(ge=1)
    qk_nope_head_dim: int = Field(ge=0)
    qk_rope_head_dim: int = Field(ge=0)
    v_head_dim: int = Field(ge=1)
    indexer: SparseIndexer | None = None


class Mamba2(Spec):
    """State-space mixer of Mamba-2: one input projection, a short convolution, a scan with a state per head, an output projection."""

    kind: Literal["mamba2"]
    heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    groups: int = Field(ge=1)
    state_dim: int = Field(ge=1)
    conv_kernel: int = Field(ge=1)
    conv_bias: bool = True
    projection_bias: bool = False


class GatedDeltaNet(Spec):
    """Linear attention with a gated delta rule (Qwen3-Next, Qwen3.5): a matrix state per value head."""

    kind: Literal["gated_delta_net"]
    key_heads: int = Field(ge=1)
    value_heads: int = Field(ge=1)
    key_head_dim: int = Field(ge=1)
    value_head_dim: int = Field(ge=1)
    conv_kernel: int = Field(ge=1)


class DenseFfn(Spec):
    """A feed-forward layer: two matrices, or three where the activation is gated."""

    kind: Literal["dense"] = "dense"
    intermediate_size: int = Field(ge=1)
    activation: Activation
    bias: bool = False


class MoeFfn(Spec):
    """A mixture of experts: each token goes to ``top_k`` of ``experts``, and to every shared expert.

    ``latent_size``: the routed experts work in a narrower space, reached by one projection down and one up (Nemotron 3).
    """

    kind: Literal["moe"]
    experts: int = Field(ge=2)
    top_k: int = Field(ge=1)
    expert_intermediate_size: int = Field(ge=1)
    activation: Activation
    shared_intermediate_size: int = Field(default=0, ge=0, description="of all shared experts together; 0: none")
    shared_gate: bool = Field(default=False, description="a learned scalar gate on the shared expert (Qwen)")
    router_bias: bool = Field(default=False, description="a bias or correction term per expert")
    bias: bool = Field(default=False, description="experts have biases (gpt-oss)")
    latent_size: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _routable(self) -> "MoeFfn":
        if self.top_k > self.experts:
            raise ValueError(f"top_k ({self.top_k}) must not exceed experts ({self.experts})")
        return self


Mixer = Attention | LatentAttention | Mamba2 | GatedDeltaNet
Ffn = DenseFfn | MoeFfn


class Block(Spec):
    """Equal layers: an optional token mixer, then an optional feed-forward part. ``norms``: normalisations of the hidden state per layer.

    Layers of one kind may stand anywhere in the stack: blocks say how many there are, not where.
    """

    repeat: int = Field(ge=1)
    mixer: Mixer | None = Field(default=None, discriminator="kind")
    ffn: Ffn | None = Field(default=None, discriminator="kind")
    norms: int = Field(default=2, ge=0)

    @model_validator(mode="after")
    def _not_empty(self) -> "Block":
        if self.mixer is None and self.ffn is None:
            raise ValueError("a block needs a mixer, an ffn or both")
        return self


class Transformer(Sourced):
    """A language model: embedding, blocks, final norm, output head.

    ``other_parameters`` are those that serving text does not touch (vision tower, multi-token prediction), so that the
    published total can be checked; small extras belong there too.
    """

    family: Literal["transformer"] = "transformer"
    hf_id: str | None = None
    hidden_size: int = Field(ge=1)
    vocab_size: int = Field(ge=1)
    blocks: tuple[Block, ...] = Field(min_length=1)
    tie_embeddings: bool = False
    sorts_logits: bool = Field(default=True, description="the published generation settings ask for top-k or top-p, for which a sampler sorts all logits")
    causal: bool = True
    norm: Literal["rms", "layer"] = "rms"
    norm_bias: bool | None = Field(default=None, description="a bias beside the weight; None: layer norm has one, RMS norm has not")
    embedding_norm: bool = Field(default=False, description="the embedding is normalised (BLOOM, BERT)")
    final_norm: bool = Field(default=True, description="the last hidden state is normalised (not in post-norm BERT)")
    head_bias: bool = False
    token_types: int = Field(default=0, ge=0, description="rows of a token type table (BERT)")
    predicted_share: float = Field(default=1.0, gt=0.0, le=1.0, description="of the tokens, how many have a target in training (masked language models)")
    learned_positions: int = Field(default=0, ge=0, description="rows of a learned position table")
    output_head: bool = Field(default=True, description="logits over the vocabulary; false for a pure encoder")
    max_context_tokens: int | None = Field(default=None, ge=1)
    native_precision: str = Field(default="bf16", description="as published")
    quantized_part: Literal["linear", "ffn", "experts"] = Field(
        default="linear", description="what low precision applies to: all matrices but embedding and head, feed-forward ones, or routed experts"
    )
    published_parameters: Count | None = Field(default=None, description="of the model card; absent for an imported config")
    active_parameters: Count | None = None
    other_parameters: int = Field(default=0, ge=0)

    @property
    def num_layers(self) -> int:
        """Layers, as the sum over blocks."""
        return sum(block.repeat for block in self.blocks)

    @property
    def has_norm_bias(self) -> bool:
        """Whether normalisations carry a bias."""
        return self.norm == "layer" if self.norm_bias is None else self.norm_bias


class Mlp(Sourced):
    """A plain dense network, such as the 784-128-10 classifier of the founding article."""

    family: Literal["mlp"]
    hf_id: str | None = None
    layer_sizes: tuple[int, ...] = Field(min_length=2)
    activation: Activation
    bias: bool = True
    native_precision: str = "fp32"
    published_parameters: Count

    @model_validator(mode="after")
    def _positive(self) -> "Mlp":
        if min(self.layer_sizes) < 1:
            raise ValueError("layer_sizes must all be at least 1")
        return self


Model = Transformer | Mlp
