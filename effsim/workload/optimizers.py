"""What an optimizer keeps and does per weight and step."""

import dataclasses
from typing import Final

from effsim.catalog import suggest
from effsim.errors import SpecError, shown
from effsim.workload.features import ONE
from effsim.workload.operations import Operation


@dataclasses.dataclass(frozen=True, slots=True)
class Optimizer:
    """Cost of an update in mixed precision: 16-bit weights, fp32 master copy and state.

    Args:
        state_bytes: Master weight and state per weight [bytes].
        flop: Per weight [FLOP].
        orthogonalization_steps: Newton-Schulz steps per matrix (Muon).
    """

    state_bytes: float
    flop: float
    orthogonalization_steps: int = 0


OPTIMIZERS: Final = {
    "sgd": Optimizer(4.0, 2.0),
    "momentum": Optimizer(8.0, 4.0),
    "rmsprop": Optimizer(8.0, 7.0),
    "adam": Optimizer(12.0, 12.0),  # Rajbhandari et al., arXiv:1910.02054, section 3.1: K = 12
    "adam_bf16": Optimizer(8.0, 12.0),  # fp32 master copy, both moments in bf16; Megatron Core's precision-aware optimizer (user guide, 2025)
    "adafactor": Optimizer(4.0, 10.0),  # row and column means only; Shazeer, Stern, arXiv:1804.04235
    "adam_8bit": Optimizer(6.0, 20.0),  # two 8-bit states with block scales; Dettmers et al., arXiv:2110.02861
    "muon": Optimizer(8.0, 4.0, 5),  # momentum and five Newton-Schulz steps; Liu et al., arXiv:2502.16982
}
ALIASES: Final = {"adamw": "adam", "adam8bit": "adam_8bit", "sgd_momentum": "momentum"}


def optimizer(name: str) -> Optimizer:
    """Return an optimizer by name.

    Raises:
        SpecError: Unknown, or no name; the message has the nearest names.
    """
    if not isinstance(name, str):
        raise SpecError(f"optimizer: expected a name, got {shown(name)}; allowed: {', '.join(OPTIMIZERS)}")
    key = name.strip().lower().replace("-", "_")
    key = ALIASES.get(key, key)
    if key not in OPTIMIZERS:
        raise SpecError(f"optimizer: unknown {name!r}; {suggest(name, OPTIMIZERS)}allowed: {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[key]


def update(chosen: Optimizer, weights: float, gradient_bytes: float, matrices: list[tuple[float, int, int]]) -> list[Operation]:
    """Return the update of the weights that one device owns: gradient and state read, state and weight written.

    Args:
        chosen: The optimizer.
        weights: That the device updates.
        gradient_bytes: Per weight [bytes].
        matrices: (count, rows, columns) of the matrices that Muon orthogonalises on this device.
    """
    read, write = chosen.state_bytes + gradient_bytes, chosen.state_bytes + 2.0
    ops = [Operation("optimizer", "optimizer", 1.0, {ONE: weights * chosen.flop}, {ONE: weights * read}, {ONE: weights * write}, kernels=4.0)]
    for count, rows, cols in matrices if chosen.orthogonalization_steps else []:
        small, large = min(rows, cols), max(rows, cols)
        flop = chosen.orthogonalization_steps * (4.0 * small * small * large + 2.0 * small**3)
        traffic = chosen.orthogonalization_steps * 2.0 * (3.0 * small * large + 3.0 * small * small)
        ops.append(
            Operation(
                "optimizer.orthogonalize", "gemm", count, {ONE: flop}, {ONE: traffic}, {ONE: traffic / 3.0}, "bf16",
                rows={ONE: float(small)}, cols=large, inner=small, kernels=3.0 * chosen.orthogonalization_steps,
            )
        )  # fmt: skip
    return ops
