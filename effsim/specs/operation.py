"""How a serving cluster is run: who is admitted, how many replicas are on, what fails, and how much power there is."""

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from effsim.specs.figure import RatioValue, SecondsValue, Spec, WattsValue, quantity
from effsim.specs.workload import Positive, WholeValue

Duration = Annotated[SecondsValue, Field(gt=0.0)]
Share = Annotated[RatioValue, Field(ge=0.0, le=1.0)]
MAX_EVENTS: Final = 10_000


class Admission(Spec):
    """Who may wait, and how long.

    Args:
        max_waiting_per_replica: A replica whose queue is this long takes no more; where all are, the request is rejected.
        max_waiting: Requests in all queues together; one more is rejected.
        max_wait: A request that has not been scheduled by then leaves [s].
    """

    max_waiting_per_replica: Positive | None = None
    max_waiting: Positive | None = None
    max_wait: Duration | None = None


class Autoscaling(Spec):
    """How many replicas of a pool are on: ``ceil(on · metric / target)``, as Kubernetes' horizontal autoscaler reckons.

    Args:
        metric: ``outstanding``: requests waiting and running per replica; ``kv_usage``: share of KV blocks in use; ``utilization``: share of
            the last interval in which a replica ran iterations.
        target: Of the metric.
        minimum: Replicas that stay on; 0: the last one goes off too, and the next request starts one (cold start).
        maximum: None: all.
        initial: On and loaded at the start, at least the minimum; None: the maximum.
        interval: Between two looks [s].
        tolerance: No change while the metric is within this share of the target.
        up_cooldown: More are started only as far as every look of this time asked for them [s].
        down_cooldown: Likewise for fewer [s].
    """

    metric: Literal["outstanding", "kv_usage", "utilization"] = "outstanding"
    target: Annotated[RatioValue, Field(gt=0.0)]
    minimum: Annotated[WholeValue, Field(ge=0)] = 1
    maximum: Positive | None = None
    initial: Annotated[WholeValue, Field(ge=0)] | None = None
    interval: Duration = 15.0
    tolerance: Share = 0.1
    up_cooldown: SecondsValue = 0.0
    down_cooldown: SecondsValue = 300.0

    @model_validator(mode="after")
    def _ordered(self) -> "Autoscaling":
        if self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum ({self.minimum}) must not be above maximum ({self.maximum})")
        if self.initial is not None and self.maximum is not None and self.initial > self.maximum:
            raise ValueError(f"initial ({self.initial}) must not be above maximum ({self.maximum})")
        if self.metric != "outstanding" and self.target > 1.0:
            raise ValueError(f"target: {self.metric} is a share, at most 1; got {self.target:g}")
        return self


class Start(Spec):
    """What it takes to bring a replica up: after it was off, and after a failure or maintenance.

    Args:
        provisioning: From the order to the start of loading: machine, container, engine [s]; accelerators idle meanwhile.
        load: Of the weights [s]; None: their bytes over ``load_bandwidth``.
        load_bandwidth: At which a replica reads its weights [bytes/s]; the default is one local NVMe disk (assumed, 2 to 14 GB/s).
    """

    provisioning: SecondsValue = 0.0
    load: SecondsValue | None = None
    load_bandwidth: Annotated[float, Field(gt=0.0)] = 5e9

    @model_validator(mode="before")
    @classmethod
    def _in_si(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("load_bandwidth") is not None:
            return {**given, "load_bandwidth": quantity(given["load_bandwidth"], "byte/s")}
        return given


class FailureAt(Spec):
    """A replica, counted from 0 over the whole fleet, fails at a time [s]; where it is not on then, nothing happens."""

    time: SecondsValue
    replica: Annotated[WholeValue, Field(ge=0)]


class ReplicaFailures(Spec):
    """Failures of whole replicas, which lose their KV cache.

    Args:
        mtbf: Mean time between failures of a replica that is on, exponential [s].
        at: Failures at given times.
        repair: From the failure until the replica is started again [s]; None: it never is. It draws nothing meanwhile.
        requests: ``retried``: each goes to another replica with what it has generated, and its cache is computed anew; ``lost``: it ends.
        max_retries: A request that fails once more is lost.
    """

    mtbf: Duration | None = None
    at: tuple[FailureAt, ...] = Field(default=(), max_length=MAX_EVENTS)
    repair: Duration | None = 600.0
    requests: Literal["retried", "lost"] = "retried"
    max_retries: Annotated[WholeValue, Field(ge=0)] = 3


class Maintenance(Spec):
    """Replicas are drained, off for a time and started again, one after the other.

    Args:
        start: Of the first [s].
        duration: Off time of each [s].
        gap: From the return of one to the draining of the next [s].
        replicas: How many, from the first of the fleet; None: all.
    """

    start: SecondsValue = 0.0
    duration: Duration
    gap: SecondsValue = 0.0
    replicas: Positive | None = None


class PowerBudget(Spec):
    """All accelerators together are held to a power; see ``docs/theory/serving-simulator.md`` for the rule.

    Args:
        budget: Of all accelerators of the cluster [W].
        interval: Between two looks at the mean power since the last [s].
        control: ``power_limit`` or ``clock``: what is lowered.
        rungs: Steps from the lowest to the highest.
        lowest: Lowest rung as a share of the highest; None: the least that the accelerator takes.
        margin: A higher rung is taken when the power expected there leaves this share of the budget free.
    """

    budget: Annotated[WattsValue, Field(gt=0.0)]
    interval: Duration = 1.0
    control: Literal["power_limit", "clock"] = "power_limit"
    rungs: Annotated[WholeValue, Field(ge=2, le=32)] = 8
    lowest: Annotated[RatioValue, Field(gt=0.0, lt=1.0)] | None = None
    margin: Share = 0.05


class LimitAt(Spec):
    """A power limit per accelerator [W] from a time on [s]."""

    time: SecondsValue
    power_limit: Annotated[WattsValue, Field(gt=0.0)]


class Transfer(Spec):
    """The way of a KV cache from a prefill to a decode replica; None: of the network between the nodes, one port per accelerator.

    Args:
        bandwidth: Of a sending replica [bytes/s]; its transfers go one after the other.
        latency: From call to first byte [s].
        energy_per_byte: Of both ends and what is between [J/byte].
    """

    bandwidth: Annotated[float, Field(gt=0.0)] | None = None
    latency: SecondsValue | None = None
    energy_per_byte: Annotated[float, Field(ge=0.0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_si(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        units = {"bandwidth": "byte/s", "energy_per_byte": "J/byte"}
        return {name: quantity(value, units[name]) if name in units and value is not None else value for name, value in given.items()}


class Operation(Spec):
    """How a serving cluster is run; an absent part does nothing."""

    admission: Admission = Admission()
    autoscaling: Autoscaling | None = None
    start: Start = Start()
    failures: ReplicaFailures | None = None
    maintenance: Maintenance | None = None
    power: PowerBudget | None = None
    transfer: Transfer = Transfer()
