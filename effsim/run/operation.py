"""From a scenario to what the control of its cluster knows of a replica: how it starts, its steps of power, its link."""

from collections.abc import Callable
from typing import Any, Final

from effsim.cost.deployment import Deployment, fabric_of
from effsim.cost.device import MIN_CLOCK
from effsim.cost.kv_capacity import cache_unit_bytes
from effsim.cost.step import ServingStep
from effsim.errors import SpecError
from effsim.run.names import deployment_of
from effsim.sim.control.unit import Link, Rung, Unit
from effsim.specs.operation import PowerBudget, Transfer
from effsim.specs.scenario import Machines, Scenario

Build = Callable[..., ServingStep]
FULL_CLOCK: Final = 1.0


def unit_of(scenario: Scenario, machines: Machines, model: ServingStep, build: Build) -> Unit:
    """Return one replica of a fleet's entry, as its cluster sees it.

    Args:
        scenario: Says how the cluster is run.
        machines: The entry.
        model: Its costs under its own power limit.
        build: From changed settings (``power_limit_w``, ``clock``) to costs.

    Raises:
        SpecError: A limit that the accelerator does not take; no lowest limit or no network where one is needed.
    """
    deployment = deployment_of(scenario, machines, scenario.precision)
    start, split = scenario.operation.start, deployment.parallelism
    weights_bytes = deployment.serving_memory().weights_bytes * split.accelerators
    limits_w = {at.power_limit for at in machines.power_schedule}
    scheduled = {limit_w: Rung(limit_w, build(power_limit_w=deployment.accelerator.check_power_limit(limit_w))) for limit_w in limits_w}
    return Unit(
        role=machines.role,
        provisioning_s=start.provisioning,
        load_s=weights_bytes / start.load_bandwidth if start.load is None else start.load,
        rungs=() if scenario.operation.power is None else rungs_of(scenario.operation.power, deployment, model, build),
        schedule=tuple(sorted(((at.time, scheduled[at.power_limit]) for at in machines.power_schedule), key=lambda row: row[0])),
        kv_bytes_per_token=cache_unit_bytes(deployment.table.cache) * split.tensor * split.pipeline,
        link=link_of(scenario.operation.transfer, deployment) if machines.role == "prefill" else None,
    )


def rungs_of(spec: PowerBudget, deployment: Deployment, model: ServingStep, build: Build) -> tuple[Rung, ...]:
    """Return the steps of power, evenly spaced, the lowest first; the highest is the entry's own limit, or the full clock."""
    accelerator = deployment.accelerator
    highest, name = FULL_CLOCK, "clock"
    least: float | None = MIN_CLOCK
    if spec.control == "power_limit":
        highest, name = accelerator.check_power_limit(deployment.power_limit_w), "power_limit_w"
        least = accelerator.min_power_limit.value if accelerator.min_power_limit else None
    lowest = least if spec.lowest is None else spec.lowest * highest
    if lowest is None:
        raise SpecError(f"operation.power.lowest is missing, and the file of {accelerator.name} has no min_power_limit; expected a share of the limit")
    if lowest >= highest:
        raise SpecError(f"operation.power: the lowest {name}, {lowest:g}, is not below the highest, {highest:g}")
    step = (highest - lowest) / (spec.rungs - 1)
    lower: list[Any] = [lowest + step * place for place in range(spec.rungs - 1)]
    return (*(Rung(level, build(**{name: level})) for level in lower), Rung(highest, model))


def link_of(spec: Transfer, deployment: Deployment) -> Link:
    """Return what carries caches away: as stated, else the network between nodes, one port per accelerator.

    The energy of a byte is left out where neither states it.
    """
    outer = fabric_of(deployment.accelerator, deployment.node).outer
    bytes_per_s = spec.bandwidth if spec.bandwidth is not None or outer is None else outer.bytes_per_s * deployment.parallelism.accelerators
    latency_s = spec.latency if spec.latency is not None or outer is None else outer.latency_s
    if bytes_per_s is None:
        raise SpecError(f"operation.transfer.bandwidth is missing, and {deployment.accelerator.name} stands in no node with a network between nodes")
    energy = spec.energy_per_byte if spec.energy_per_byte is not None or outer is None else outer.energy_per_byte_j
    return Link(bytes_per_s, latency_s or 0.0, energy or 0.0)
