"""A training job as plain values, its stages, and what a step of it costs."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from effsim.cost.deployment import Settings, deploy
from effsim.cost.device import Coefficients
from effsim.cost.estimate import number_arrays, number_or_none
from effsim.cost.routing import Routing
from effsim.cost.storage import DEFAULT_STORAGE, TOKEN_BYTES, Loading
from effsim.cost.training import TrainingEstimate, estimate_training, predict
from effsim.cost.training_step import Batch, Recipe, Step, training_memory, training_step
from effsim.errors import SpecError
from effsim.specs.model import Model
from effsim.specs.models import model as load_model
from effsim.strategies.scaling import TOKENS_PER_PARAMETER
from effsim.workload.operations import Parallelism
from effsim.workload.parameters import parameter_count
from effsim.workload.training import Recompute


@dataclass(frozen=True, slots=True)
class Stage:
    """A first part of a training that runs with other arguments.

    Args:
        share: Of the tokens, above 0 and below 1.
        changes: Argument -> value in this part.
    """

    share: float
    changes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """The arguments of :func:`~effsim.cost.training.estimate_training`, and how long the training is.

    Args:
        tokens: To the loss that is wanted; None: 20 per parameter (Hoffmann et al., arXiv:2203.15556).
        stages: Parts before the rest of the training, which runs with the job's own arguments.
    """

    model: Any
    accelerator: Any
    num_accelerators: int = 1
    global_batch_size: Any = 1
    micro_batch_size: Any = 1
    sequence_length: Any = 4096
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    virtual_pipeline_stages: int = 1
    context_parallel: int = 1
    expert_parallel: int = 1
    sequence_parallel: bool = True
    zero_stage: int = 1
    recompute: Recompute = "none"
    precision: str = "bf16"
    optimizer: str = "adam"
    node: Any = None
    network: Any = None
    engine: Any = "megatron"
    power_limit_w: float | None = None
    calibration: Any = "auto"
    pipeline_schedule: str = "1f1b"
    trainable: Literal["full", "lora"] = "full"
    lora_rank: int = 16
    capacity_factor: float | None = None
    shard_group: int | None = None
    rank_time_sd: float = 0.0
    attention: Literal["tiled", "naive"] = "tiled"
    storage: Any = DEFAULT_STORAGE
    data_bytes_per_token: float = TOKEN_BYTES
    prefetch_ratio: float = 1.0
    expert_imbalance: float | None = None
    gradient_bytes: float | None = None
    offload_activations: float = 0.0
    offload_optimizer: float = 0.0
    clock: float | None = None
    routing: Routing | None = None
    wide_share: float | None = None
    amax_reads: float | None = None
    tokens: float | None = None
    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        """Check what the estimate does not see.

        Raises:
            SpecError: Tokens are no number above 0, or a batch is an array.
        """
        number_or_none("tokens", self.tokens)
        for name in ("global_batch_size", "micro_batch_size", "sequence_length"):
            number_or_none(name, getattr(self, name))

    @property
    def batch_tokens(self) -> float:
        """Tokens in a step."""
        return float(self.global_batch_size) * float(self.sequence_length)

    @property
    def parameters(self) -> float:
        """Parameters that a token passes through."""
        return float(parameter_count(load_model(self.model)).active)

    @property
    def target_tokens(self) -> float:
        """Tokens to the loss that is wanted."""
        return TOKENS_PER_PARAMETER * self.parameters if self.tokens is None else float(self.tokens)


_OWN = ("tokens", "stages")
ARGUMENTS = tuple(f.name for f in dataclasses.fields(TrainingJob) if f.name not in _OWN)


def replace(job: TrainingJob, **changes: Any) -> TrainingJob:
    """Return a job with other values, the tokens kept: a change of model must not move the target."""
    return dataclasses.replace(job, tokens=job.target_tokens, **changes)


def with_model(job: TrainingJob, change: Callable[[Model], Model]) -> TrainingJob:
    """Return a job with its model, and that of its stages, changed."""
    stages = tuple(
        dataclasses.replace(s, changes=MappingProxyType({**s.changes, "model": change(load_model(s.changes["model"]))})) if "model" in s.changes else s
        for s in job.stages
    )
    return replace(job, model=change(load_model(job.model)), stages=stages)


def with_stages(job: TrainingJob, stages: list[tuple[float, dict[str, Any]]]) -> TrainingJob:
    """Return a job with first parts, given as (share of tokens, changes).

    Raises:
        SpecError: It has stages already, or the shares do not leave the job a part of its own.
    """
    if job.stages:
        raise SpecError("stages: the job has stages already; one choice that divides the training at a time")
    if any(share <= 0.0 for share, _ in stages) or sum(share for share, _ in stages) >= 1.0:
        raise SpecError(f"stages: shares must be above 0 and sum to less than 1, got {[share for share, _ in stages]}")
    return replace(job, stages=tuple(Stage(share, MappingProxyType(dict(changes))) for share, changes in stages))


def parts(job: TrainingJob) -> list[tuple[float, TrainingJob]]:
    """Return the parts of a training in order, each with its share of the tokens, as jobs without stages."""
    plain = dataclasses.replace(job, tokens=job.target_tokens, stages=())
    before = [(stage.share, dataclasses.replace(plain, **stage.changes)) for stage in job.stages]
    return [*before, (1.0 - sum(share for share, _ in before), plain)]


def estimate(job: TrainingJob) -> TrainingEstimate:
    """Return the estimate of a step with the job's own arguments; stages are left out."""
    return estimate_training(**{name: getattr(job, name) for name in ARGUMENTS})


