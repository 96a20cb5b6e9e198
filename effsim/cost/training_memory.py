"""Memory of one device in training, part by part."""

import dataclasses
from typing import Any

import numpy as np

from effsim.errors import InfeasibleError
from effsim.results import Result
from effsim.units import BYTES_PER_GIB

RESERVE_BYTES = 2.0 * BYTES_PER_GIB  # CUDA context, NCCL buffers, workspace; judgement, 2026-11


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingMemory(Result):
    """Memory of the fullest device [bytes]; the total is the sum of the parts."""

    weights_bytes: float
    gradients_bytes: float
    optimizer_bytes: float
    activations_bytes: Any
    logits_bytes: Any
    reserve_bytes: float
    device_bytes: float

    @property
    def total_bytes(self) -> Any:
        """Sum of the parts [bytes]."""
        return self.weights_bytes + self.gradients_bytes + self.optimizer_bytes + self.activations_bytes + self.logits_bytes + self.reserve_bytes

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
    labels = ("weights", "gradients", "optimizer", "activations", "logits", "reserve")
    parts = {label: np.asarray(getattr(memory, f"{label}_bytes")).item() / BYTES_PER_GIB for label in labels}
    listed = ", ".join(f"{label} {size:.1f}" for label, size in parts.items())
    needed, there = sum(parts.values()), memory.device_bytes / BYTES_PER_GIB
    largest = max(parts, key=lambda label: parts[label])
    knobs = {
        "activations": ("a smaller micro_batch_size", *(() if recompute == "full" else ("recompute=full",)), "sequence_parallel=True", "context_parallel"),
        "logits": ("a smaller micro_batch_size", "more tensor-parallel ranks"),
        "optimizer": (*(() if zero_stage >= 1 else ("zero_stage=1",)), "more pipeline or tensor parallelism", "optimizer=adam_8bit"),
    }
    general = (f"zero_stage={min(zero_stage + 1, 3)}", "more tensor or pipeline parallelism")
    raise InfeasibleError(
        f"training {name} does not fit on {device}: {needed:.1f} GiB needed ({listed} GiB), {there:.1f} GiB there: {needed - there:.1f} GiB short.",
        "accelerator memory",
        knobs.get(largest, general),
    )
