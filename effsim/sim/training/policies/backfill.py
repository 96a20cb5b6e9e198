"""EASY backfilling: jobs may pass the head of the queue if that does not delay it.

Source: D. A. Lifka, The ANL/IBM SP scheduling system, JSSPP 1995, doi:10.1007/3-540-60153-8_35.
"""

import math
from collections.abc import Sequence

from effsim.sim.training.queueing import Decision, Running, Waiting


def admit(queue: Sequence[Waiting], running: Sequence[Running], free_nodes: int, now_s: float) -> Decision:
    """Return the jobs at the head that fit, and those behind it that end before its turn or use nodes that it will not need."""
    start = []
    ends = [(max(job.expected_end_s, now_s), job.nodes) for job in running]
    rest = list(queue)
    while rest and rest[0].nodes <= free_nodes:
        job = rest.pop(0)
        free_nodes -= job.nodes
        ends.append((now_s + job.expected_s, job.nodes))
        start.append(job.id)
    if not rest:
        return Decision(tuple(start))
    turn_s, extra = _reservation(rest[0].nodes, sorted(ends), free_nodes)
    for job in rest[1:]:
        if job.nodes > free_nodes:
            continue
        if now_s + job.expected_s <= turn_s:
            free_nodes -= job.nodes
        elif job.nodes <= extra:
            free_nodes -= job.nodes
            extra -= job.nodes
        else:
            continue
        start.append(job.id)
    return Decision(tuple(start))


def _reservation(nodes: int, ends: Sequence[tuple[float, int]], free_nodes: int) -> tuple[float, int]:
    """Return when the head can start, and the nodes that are then left over; where only repairs make room, nobody may pass."""
    for end_s, released in ends:
        free_nodes += released
        if free_nodes >= nodes:
            return end_s, free_nodes - nodes
    return -math.inf, 0