class StepCost(NamedTuple):
    """A mean step of a training, all accelerators; of all its stages, each weighted by its steps.

    ``server_energy_j`` is absent where no node is known.
    """

    step_time_s: float
    energy_j: float
    server_energy_j: float | None
    energy_per_token_j: float
    steps: float


def step_cost(job: TrainingJob) -> StepCost:
    """Return the cost of a mean step.

    Raises:
        EffSimError: A stage is malformed, or does not fit.
    """
    found = [(share * job.target_tokens / part.batch_tokens, estimate(part)) for share, part in parts(job)]
    steps = sum(count for count, _ in found)

    def mean(values: list[float]) -> float:
        return float(sum(count / steps * value for (count, _), value in zip(found, values, strict=True)))

    energy_j = mean([e.energy_j_per_step for _, e in found])
    host_j = mean([e.host_energy_j_per_step for _, e in found])
    server_j = energy_j + host_j if math.isfinite(host_j) else None
    return StepCost(mean([e.step_time_s for _, e in found]), energy_j, server_j, energy_j * steps / job.target_tokens, steps)


def memory_bytes(job: TrainingJob) -> float:
    """Return the memory of the fullest device, in the stage that needs most, whether it fits or not [bytes].

    Raises:
        SpecError: The sizes do not divide.
    """
    return max(float(training_memory(*resolve(part)).total_bytes[0]) for _, part in parts(job))


def resolve(job: TrainingJob) -> tuple[Step, Batch]:
    """Return the resolved step and batch of a job without stages, as ``estimate_training`` makes them.

    Raises:
        SpecError: As there.
    """
    one = Parallelism(job.tensor_parallel, job.pipeline_parallel, context=job.context_parallel, sequence=job.sequence_parallel and job.tensor_parallel > 1)
    if job.num_accelerators % one.accelerators:
        raise SpecError(f"num_accelerators: {job.num_accelerators} is no multiple of tensor x pipeline x context parallel = {one.accelerators}")
    ranks = dataclasses.replace(one, expert=job.expert_parallel, data=job.num_accelerators // one.accelerators)
    machine = (job.engine, job.node, job.network, job.power_limit_w)
    settings = Settings(job.precision, None, *machine, None, job.calibration, "train", job.attention, clock=job.clock)
    recipe = Recipe(
        job.recompute,
        job.zero_stage,
        job.optimizer,
        job.virtual_pipeline_stages,
        job.pipeline_schedule,
        job.trainable,
        job.lora_rank,
        job.capacity_factor,
        job.shard_group,
        job.rank_time_sd,
        job.expert_imbalance,
        job.gradient_bytes,
        job.offload_activations,
        job.offload_optimizer,
        Loading(job.storage, job.data_bytes_per_token, job.prefetch_ratio),
        job.routing or Routing(),
        job.wide_share,
        job.amax_reads,
    )
    arrays, _ = number_arrays({name: getattr(job, name) for name in ("global_batch_size", "micro_batch_size", "sequence_length")})
    return training_step(deploy(job.model, job.accelerator, ranks, settings), recipe), Batch(*arrays)


class EnergyPerToken:
    """Energy per token of a training as a function of the coefficients; values are kept, for the base is asked again and again."""

    def __init__(self, job: TrainingJob) -> None:
        """Resolve every stage."""
        self._parts = [(share, *resolve(part)) for share, part in parts(job)]
        self._known: dict[Coefficients, float] = {}
        self.prior = self._parts[-1][1].deployment.prior

    def __call__(self, coefficients: Coefficients) -> float:
        """Return the energy per token [J]."""
        if coefficients not in self._known:
            each = [share * float(predict(step, coefficients, batch)["energy_per_token_j"][0]) for share, step, batch in self._parts]
            self._known[coefficients] = sum(each)
        return self._known[coefficients]
