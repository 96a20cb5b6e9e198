"""Activations and optimizer state kept on the host: time and traffic of its link."""

from typing import Any

import numpy as np

from effsim.cost.exchange import SHARDED_OPTIMIZER
from effsim.cost.recipe import Batch, Step
from effsim.errors import SpecError
from effsim.specs.model import Transformer
from effsim.workload.features import feature_matrix
from effsim.workload.training import activation_bytes

STATE_PASSES = 2.0  # state is read for the update and written back


def offloaded(step: Step, batch: Batch, hiding: tuple[Any, Any]) -> tuple[Any, float, Any]:
    """Return what a micro-batch waits for its activations [s], what the update waits for its state [s], and bytes over the host's link in a step.

    Activations leave during the forward pass and come back during the backward pass, hidden as far as those last (Megatron Core's CPU
    offloading; JAX's ``save_and_offload_only_these_names``). Optimizer state passes the link both ways at each update, unhidden: the
    upper bound of what ZeRO-Offload (Ren et al., arXiv:2101.06840) saves by updating on the host.

    Args:
        step: The configuration.
        batch: The batches.
        hiding: Time of a micro-batch's forward and backward pass on one stage [s].

    Raises:
        SpecError: Something is offloaded from a device whose link to the host is not known.
    """
    recipe, p = step.recipe, step.deployment.parallelism
    none = np.zeros_like(batch.micro_batch_size)
    if not (recipe.offload_activations or recipe.offload_optimizer):
        return none, 0.0, none
    link = step.deployment.accelerator.host_link
    if link is None:
        raise SpecError(f"offload: the link of {step.deployment.accelerator.name} to its host is not known; offload nothing")
    layers = step.deployment.model.num_layers if isinstance(step.deployment.model, Transformer) else 1
    features = feature_matrix(step.forward.features, step.iteration(batch))
    kept_bytes = activation_bytes(step.forward, features, recipe.recompute, layers, frozen=recipe.trainable == "lora")
    one_way_bytes = recipe.offload_activations * kept_bytes / p.pipeline
    waits_s = sum(np.maximum(one_way_bytes / link.value - hidden_s, 0.0) for hidden_s in hiding)
    state_bytes = STATE_PASSES * recipe.offload_optimizer * step.chosen_optimizer.state_bytes * step.owned(step.trained, SHARDED_OPTIMIZER)
    count = batch.global_batch_size / (batch.micro_batch_size * p.data)
    return waits_s, state_bytes / link.value, 2.0 * count * one_way_bytes + state_bytes
