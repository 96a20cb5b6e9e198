"""Transformers: decoders, encoders, mixtures, hybrids with state-space or linear-attention layers."""

import dataclasses

from effsim.specs.model import Attention, Block, DenseFfn, GatedDeltaNet, LatentAttention, Mamba2, Transformer
from effsim.workload.features import LOGIT_ROWS, TOKENS
from effsim.workload.layers import attention, delta_net, ffn, latent_attention, mamba2
from effsim.workload.layers.common import Lowering, collective, elementwise, gemm, head_rows, norm, scaled
from effsim.workload.operations import CacheLayer, Kind, Operation


def operations(low: Lowering, model: Transformer) -> list[Operation]:
    """Return the operations of one pass over new tokens, all pipeline stages, one tensor rank."""
    ops = _embedding(low, model)
    mixers = dataclasses.replace(low, linear=low.base) if model.quantized_part == "ffn" else low
    for block in model.blocks:
        ops += block_operations(low, block, mixers)
    if model.final_norm:
        ops.append(norm(low, "final_norm", 1.0))
    if low.parallelism.pipeline > 1:
        payload = {TOKENS: low.hidden * low.activation_bytes / (low.tensor if low.parallelism.sequence else 1)}
        ops.append(collective("pipeline.send", low.parallelism.pipeline - 1.0, "send", "pipeline", payload))
    return ops + (_head(low, model) if model.output_head else [])


def block_operations(low: Lowering, block: Block, mixers: Lowering) -> list[Operation]:
    """Return the operations of all layers of one block; ``mixers`` holds the formats of their token mixers."""
    count = float(block.repeat)
    ops = [norm(low, "norm", count * block.norms)] if block.norms else []
    mixer = block.mixer
    if isinstance(mixer, Attention):
        ops += attention.lower(mixers, mixer, count)
    elif isinstance(mixer, LatentAttention):
        ops += latent_attention.lower(mixers, mixer, count)
    elif isinstance(mixer, Mamba2):
        ops += mamba2.lower(mixers, mixer, count)
    elif isinstance(mixer, GatedDeltaNet):
        ops += delta_net.lower(mixers, mixer, count)
    if isinstance(block.ffn, DenseFfn):
        ops += ffn.lower_dense(low, block.ffn, count)
    elif block.ffn is not None:
        ops += ffn.lower_moe(low, block.ffn, count)
    return ops


def _embedding(low: Lowering, model: Transformer) -> list[Operation]:
    """Return the table look-up (rows split over tensor ranks, joined by an all-reduce) and learned positions."""
    byte = low.activation_bytes
    width = {TOKENS: float(low.hidden)}
    table = (model.vocab_size / low.tensor + model.learned_positions + model.token_types) * model.hidden_size * byte
    ops = [Operation("embedding", "embedding", 1.0, scaled(width, 1.0), scaled(width, byte), scaled(width, byte), weight_bytes=table)]
    if low.tensor > 1:
        ops.append(collective("embedding.all_reduce", 1.0, "all_reduce", "tensor", scaled(width, byte)))
    if model.embedding_norm:
        ops.append(norm(low, "embedding_norm", 1.0))
    return ops


def _head(low: Lowering, model: Transformer) -> list[Operation]:
    """Return the logits (vocabulary split over tensor ranks) and, in serving, their gathering and the sampler.

    The sampler reads and writes fp32 logits about three times (temperature, top-k/top-p by sort, draw): five kernels.
    """
    columns = -(-model.vocab_size // low.tensor)
    rows = scaled(head_rows(low), model.predicted_share if low.phase == "train" else 1.0)
    ops = gemm(low, "logits", 1.0, (low.hidden, columns), rows=rows, fmt=low.base, bias=model.head_bias)
    if model.tie_embeddings:
        ops = [dataclasses.replace(op, weight_bytes=0.0) for op in ops]
    vocabulary = scaled(rows, float(model.vocab_size))
    if low.phase == "train":
        return [*ops, elementwise("cross_entropy", 1.0, scaled(rows, float(columns)), (6.0, 8.0, 4.0), kernels=3.0)]
    if low.tensor > 1:
        ops.append(collective("logits.all_gather", 1.0, "all_gather", "tensor", scaled({LOGIT_ROWS: 1.0}, model.vocab_size * low.activation_bytes)))
    kind: Kind = "sampling" if model.sorts_logits else "elementwise"
    return [*ops, Operation("sampling", kind, 1.0, scaled(vocabulary, 12.0), scaled(vocabulary, 12.0), scaled(vocabulary, 4.0), kernels=5.0)]


def cache_layers(low: Lowering, model: Transformer) -> tuple[CacheLayer, ...]:
    """Return what serving keeps per sequence on one device of the stage with most layers, by kind of layer."""
    stages = low.parallelism.pipeline
    found = []
    for block in model.blocks:
        layers = block.repeat / stages
        if isinstance(block.mixer, Attention):
            found.append(attention.cache(low, block.mixer, layers))
        elif isinstance(block.mixer, LatentAttention):
            found.append(latent_attention.cache(low, block.mixer, layers))
        elif isinstance(block.mixer, Mamba2):
            found.append(mamba2.cache(low, block.mixer, layers))
        elif isinstance(block.mixer, GatedDeltaNet):
            found.append(delta_net.cache(low, block.mixer, layers))
    return tuple(found)
