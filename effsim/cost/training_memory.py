"""Memory of one device in training, part by part."""

import dataclasses
from typing import Any

import numpy as np

from effsim.errors import InfeasibleError
from effsim.results import Result
from effsim.units import BYTES_PER_GIB

RESERVE_BYTES = 2.0 * BYTES_PER_GIB  # CUDA context, NCCL buffers, workspace; judgement, 2026-11

PARTS = ("weights", "gradients", "optimizer", "activations", "recompute", "gathered", "logits", "reserve")


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingMemory(Result):
    """Memory of the fullest device [bytes]; the total is the sum of the parts.

    Args:
        weights_bytes: 16-bit copies that stay.
        gradients_bytes: fp32 sums.
        optimizer_bytes: Master copies and state.
        activations_bytes: What the micro-batches under way keep for their backward passes.
        recompute_bytes: What recomputation brings back of the layer whose backward pass runs.
        gathered_bytes: Weights of the layer that runs and of the next, gathered from the ranks that share them (ZeRO stage 3).
        logits_bytes: fp32 logits and their gradient.
        reserve_bytes: Context, communication buffers, workspace.
        device_bytes: What the device has.
    """

    weights_bytes: float
    gradients_bytes: float
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


def require_fit(memory: TrainingMemory, name: str, device: str, *, zero_stage: int, recompute: str) -> None:
    """Check that a training configuration fits.

    Raises:
        InfeasibleError: It does not; the message has the parts and the knobs that would make it fit.
    """
    if bool(memory.fits):
        return
    parts = {label: np.asarray(getattr(memory, f"{label}_bytes")).item() / BYTES_PER_GIB for label in PARTS}
    listed = ", ".join(f"{label} {size:.1f}" for label, size in parts.items())
    needed, there = sum(parts.values()), memory.device_bytes / BYTES_PER_GIB
    largest = max(parts, key=lambda label: parts[label])
    knobs = {
        "activations": ("a smaller micro_batch_size", *(() if recompute == "full" else ("recompute=full",)), "sequence_parallel=True", "context_parallel"),
        "recompute": ("a smaller micro_batch_size", "more tensor-parallel ranks", "context_parallel"),
        "gathered": ("more tensor-parallel ranks",),
        "logits": ("a smaller micro_batch_size", "more tensor-parallel ranks"),
        "optimizer": (*(() if zero_stage >= 1 else ("zero_stage=1",)), "more pipeline or tensor parallelism", "optimizer=adam_8bit"),
    }
    general = (f"zero_stage={min(zero_stage + 1, 3)}", "more tensor or pipeline parallelism")
    raise InfeasibleError(
        f"training {name} does not fit on {device}: {needed:.1f} GiB needed ({listed} GiB), {there:.1f} GiB there: {needed - there:.1f} GiB short.",
        "accelerator memory",
        knobs.get(largest, general),
    )
