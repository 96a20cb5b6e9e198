"""The jobs of a training cluster: the scenario's own run and those queued beside it, with what stands beside their accelerators."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from effsim.cost.storage import DEFAULT_STORAGE, access, copy_to_host_s
from effsim.errors import SpecError
from effsim.run.machines import resolve_node
from effsim.run.training import parts_of, step_estimate, steps_of
from effsim.sim.training.parts import Beside
from effsim.specs import loading
from effsim.specs.cluster import HOST_COPY, Checkpoint, Cluster, Job, NodePower
from effsim.specs.job import Parallelism, QueuedJob
from effsim.specs.machine import Node
from effsim.specs.scenario import Scenario


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A job with what stands beside the accelerators of its nodes; ``group`` is its place among the scenario's entries, 0 its own run."""

    job: Job
    beside: Beside
    group: int


def own_scenario(scenario: Scenario, entry: QueuedJob) -> Scenario:
    """Return the scenario of a queued job that has a model: its own run on the machines of the whole."""
    machines = scenario.fleet[0].model_copy(update={"parallelism": entry.parallelism, "replicas": 1})
    changed = {"name": scenario.name, "model": entry.model, "precision": entry.precision, "training": entry.training, "fleet": (machines,)}
    return scenario.model_copy(update={**changed, "cluster": None, "jobs": (), "what_if": ()})


def estimates_of(scenario: Scenario) -> dict[int, Any]:
    """Return the estimated step of each queued job that has a model, by its place in the scenario, counted from 1.

    Raises:
        InfeasibleError: One does not fit.
        SpecError: A name or number of one is wrong.
    """
    return {index + 1: step_estimate(own_scenario(scenario, entry)) for index, entry in enumerate(scenario.jobs) if entry.model is not None}


def nodes_of(scenario: Scenario, num_accelerators: int, field: str) -> tuple[int, Node]:
    """Return how many whole nodes a number of accelerators fills, and the node.

    Raises:
        SpecError: They do not.
    """
    machines, _ = parts_of(scenario)
    node = resolve_node(machines, loading.accelerator(machines.accelerator))
    if num_accelerators % node.accelerators_per_node:
        raise SpecError(f"{field}: {num_accelerators} accelerators do not fill whole nodes of {node.accelerators_per_node}")
    return num_accelerators // node.accelerators_per_node, node


def resolved_checkpoint(scenario: Scenario, checkpoint: Checkpoint, result: Any) -> Checkpoint:
    """Return a checkpoint block with its size from the model, its times from the storage, and its blocking part from the host links.

    All nodes write and read together. With ``host_copy`` training stands still while each accelerator copies its share to its host.

    Raises:
        SpecError: ``host_copy`` on accelerators whose file states no link to the host.
    """
    machines, _ = parts_of(scenario)
    accelerator = loading.accelerator(machines.accelerator)
    known = checkpoint.model_dump()
    nodes = result.num_accelerators / resolve_node(machines, accelerator).accelerators_per_node
    found = access(scenario.storage or DEFAULT_STORAGE, nodes)
    size_bytes = checkpoint.size or float(result.checkpoint_bytes)
    if checkpoint.write is None:
        known |= {"size": size_bytes, "storage_bandwidth": checkpoint.storage_bandwidth or found.write_bytes_per_s}
        if checkpoint.restore is None:
            known["restore"] = size_bytes / max(found.read_bytes_per_s, checkpoint.storage_bandwidth or 0.0)
    if checkpoint.asynchronous == HOST_COPY:
        if accelerator.host_link is None:
            raise SpecError(f"cluster.checkpoint.asynchronous: host_copy given, and the file of {accelerator.name} states no host_link; expected a share")
        write_s = checkpoint.write if checkpoint.write is not None else size_bytes / float(known["storage_bandwidth"])
        copy_s = copy_to_host_s(size_bytes, result.num_accelerators, accelerator.host_link.value)
        known["asynchronous"] = max(1.0 - copy_s / write_s, 0.0) if write_s > 0.0 else 0.0
    return Checkpoint.model_validate(known)


