"""From a scenario's fleet to replicas with costs, and from what they used to the account of the site."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import NormalDist
from typing import Any, Final

from effsim.cost import step
from effsim.cost.speculative import Draft, drafted
from effsim.cost.step import TYPICAL_BATCH, ServingStep
from effsim.errors import SpecError
from effsim.results import Provenance
from effsim.run.doubt import Shift
from effsim.run.names import engine_of
from effsim.run.operation import unit_of
from effsim.sim.control.unit import Unit
from effsim.sim.result import ReplicaStats
from effsim.sim.setup import HostShare, ReplicaSetup
from effsim.sim.speculation import Speculation
from effsim.site.account import EnergyParts, Impact, MachineCost, Use, energy_parts, impact, machine_cost
from effsim.specs import loading
from effsim.specs.accelerator import Accelerator
from effsim.specs.engine import Engine
from effsim.specs.machine import Node
from effsim.specs.scenario import Machines, Scenario
from effsim.specs.site import Site
from effsim.workload.operations import Parallelism
from effsim.workload.traces import Trace

REACH: Final = NormalDist().inv_cdf(0.95)
"""Standard deviations from the median to the end of a 90 % interval."""
MAX_NUM_SEQS, MAX_NUM_BATCHED_TOKENS, BLOCK_SIZE = 256, 8192, 16
"""Where neither the scenario nor the engine's file states them."""


@dataclass(frozen=True, slots=True)
class Group:
    """One entry of a fleet, resolved: equal replicas with the costs of an iteration.

    ``time_log_sd`` and ``power_log_sd`` say how far the model of its costs can be off.
    """

    machines: Machines
    accelerator: Accelerator
    node: Node
    engine: Engine
    setup: ReplicaSetup
    unit: Unit
    time_log_sd: float
    power_log_sd: float
    provenance: Provenance

    @property
    def num_accelerators(self) -> int:
        """Accelerators of all its replicas."""
        return self.machines.replicas * self.setup.step_model.num_accelerators

    def power_factor(self, use: Use, end: int) -> float:
        """Return by how much the energy of its accelerators is more or less at an end (-1, 1) of the 90 % interval of power.

        Their mean power stays between idle and the power limit, whatever the doubt.
        """
        factor = math.exp(end * REACH * self.power_log_sd)
        if use.accelerator_energy_j <= 0.0:
            return factor
        on_s = use.duration_s - use.off_s
        least_j = self.machines.replicas * self.setup.step_model.idle_power_w * on_s
        most_j = self.num_accelerators * self.accelerator.check_power_limit(self.machines.power_limit) * on_s
        if factor < 1.0:
            return min(max(factor, least_j / use.accelerator_energy_j), 1.0)
        return max(min(factor, most_j / use.accelerator_energy_j), 1.0)


def groups_of(scenario: Scenario, trace: Trace, end: int = 0) -> tuple[Group, ...]:
    """Return the resolved fleet.

    Args:
        scenario: A serving scenario.
        trace: Its requests, at whose mean lengths the doubt about the costs is evaluated.
        end: Which end of the 90 % interval of time: -1 the fast one, 0 the median, 1 the slow one.

    Raises:
        InfeasibleError: The model does not fit.
        SpecError: A name is unknown, or a setting is not possible with another.
    """
    typical = (TYPICAL_BATCH, float(trace.prompt_tokens.mean()), float(trace.output_tokens.mean()))
    return tuple(_group(scenario, machines, typical, end) for machines in scenario.fleet)


def resolve_node(machines: Machines, accelerator: Accelerator) -> Node:
    """Return what the accelerators stand in: the node named, else their usual one.

    Raises:
        SpecError: Neither is there.
    """
    name = machines.node or accelerator.default_node
    if name is None:
        raise SpecError(f"fleet: node is missing, and {accelerator.name} has no default node; `effsim specs list nodes` lists all")
    return loading.node(name)


