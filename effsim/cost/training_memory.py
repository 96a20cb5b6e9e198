"""Memory of one device in training, part by part, at the moment when it is fullest."""

import dataclasses
from typing import Any, Final

import numpy as np

from effsim.cost.exchange import SHARDED_GRADIENTS, SHARDED_OPTIMIZER, SHARDED_WEIGHTS
from effsim.cost.recipe import Batch, Step
from effsim.cost.schedules import kept_micro_batches
from effsim.results import Result
from effsim.specs.model import Transformer
from effsim.units import BYTES_PER_GIB
from effsim.workload.features import feature_matrix
from effsim.workload.low_precision import COPIES
from effsim.workload.lowering import stage_weight_bytes
from effsim.workload.training import Recompute, activation_bytes

RESERVE_BYTES: Final = 2.0 * BYTES_PER_GIB  # CUDA context, NCCL buffers, workspace; judgement, 2026-11
WIDE_BYTES: Final = 2.0
LOGIT_BYTES: Final = 6.0  # an fp32 logit and its 16-bit gradient
GATHERED_LAYERS: Final = 2.0  # the one that runs, and the next

PARTS: Final = ("weights", "gradients", "optimizer", "activations", "recompute", "gathered", "logits", "reserve")


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingMemory(Result):
    """Memory of the fullest device at its fullest moment [bytes]; the total is the sum of the parts.

    The fullest moment is either the loss, when the logits are there, or the backward pass of the last layer, when what recomputation
    brings back is there; the other of the two is 0.

    Args:
        weights_bytes: Copies that the products read and that stay.
        gradients_bytes: Sums of gradients.
        optimizer_bytes: Master copies and state, less what lies on the host.
        activations_bytes: What the micro-batches under way keep for their backward passes, less what lies on the host.
        recompute_bytes: What recomputation brings back of the layer whose backward pass runs.
        gathered_bytes: Weights of the layer that runs and of the next, gathered from the ranks that share them (ZeRO stage 3).
        logits_bytes: Logits and their gradient.
        reserve_bytes: Context, communication buffers, workspace.
        device_bytes: What the device has.
    """

    weights_bytes: float
    gradients_bytes: Any
    optimizer_bytes: float
    activations_bytes: Any
    recompute_bytes: Any
    gathered_bytes: float
    logits_bytes: Any
    reserve_bytes: float
    device_bytes: float

    @property
    def total_bytes(self) -> Any:
        """Sum of the parts [bytes]."""
        return sum(getattr(self, f"{part}_bytes") for part in PARTS)

    @property
    def fits(self) -> Any:
        """Whether the total is within the device."""
        return np.asarray(self.total_bytes) <= self.device_bytes


def kept_bytes(step: Step, batch: Batch) -> tuple[Any, Any]:
    """Return what a micro-batch keeps over all stages [bytes] as the step recomputes, and without recomputation."""
    table, frozen = step.forward, step.recipe.trainable == "lora"
    features = feature_matrix(table.features, step.iteration(batch))
    layers = step.deployment.model.num_layers if isinstance(step.deployment.model, Transformer) else 1
    modes: tuple[Recompute, ...] = (step.recipe.recompute, "none")
    each, all_kept = (activation_bytes(table, features, mode, layers, frozen=frozen) for mode in modes)
    return each, all_kept


