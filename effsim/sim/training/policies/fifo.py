"""First in, first out: nobody passes the head of the queue."""

from collections.abc import Sequence

from effsim.sim.training.queueing import Decision, Running, Waiting


def admit(queue: Sequence[Waiting], running: Sequence[Running], free_nodes: int, now_s: float) -> Decision:
    """Return the jobs at the head that fit, up to the first that does not."""
    start = []
    for job in queue:
        if job.nodes > free_nodes:
            break
        free_nodes -= job.nodes
        start.append(job.id)
    return Decision(tuple(start))
