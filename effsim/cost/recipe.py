"""What is chosen about a training step beside the split over ranks, and the step that follows: batches, how it is run, its operations."""

import dataclasses
import math
from typing import Any, Final, Literal, NamedTuple

from effsim.cost.deployment import Deployment
from effsim.cost.estimate import is_number, whole_number
from effsim.cost.exchange import GRADIENT_BYTES
from effsim.cost.routing import Routing
from effsim.cost.schedules import check_schedule
from effsim.cost.storage import Loading
from effsim.errors import SpecError, shown
from effsim.workload.features import Iteration
from effsim.workload.low_precision import TrainingRecipe
from effsim.workload.operations import OpTable, Parallelism
from effsim.workload.optimizers import Optimizer, optimizer
from effsim.workload.training import Recompute, check_recompute

ZERO_STAGES: Final = (0, 1, 2, 3)
TRAINABLE: Final = ("full", "lora")
GRADIENT_WIDTHS: Final = (2.0, 4.0)


class Batch(NamedTuple):
    """Batches to evaluate, shape (batch,): sequences per step and per micro-batch, tokens per sequence."""

    global_batch_size: Any
    micro_batch_size: Any
    sequence_length: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How a step is run, beside the parallelism; see :func:`effsim.cost.training.estimate_training`."""

    recompute: Recompute = "none"
    zero_stage: int = 1
    optimizer: str = "adam"
    virtual_stages: int = 1
    schedule: str = "1f1b"
    trainable: Literal["full", "lora"] = "full"
    lora_rank: int = 16
    capacity_factor: float | None = None
    shard_group: int | None = None
    rank_time_sd: float = 0.0
    expert_imbalance: float | None = None
    gradient_bytes: float | None = None
    offload_activations: float = 0.0
    offload_optimizer: float = 0.0
    loading: Loading = dataclasses.field(default_factory=Loading)
    routing: Routing = dataclasses.field(default_factory=Routing)
    wide_share: float | None = None
    amax_reads: float | None = None

    def __post_init__(self) -> None:
        """Check the choices.

        Raises:
            SpecError: One is unknown or out of range.
        """
        check_recompute(self.recompute)
        if not is_number(self.zero_stage) or self.zero_stage not in ZERO_STAGES:
            raise SpecError(f"zero_stage: expected 0, 1, 2 or 3, got {shown(self.zero_stage)}")
        if self.trainable not in TRAINABLE:
            raise SpecError(f"trainable: expected full or lora, got {shown(self.trainable)}")
        if not is_number(self.rank_time_sd) or not 0.0 <= self.rank_time_sd < 1.0:
            raise SpecError(f"rank_time_sd: must be a number in [0, 1), got {shown(self.rank_time_sd)}")
        whole_number("virtual_pipeline_stages", self.virtual_stages)
        whole_number("lora_rank", self.lora_rank)
        if self.shard_group is not None:
            whole_number("shard_group", self.shard_group)
        if self.shard_group is not None and self.zero_stage == 0:
            raise SpecError("shard_group: ZeRO stage 0 shards nothing; give zero_stage 1 to 3")
        check_schedule(self.schedule, self.virtual_stages)
        optimizer(self.optimizer)
        self._check_experts()
        if self.gradient_bytes is not None and self.gradient_bytes not in GRADIENT_WIDTHS:
            raise SpecError(f"gradient_bytes: expected 2 (bf16) or 4 (fp32), got {shown(self.gradient_bytes)}")
        for name in ("offload_activations", "offload_optimizer", "wide_share", "amax_reads"):
            share = getattr(self, name)
            if share is None and name in {"wide_share", "amax_reads"}:
                continue
            if not is_number(share) or not 0.0 <= share <= 1.0:
                raise SpecError(f"{name}: must be a share from 0 to 1, got {shown(share)}")

    def _check_experts(self) -> None:
        factor, imbalance = self.capacity_factor, self.expert_imbalance
        if factor is not None and not (is_number(factor) and 0.0 < factor < math.inf):
            raise SpecError(f"capacity_factor: must be a number above 0, got {shown(factor)}")
        if imbalance is not None and not (is_number(imbalance) and 1.0 <= imbalance < math.inf):
            raise SpecError(f"expert_imbalance: must be a number of at least 1, got {shown(imbalance)}")
        if factor is not None and imbalance is not None:
            raise SpecError("expert_imbalance: with a capacity_factor every expert has as many rows as the others; give one of the two")


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A training configuration: forward, backward and recomputed operations of a micro-batch, the update, and the weights.

    Args:
        weights: Of one device (the stage with most).
        trained: Of those, how many are trained.
        expert_weights: Of the weights, how many belong to routed experts.
        layer_weights: Of a layer on one device, the mean over layers.
        low_precision: How the products run in fewer than 16 bits.
        quantized_share: Of the weights, how many are multiplied in fewer than 16 bits.
    """

    deployment: Deployment
    recipe: Recipe
    forward: OpTable
    backward: OpTable
    repeated: OpTable | None
    update: OpTable
    weights: float
    trained: float
    expert_weights: float
    layer_weights: float
    low_precision: TrainingRecipe | None = None
    quantized_share: float = 0.0

    @property
    def chosen_optimizer(self) -> Optimizer:
        """The optimizer's costs."""
        return optimizer(self.recipe.optimizer)

    @property
    def gradient_bytes(self) -> float:
        """Of a gradient in its sum and on the wire [bytes]: as asked for, else the engine's."""
        stated = self.deployment.engine.gradient_bytes
        return self.recipe.gradient_bytes or (GRADIENT_BYTES if stated is None else stated.value)

    def iteration(self, batch: Batch) -> Iteration:
        """Return a micro-batch as prefill of whole sequences; context ranks share its tokens and its (query, key) pairs evenly."""
        ranks = self.deployment.parallelism.context
        return Iteration(prefill_seqs=batch.micro_batch_size / ranks, prefill_tokens=batch.sequence_length, completed_prefills=batch.micro_batch_size / ranks)

    @property
    def owners(self) -> int:
        """Ranks among which ZeRO shares things out."""
        p = self.deployment.parallelism
        return self.recipe.shard_group or p.data * p.context

    def owned(self, weights: float, from_stage: int) -> float:
        """Return for how many of a device's weights it keeps what ZeRO shares out from a stage on: only ranks with the same weights share."""
        if self.recipe.zero_stage < from_stage:
            return weights
        experts = min(self.expert_weights, weights) if self.recipe.trainable == "full" or weights == self.weights else 0.0
        copies = expert_copies(self.deployment.parallelism)
        return (weights - experts) / self.owners + experts / min(self.owners, copies.data * copies.context)


def with_choices(low: TrainingRecipe | None, recipe: Recipe) -> TrainingRecipe | None:
    """Return how products run in fewer than 16 bits, with what the step chooses otherwise."""
    if low is None:
        return None
    chosen = {name: getattr(recipe, name) for name in ("wide_share", "amax_reads") if getattr(recipe, name) is not None}
    return dataclasses.replace(low, **chosen)


def expert_copies(p: Parallelism) -> Parallelism:
    """Return the ranks as routed experts see them: ``data`` ranks hold the same ones, the groups lie within what counts as tensor ranks."""
    copies = p.data // p.expert if p.data % p.expert == 0 else 1
    return dataclasses.replace(p, tensor=p.tensor * p.data // copies, data=copies, expert=1)