def training_memory(step: Step, batch: Batch, kept_by_micro_batch: tuple[Any, Any] | None = None) -> TrainingMemory:
    """Return the memory of the fullest device: of the first stage, which holds most micro-batches, or the last, which has the logits.

    Where a layer is recomputed, all that it would have kept is live during its backward pass, beside what is kept of the others
    (Korthikanti et al., arXiv:2205.05198, section 5). ZeRO stage 3 gathers a layer's weights while the layer before it runs (Zhao et
    al., PyTorch FSDP, arXiv:2304.11277, section 3.3). Frozen weights are stored in the format of the products, without a wider copy.
    Engines without gradient buffers make gradients as backward comes by, so that with one micro-batch there are none at the loss.

    Args:
        step: The configuration.
        batch: The batches.
        kept_by_micro_batch: :func:`kept_bytes`, where it is known already: stages, replicas and ZeRO do not change it.
    """
    p, recipe, table, engine = step.deployment.parallelism, step.recipe, step.forward, step.deployment.engine
    layers = step.deployment.model.num_layers if isinstance(step.deployment.model, Transformer) else 1
    frozen = recipe.trainable == "lora"
    each, all_kept = kept_bytes(step, batch) if kept_by_micro_batch is None else kept_by_micro_batch
    held = step.owned(step.weights, SHARDED_WEIGHTS)
    count = batch.global_batch_size / (batch.micro_batch_size * p.data)
    head = next((op.cols for op in table.operations if op.name == "logits"), 0)
    logits = batch.micro_batch_size * batch.sequence_length / p.context * head * (LOGIT_BYTES if engine.logits_bytes is None else engine.logits_bytes.value)
    gradients = step.gradient_bytes * step.owned(step.trained, SHARDED_GRADIENTS)
    at_loss = gradients * (1.0 if engine.gradient_buffers else np.where(count > 1.0, 1.0, 0.0))
    stage = _Stage(each * (1.0 - recipe.offload_activations) / p.pipeline, np.maximum(all_kept - each, 0.0) / layers, logits, gradients, at_loss)
    kept, again, logit, gradient = _fullest(step, stage, count)
    return TrainingMemory(
        weights_bytes=_weights_bytes(step, held, frozen=frozen),
        gradients_bytes=gradient,
        optimizer_bytes=step.chosen_optimizer.state_bytes * step.owned(step.trained, SHARDED_OPTIMIZER) * (1.0 - recipe.offload_optimizer),
        activations_bytes=kept,
        recompute_bytes=again,
        gathered_bytes=WIDE_BYTES * min(GATHERED_LAYERS * step.layer_weights, step.weights - held),
        logits_bytes=logit,
        reserve_bytes=RESERVE_BYTES,
        device_bytes=step.deployment.accelerator.memory.value,
    )


def _weights_bytes(step: Step, weights: float, *, frozen: bool) -> float:
    """Return the copies of the weights that a device keeps [bytes], beside the optimizer's fp32 master copy.

    Engines that keep parameters in fp32 only (PyTorch FSDP's mixed precision, MaxText) have no other copy where weights are sharded:
    what is gathered is cast. Others keep a 16-bit copy; an FP8 recipe keeps in its place the quantised weights along rows and along
    columns, an NVFP4 recipe keeps them beside it.
    """
    if frozen:
        return stage_weight_bytes(step.forward, step.deployment.parallelism.pipeline) / step.weights * weights
    if step.recipe.zero_stage == SHARDED_WEIGHTS and not step.deployment.engine.separate_master_weights:
        return 0.0
    low = step.low_precision
    if low is None:
        return weights * WIDE_BYTES
    quantized = COPIES * low.copy_bytes + (WIDE_BYTES if low.keeps_wide_weights else 0.0)
    return weights * (WIDE_BYTES + step.quantized_share * (quantized - WIDE_BYTES))


@dataclasses.dataclass(frozen=True, slots=True)
class _Stage:
    """Of a pipeline stage [bytes]: kept per micro-batch, brought back of a layer, logits, gradients in backward, gradients at the loss."""

    each_bytes: Any
    again_bytes: Any
    logits_bytes: Any
    gradients_bytes: Any
    at_loss_bytes: Any


def _fullest(step: Step, stage: _Stage, count: Any) -> tuple[Any, Any, Any, Any]:
    """Return activations, recomputed layer, logits and gradients of the stage that keeps most, at its fullest moment.

    That is the first stage with its micro-batches, or the last with its logits: it runs backward at once, so it keeps one micro-batch,
    or all of them under GPipe.
    """
    recipe, stages = step.recipe, step.deployment.parallelism.pipeline
    first = stage.each_bytes * kept_micro_batches(recipe.schedule, stages, recipe.virtual_stages, count)
    last = first if stages == 1 else stage.each_bytes * (count if recipe.schedule == "gpipe" else 1.0)
    zero = np.zeros_like(first)
    loss_bytes = last + stage.logits_bytes + stage.at_loss_bytes
    layer_bytes = first + stage.again_bytes + stage.gradients_bytes
    at_loss = loss_bytes > layer_bytes
    pairs = ((last, first), (zero, stage.again_bytes + zero), (stage.logits_bytes + zero, zero), (stage.at_loss_bytes + zero, stage.gradients_bytes + zero))
    kept, again, logits, gradients = (np.where(at_loss, a, b) for a, b in pairs)
    return kept, again, logits, gradients