def beside_of(scenario: Scenario, node: Node, nodes: int, result: Any = None, step_s: float | None = None) -> Beside:
    """Return what stands beside the accelerators of a node; without an estimated step, of a node that no job holds."""
    machines, _ = parts_of(scenario)
    full_w = loading.accelerator(machines.accelerator).tdp.value * node.accelerators_per_node
    found = access(scenario.storage or DEFAULT_STORAGE, float(nodes))
    standing = {
        "host_busy_w": node.host_busy_power.value,
        "host_idle_w": node.host_idle_power.value,
        "fans_per_watt": node.fan_power.value / full_w if node.fan_power else 0.0,
        "supply_efficiency": node.psu_efficiency.value,
        "storage_w": found.standing_w / nodes,
    }
    if result is None or step_s is None:
        return Beside(**standing)
    moved_j = float(result.storage_energy_j_per_step) - found.standing_w * float(result.step_time_s)
    saved_j = float(result.checkpoint_bytes) * found.energy_per_byte_j
    return Beside(
        **standing,
        network_w=float(result.network_energy_j_per_step) / (nodes * step_s),
        reading_w=max(moved_j, 0.0) / (nodes * step_s),
        save_j=saved_j,
        load_j=saved_j,
    )


def own_job(scenario: Scenario, cluster: Cluster, step_s: float, power_w: float) -> Job:
    """Return the scenario's own run as a job of whole nodes; its powers are those of the accelerators.

    While it saves, restarts or waits, an accelerator draws what its file states for an engine that is loaded and idle: the
    high end of its idle power. What waits in a collective draws more than that; how much is not known.
    """
    machines, training = parts_of(scenario)
    nodes, node = nodes_of(scenario, machines.num_accelerators, "cluster")
    return Job(
        name=scenario.name,
        nodes=nodes,
        steps=steps_of(training),
        step_time=step_s,
        power=_power(scenario, cluster, power_w / nodes),
        priority=cluster.priority,
        submit=cluster.submit,
        min_nodes=cluster.elastic_min_nodes,
        node_group=_group(machines.parallelism, nodes, node),
    )


def _power(scenario: Scenario, cluster: Cluster, useful_w: float) -> NodePower:
    machines, _ = parts_of(scenario)
    accelerator = loading.accelerator(machines.accelerator)
    per_node = resolve_node(machines, accelerator).accelerators_per_node
    figure = accelerator.idle_power
    loaded_w = (cluster.idle_power or 0.0) if figure is None else max(figure.high or figure.value, figure.value) * per_node
    waiting_w = min(loaded_w, useful_w)
    return NodePower(useful=useful_w, checkpoint=waiting_w, restart=waiting_w, idle=waiting_w)


def _group(ranks: Parallelism, nodes: int, node: Node) -> int:
    """Return the nodes of a model replica, or 1 where replicas do not fill whole nodes."""
    replica, per_node = ranks.tensor * ranks.pipeline * ranks.context, node.accelerators_per_node
    return replica // per_node if replica % per_node == 0 and nodes % (replica // per_node) == 0 else 1


def plan(scenario: Scenario, cluster: Cluster, result: Any, others: Mapping[int, Any], time_factor: float = 1.0) -> tuple[Planned, ...]:
    """Return all jobs, the scenario's own run first.

    Args:
        scenario: With the jobs.
        cluster: Resolved.
        result: The estimated step of the own run.
        others: Of :func:`estimates_of`.
        time_factor: Of all step times: what is not known of one is not known of the others in the same way.
    """
    step_s = float(result.step_time_s) * time_factor
    own = own_job(scenario, cluster, step_s, float(result.power_w))
    _, node = nodes_of(scenario, scenario.fleet[0].num_accelerators, "cluster")
    found = [Planned(own, beside_of(scenario, node, own.nodes, result, step_s), 0)]
    for index, entry in enumerate(scenario.jobs, start=1):
        if index in others:
            alone = own_scenario(scenario, entry)
            given = cluster.model_copy(update={"elastic_min_nodes": entry.min_nodes, "priority": entry.priority})
            one_s = float(others[index].step_time_s) * time_factor
            job = own_job(alone, given, one_s, float(others[index].power_w))
            saved = scenario.cluster.checkpoint if scenario.cluster is not None else cluster.checkpoint
            job = job.model_copy(update={"checkpoint": resolved_checkpoint(alone, saved, others[index])})
            beside = beside_of(scenario, node, job.nodes, others[index], one_s)
        else:
            job = _sized(entry, own, time_factor)
            beside = found[0].beside
        found += [Planned(job.model_copy(update={"name": name, "submit": at_s}), beside, index) for name, at_s in entry.submissions()]
    return tuple(found)


def _sized(entry: QueuedJob, own: Job, time_factor: float) -> Job:
    """Return a job that is given by its nodes and its work, as power-hungry as the own run."""
    work_s = (entry.work or 0.0) * time_factor
    return Job(name=entry.name, nodes=entry.nodes or 1, work=work_s, power=own.power, priority=entry.priority, min_nodes=entry.min_nodes)