def _group(scenario: Scenario, machines: Machines, typical: tuple[float, float, float], end: int) -> Group:
    accelerator = loading.accelerator(machines.accelerator)
    node = resolve_node(machines, accelerator)
    options = scenario.engine
    engine = engine_of(scenario)
    if options.async_scheduling is not None:
        engine = engine.model_copy(update={"async_scheduling": options.async_scheduling})
    own_seqs, own_tokens = engine.defaults_for(accelerator.memory.value, accelerator.name)
    max_num_seqs = options.max_num_seqs or own_seqs or MAX_NUM_SEQS
    max_tokens = options.max_num_batched_tokens or own_tokens or MAX_NUM_BATCHED_TOKENS
    settings: dict[str, Any] = {
        "node": node,
        "precision": scenario.precision,
        "kv_precision": scenario.kv_precision,
        "engine": engine,
        "max_num_batched_tokens": max_tokens,
        "max_num_seqs": max_num_seqs,
        "power_limit_w": machines.power_limit,
        "memory_utilization": options.gpu_memory_utilization,
        "calibration": scenario.calibration,
        "typical": typical,
    }
    ranks = Parallelism(**machines.parallelism.model_dump())
    drafts = options.speculation
    build: Callable[..., Any] = (
        step.serving_step_model if drafts is None else partial(drafted, Draft(drafts.draft_tokens, drafts.draft_model, drafts.draft_share))
    )
    model = build(scenario.model, accelerator, ranks, **settings)
    time_log_sd, power_log_sd, provenance = model.time_log_sd, model.power_log_sd, model.provenance
    time_factor = math.exp(end * REACH * time_log_sd)

    def at(**changes: Any) -> ServingStep:
        made: ServingStep = build(scenario.model, accelerator, ranks, **{**settings, **changes}, time_factor=time_factor)
        return made

    if end:
        model = at()
    setup = ReplicaSetup(
        model,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_tokens,
        block_size=options.block_size or engine.block_size or BLOCK_SIZE,
        num_gpu_blocks=options.num_gpu_blocks,
        chunked_prefill=engine.chunked_prefill if options.chunked_prefill is None else options.chunked_prefill,
        scheduler=options.scheduler,
        host=_host_share(node, model.num_accelerators),
        batching=options.batching,
        long_prefill_tokens=options.long_prefill_tokens or 0,
        prefix_caching=engine.prefix_caching if options.prefix_caching is None else options.prefix_caching,
        prefix_hit_ratio=0.0 if options.prefix_caching is False else options.prefix_hit_ratio,
        speculation=None if drafts is None else Speculation(drafts.draft_tokens, drafts.acceptance, scenario.seed),
    )
    unit = unit_of(scenario, machines, model, at)
    return Group(machines, accelerator, node, engine, setup, unit, time_log_sd, power_log_sd, provenance)


def _host_share(node: Node, num_accelerators: int) -> HostShare:
    """Return a replica's share of the host; fans follow the accelerators' power and are added by :func:`account`."""
    share = num_accelerators / node.accelerators_per_node
    return HostShare(node.host_idle_power.value * share, node.host_busy_power.value * share, 0.0, node.psu_efficiency.value)


@dataclass(frozen=True, slots=True)
class Account:
    """Energy, impact and cost of a run on all its machines; ``impact`` is ``None`` where the scenario names no site."""

    energy: EnergyParts
    impact: Impact | None
    machines: MachineCost
    duration_s: float


def site_of(scenario: Scenario) -> Site | None:
    """Return the scenario's site, if it names one."""
    return None if scenario.site is None else loading.site(scenario.site)


def uses_of(groups: Sequence[Group], replicas: Sequence[ReplicaStats], duration_s: float) -> tuple[Use, ...]:
    """Return how each group was used, from the meters of its replicas."""
    uses, start = [], 0
    for group in groups:
        ours = replicas[start : start + group.machines.replicas]
        start += len(ours)
        energy_j = math.fsum(one.energy.total_j for one in ours)
        busy_s = math.fsum(one.busy_s for one in ours) / len(ours)
        off_s = math.fsum(one.off_s for one in ours) / len(ours)
        uses.append(Use(group.accelerator, group.node, group.num_accelerators, duration_s, busy_s, energy_j, off_s=off_s))
    return tuple(uses)


def account(scenario: Scenario, uses: Sequence[Use], power_factors: Sequence[float] | None = None, shift: Shift | None = None) -> Account:
    """Return the account of the site for machines in use over the same time.

    Args:
        scenario: Names the site and how purchase cost is spread.
        uses: One per group of equal machines.
        power_factors: By how much to multiply the accelerators' energy of each, for the ends of an interval.
        shift: A figure to be moved to an end of its range.
    """
    site = site_of(scenario)
    factors = power_factors or [1.0] * len(uses)
    scaled = [replace(use, accelerator_energy_j=use.accelerator_energy_j * factor) for use, factor in zip(uses, factors, strict=True)]
    if shift is not None:
        site, scaled = shift.site(site), [shift.use(use) for use in scaled]
    energy = energy_parts(scaled[0], site)
    cost = machine_cost(scaled[0], scenario.cost.lifetime, scenario.cost.utilization)
    for use in scaled[1:]:
        energy += energy_parts(use, site)
        cost += machine_cost(use, scenario.cost.lifetime, scenario.cost.utilization)
    return Account(energy, None if site is None else impact(energy, site), cost, scaled[0].duration_s)
