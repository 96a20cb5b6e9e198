"""The highest priority first, of equals the earliest; it preempts lower ones, the lowest and latest started first."""

from collections.abc import Sequence

from effsim.sim.training.queueing import Decision, Running, Waiting


def admit(queue: Sequence[Waiting], running: Sequence[Running], free_nodes: int, now_s: float) -> Decision:
    """Return the jobs that fit in order of priority up to the first that does not, and whom that one preempts."""
    start: list[int] = []
    for job in sorted(queue, key=lambda one: (-one.priority, one.submit_s, one.id)):
        if job.nodes > free_nodes:
            return Decision(tuple(start), _victims(job, running, free_nodes))
        free_nodes -= job.nodes
        start.append(job.id)
    return Decision(tuple(start))


def _victims(job: Waiting, running: Sequence[Running], free_nodes: int) -> tuple[int, ...]:
    """Return as few as make room, none where even all lower ones would not."""
    coming = free_nodes + sum(one.nodes for one in running if one.leaving)
    chosen: list[int] = []
    for one in sorted(running, key=lambda other: (other.priority, -other.start_s, other.id)):
        if coming >= job.nodes:
            break
        if one.priority < job.priority and not one.leaving:
            coming += one.nodes
            chosen.append(one.id)
    return tuple(chosen) if coming >= job.nodes else ()
