"""A cluster that trains: nodes and spares, what fails and for how long, checkpoints, the queue, limits on power and time."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from effsim.errors import SpecError
from effsim.specs.figure import BytesValue, RatioValue, SecondsValue, Spec, WattsValue, quantity
from effsim.specs.workload import PolicyName, Positive, WholeValue
from effsim.units import SECONDS_PER_DAY, SECONDS_PER_HOUR

Duration = Annotated[SecondsValue, Field(gt=0.0)]
Share = Annotated[RatioValue, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0)]

YOUNG_DALY: Final = "young_daly"
HOST_COPY: Final = "host_copy"
MAX_NODES: Final = 200_000


def _interval(given: Any) -> Any:
    return given if given == YOUNG_DALY else quantity(given, "s")


class Straggler(Spec):
    """A node that becomes slow without failing; it stays so until it is found and exchanged.

    Args:
        node_mtbs: Mean time between such events of one node [s].
        slowdown: Step time with such a node over the step time without, at least 1.
        detection: Until it is found [s].
    """

    node_mtbs: Duration
    slowdown: Annotated[RatioValue, Field(ge=1.0)]
    detection: Duration


class FailureModel(Spec):
    """What fails, and how long that is noticed and repaired.

    Args:
        node_mtbf: Mean time between failures of one node [s]; None: nodes do not fail.
        distribution: Of the time to failure; a node is as new after its repair, and all are new at the start.
        shape: Of the Weibull distribution; below 1 young nodes fail more, above 1 old ones.
        switch_mtbf: Mean time between failures of one domain's switch [s], which takes all its nodes; exponential.
        switch_repair: [s]
        detection: From a failure to the decision to restart [s]; the job stands still meanwhile.
        repair: From a failure to the node's return [s].
        transient_share: Share of failures after which the node itself is sound (software, a link that flapped): it stays with its job.
        straggler: None: none.
    """

    node_mtbf: Duration | None = None
    distribution: Literal["exponential", "weibull"] = "exponential"
    shape: Annotated[RatioValue, Field(ge=0.2, le=10.0)] | None = None
    switch_mtbf: Duration | None = None
    switch_repair: Duration = 4 * SECONDS_PER_HOUR
    detection: SecondsValue = 0.0
    repair: Duration = SECONDS_PER_DAY
    transient_share: Share = 0.0
    straggler: Straggler | None = None

    @model_validator(mode="after")
    def _shaped(self) -> "FailureModel":
        if (self.distribution == "weibull") != (self.shape is not None):
            raise ValueError("shape belongs to the weibull distribution, and only to it")
        return self


class Checkpoint(Spec):
    """How progress is saved. A save takes ``write``, or ``size / storage_bandwidth``.

    In a scenario, whichever of ``size``, ``storage_bandwidth`` and ``restore`` is not given follows from the model and the storage.

    Args:
        interval: Work between the starts of two saves [s at full speed], or ``young_daly``: Daly's optimum.
        write: [s]
        size: Of a checkpoint [bytes].
        storage_bandwidth: Of the whole storage as this job sees it [bytes/s].
        asynchronous: Share of a save during which training goes on; what is saved counts once it is wholly written. ``host_copy``, in a
            scenario: training stands still while each accelerator copies its share to the memory of its host.
        restore: Reading it back [s]; None: as long as a save.
    """

    interval: Annotated[float | Literal["young_daly"], Field(union_mode="left_to_right")] = YOUNG_DALY
    write: SecondsValue | None = None
    size: Annotated[BytesValue, Field(gt=0.0)] | None = None
    storage_bandwidth: Annotated[float, Field(gt=0.0)] | None = None
    asynchronous: Annotated[Share | Literal["host_copy"], Field(union_mode="left_to_right")] = 0.0
    restore: SecondsValue | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_si(cls, given: Any) -> Any:
        """Read the fields whose types pydantic cannot tell apart."""
        if not isinstance(given, dict):
            return given
        parts = dict(given)
        if "interval" in parts:
            parts["interval"] = _interval(parts["interval"])
        if parts.get("storage_bandwidth") is not None:
            parts["storage_bandwidth"] = quantity(parts["storage_bandwidth"], "byte/s")
        return parts

    @model_validator(mode="after")
    def _determined(self) -> "Checkpoint":
        if self.write is not None and (self.size is not None or self.storage_bandwidth is not None):
            raise ValueError("expected write, or size and storage_bandwidth")
        if self.is_resolved and self.interval != YOUNG_DALY and float(self.interval) <= self.write_s - self.blocking_s:
            raise ValueError(f"interval must exceed the asynchronous part of a save, {self.write_s - self.blocking_s:g} s")
        return self

    @property
    def is_resolved(self) -> bool:
        """Whether the time of a save and of its blocking part are known without a model and a storage."""
        return (self.write is not None or (self.size is not None and self.storage_bandwidth is not None)) and self.asynchronous != HOST_COPY

    @property
    def write_s(self) -> float:
        """Time of a save [s].

        Raises:
            SpecError: It follows from a model and a storage that are not known here.
        """
        if self.write is not None:
            return self.write
        if self.size is None or self.storage_bandwidth is None:
            raise SpecError("checkpoint: expected write, or size and storage_bandwidth; only a scenario can tell them from its model and storage")
        return self.size / self.storage_bandwidth

    @property
    def blocking_s(self) -> float:
        """The part of a save during which training stands still [s].

        Raises:
            SpecError: As for :attr:`write_s`.
        """
        if isinstance(self.asynchronous, str):
            raise SpecError("checkpoint.asynchronous: host_copy needs a scenario, whose accelerators have a link to the host; expected a share")
        return self.write_s * (1.0 - self.asynchronous)

    @property
    def restore_s(self) -> float:
        """Time to read a checkpoint [s]."""
        return self.write_s if self.restore is None else self.restore


class Restart(Spec):
    """From the decision to restart until the checkpoint is read: scheduling, start of processes, communicators, compilation.

    Args:
        time: [s]
        with_spare: The same when all nodes stand ready: every lost one is replaced by a hot spare, or none is lost [s]; None: ``time``.
    """

    time: SecondsValue = 0.0
    with_spare: SecondsValue | None = None


class NodePower(Spec):
    """What one node of a job draws in each phase [W]; the boundary (accelerators, or the whole server) is the caller's.

    ``stalled`` is drawn while processes wait for each other: until a failure is noticed, and for a straggler. None: ``idle``.
    """

    useful: Annotated[WattsValue, Field(gt=0.0)]
    checkpoint: WattsValue
    restart: WattsValue
    idle: WattsValue
    stalled: WattsValue | None = None

    @property
    def stalled_w(self) -> float:
        """Power while waiting for each other [W]."""
        return self.idle if self.stalled is None else self.stalled


class Job(Spec):
    """A training job: so much work on so many nodes, all at once.

    Args:
        name: Unique among the jobs.
        nodes: That it is laid out for.
        steps: Optimizer steps, each ``step_time`` long on all nodes; or
        work: time of all its work on all nodes [s].
        step_time: [s]
        power: Of one node by phase.
        priority: Higher first, where the queue policy looks at it.
        submit: When it enters the queue [s].
        min_nodes: Elastic: it goes on with as few; None: with all only.
        node_group: Nodes come in such groups (a model replica); what does not fill a group waits.
        checkpoint: Its own; None: the cluster's.
    """

    name: str = Field(min_length=1, max_length=80)
    nodes: Annotated[Positive, Field(le=MAX_NODES)]
    steps: Positive | None = None
    work: Duration | None = None
    step_time: Duration | None = None
    power: NodePower
    priority: int = 0
    submit: SecondsValue = 0.0
    min_nodes: Positive | None = None
    node_group: Positive = 1
    checkpoint: Checkpoint | None = None

    @model_validator(mode="after")
    def _determined(self) -> "Job":
        if (self.work is None) == (self.steps is None) or (self.steps is None) != (self.step_time is None):
            raise ValueError("expected work, or steps and step_time")
        if self.nodes % self.node_group:
            raise ValueError(f"nodes ({self.nodes}) must be a multiple of node_group ({self.node_group})")
        if self.min_nodes is not None and not self.node_group <= self.min_nodes <= self.nodes:
            raise ValueError(f"min_nodes ({self.min_nodes}) must lie between node_group ({self.node_group}) and nodes ({self.nodes})")
        return self

    @property
    def work_s(self) -> float:
        """Time of all its work on all nodes [s]."""
        return self.work if self.work is not None else (self.steps or 0) * (self.step_time or 0.0)


class PowerBudget(Spec):
    """A limit on the power of all nodes; jobs slow down together to keep it.

    Args:
        limit: [W]
        curve: (share of a job's useful power, share of its speed) from the lowest setting up to (1, 1), linear between.
            None: the caller's relation.
    """

    limit: Annotated[WattsValue, Field(gt=0.0)]
    curve: tuple[tuple[float, float], ...] | None = Field(default=None, min_length=2, max_length=1000)

    @model_validator(mode="after")
    def _rising(self) -> "PowerBudget":
        if self.curve is None:
            return self
        rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in zip(self.curve, self.curve[1:], strict=False))
        if not rising or self.curve[-1] != (1.0, 1.0) or min(self.curve[0]) <= 0.0:
            raise ValueError("curve: expected pairs above 0 that rise to (1, 1)")
        return self


class PauseSignal(Spec):
    """Jobs save and stand still while an hourly series is above a threshold; the series repeats.

    Args:
        kind: ``carbon`` (``"400 g/kWh"``) or ``price`` (``"0.1 USD/kWh"``); of each value and of the threshold.
        values: One per ``period``.
        threshold: Jobs run while the value does not exceed it.
        period: Length of one value [s].
    """

    kind: Literal["carbon", "price"]
    values: tuple[float, ...] = Field(min_length=1, max_length=100_000)
    threshold: Any
    period: Duration = SECONDS_PER_HOUR

    @model_validator(mode="before")
    @classmethod
    def _in_si(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("kind") not in {"carbon", "price"}:
            return given
        unit = "kg/J" if given["kind"] == "carbon" else "USD/J"
        parts = dict(given)
        if isinstance(parts.get("values"), (list, tuple)):
            parts["values"] = tuple(quantity(value, unit) for value in parts["values"])
        if "threshold" in parts:
            parts["threshold"] = quantity(parts["threshold"], unit)
        return parts

    @model_validator(mode="after")
    def _some_time(self) -> "PauseSignal":
        if min(self.values) > self.threshold:
            raise ValueError("threshold lies below every value: nothing would ever run")
        return self


class Maintenance(Spec):
    """Planned work on nodes, which their jobs leave after saving.

    Args:
        start: [s]
        duration: [s]
        every: Repeats after so long [s]; None: once.
        domain: The network domain; None: the whole cluster.
    """

    start: SecondsValue
    duration: Duration
    every: Duration | None = None
    domain: Annotated[WholeValue, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _apart(self) -> "Maintenance":
        if self.every is not None and self.every <= self.duration:
            raise ValueError(f"every ({self.every:g} s) must exceed duration ({self.duration:g} s)")
        return self


class Cluster(Spec):
    """Nodes and what happens to them.

    Args:
        nodes: For jobs; None: as many as the largest job takes.
        spare_nodes: Further nodes that stand ready to replace others, and nothing else.
        elastic_min_nodes: A scenario's run goes on with as few; None: with all only.
        nodes_per_domain: Nodes behind one switch or rail group; None: all.
        idle_power: Of a sound node without a job [W]; None: none, or in a scenario that of its accelerators.
        off_power: Of a node in repair or maintenance [W].
        queue: A file of ``sim/training/policies``.
        priority: Of the scenario's own run, where the queue looks at it.
        submit: When the scenario's own run enters the queue [s].
        horizon: The account ends then [s]; None: when the last job is done.
        seeds: Independent runs.
    """

    nodes: Annotated[Positive, Field(le=MAX_NODES)] | None = None
    spare_nodes: Annotated[WholeValue, Field(ge=0, le=MAX_NODES)] = 0
    elastic_min_nodes: Positive | None = None
    nodes_per_domain: Positive | None = None
    idle_power: WattsValue | None = None
    off_power: WattsValue = 0.0
    failures: FailureModel = FailureModel()
    checkpoint: Checkpoint = Checkpoint(interval=SECONDS_PER_HOUR, write=0.0)
    restart: Restart = Restart()
    queue: PolicyName = "fifo"
    priority: int = 0
    submit: SecondsValue = 0.0
    power_budget: PowerBudget | None = None
    pause: PauseSignal | None = None
    maintenance: tuple[Maintenance, ...] = Field(default=(), max_length=1000)
    horizon: Duration | None = None
    seeds: Annotated[Positive, Field(le=10_000)] = 20
