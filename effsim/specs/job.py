"""What a training job is: its split over ranks, its batches and length, and its place in a queue."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from effsim.specs.cluster import Duration
from effsim.specs.figure import BytesValue, RatioValue, SecondsValue, Spec
from effsim.specs.workload import Name, PolicyName, Positive, WholeValue

Precision = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "mxfp8", "int8", "int4", "mxfp4", "nvfp4", "q8_0", "q6_k", "q4_k_m", "q4_0"]
Ranks = Annotated[Positive, Field(le=65_536)]
Size = Annotated[Positive, Field(le=10**9)]
TOKEN_BYTES = 4.0


class Parallelism(Spec):
    """How one replica is spread: ``tensor * pipeline * context * data`` accelerators; experts lie across them."""

    tensor: Ranks = 1
    pipeline: Ranks = 1
    data: Ranks = 1
    expert: Ranks = 1
    context: Ranks = 1

    @property
    def accelerators(self) -> int:
        """Accelerators of one replica."""
        return self.tensor * self.pipeline * self.data * self.context

    @model_validator(mode="after")
    def _experts_fit(self) -> "Parallelism":
        if self.accelerators % self.expert:
            raise ValueError(f"expert ({self.expert}) must divide tensor * pipeline * data * context ({self.accelerators})")
        return self


class Training(Spec):
    """A training run of ``tokens`` or ``steps``; batch sizes in sequences of ``sequence_length`` tokens.

    ``data_bytes_per_token`` is what is read from storage [bytes], ``prefetch_ratio`` the share of a step behind which that is hidden,
    ``rank_time_sd`` the relative standard deviation of a rank's step time, for whose slowest the others wait.
    """

    global_batch_size: Size
    micro_batch_size: Size = 1
    sequence_length: Size
    tokens: Annotated[Positive, Field(le=10**18)] | None = None
    steps: Annotated[Positive, Field(le=10**15)] | None = None
    recompute: Literal["none", "selective", "alternate", "minimal", "full"] = "none"
    zero_stage: Annotated[WholeValue, Field(ge=0, le=3)] = 1
    optimizer: PolicyName = "adam"
    sequence_parallel: bool = False
    virtual_pipeline_stages: Ranks = 1
    pipeline_schedule: Literal["1f1b", "gpipe", "zero_bubble"] = "1f1b"
    rank_time_sd: Annotated[RatioValue, Field(ge=0.0, lt=1.0)] = 0.0
    data_bytes_per_token: Annotated[BytesValue, Field(gt=0.0)] = TOKEN_BYTES
    prefetch_ratio: Annotated[RatioValue, Field(ge=0.0, le=1.0)] = 1.0

    @model_validator(mode="after")
    def _determined(self) -> "Training":
        if (self.tokens is None) == (self.steps is None):
            raise ValueError("expected tokens or steps, exactly one of them")
        if self.global_batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size ({self.micro_batch_size}) must divide global_batch_size ({self.global_batch_size})")
        return self


class QueuedJob(Spec):
    """A further training job in the queue of a scenario's cluster, on accelerators and nodes of its kind.

    Either ``nodes`` and ``work`` say how large and how long it is, and it draws what the scenario's own run draws per node; or a model with
    its parallelism and training block, whose step is estimated.

    Args:
        name: Unique among the jobs; with ``count`` above 1 a number is appended.
        nodes: That it is laid out for.
        work: Time of all its work on all its nodes [s].
        model: As the scenario's.
        precision: None: the model's own.
        parallelism: Ranks of the model.
        training: Batches and length.
        priority: Higher first, under the queue policy ``priority``.
        submit: When it enters the queue [s].
        count: So many of them.
        every: The next one enters so much later [s]; needed where ``count`` is above 1.
        min_nodes: Elastic: it goes on with as few; None: with all only.
    """

    name: str = Field(min_length=1, max_length=60)
    nodes: Annotated[Positive, Field(le=200_000)] | None = None
    work: Duration | None = None
    model: Name | None = None
    precision: Precision | None = None
    parallelism: Parallelism | None = None
    training: Training | None = None
    priority: int = 0
    submit: SecondsValue = 0.0
    count: Annotated[Positive, Field(le=10_000)] = 1
    every: Duration | None = None
    min_nodes: Positive | None = None

    @model_validator(mode="after")
    def _determined(self) -> "QueuedJob":
        sized = [part is not None for part in (self.nodes, self.work)]
        modelled = [part is not None for part in (self.model, self.parallelism, self.training)]
        if not (all(sized) and not any(modelled)) and not (all(modelled) and not any(sized)):
            raise ValueError("expected nodes and work, or model, parallelism and training")
        if self.precision is not None and self.model is None:
            raise ValueError("precision belongs to a job with a model")
        if (self.count > 1) != (self.every is not None):
            raise ValueError("count above 1 and every belong together")
        return self

    def submissions(self) -> tuple[tuple[str, float], ...]:
        """Return (name, time of submission [s]) of each."""
        if self.count == 1:
            return ((self.name, self.submit),)
        return tuple((f"{self.name} {number + 1}", self.submit + number * (self.every or 0.0)) for number in range(self.count))
