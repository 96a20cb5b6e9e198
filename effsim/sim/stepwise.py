"""The scheduler of vLLM V1, one request after the other: for iterations in which requests lose their blocks or the budget runs short."""

from collections import deque
from collections.abc import Sequence

from effsim.sim.recorder import Histogram
from effsim.sim.request import InFlight
from effsim.sim.setup import Pick, ReplicaSetup

Batch = list[tuple[InFlight, int]]
"""Requests of an iteration with their new tokens, decoding ones before those that are admitted."""


class Queues:
    """Requests that wait and run, with the blocks that are free.

    Args:
        waiting: In the order of their arrival, preempted ones first.
        running: In the order of their admission.
        free_blocks: KV blocks that nobody has.
    """

    __slots__ = ("free_blocks", "preempted", "recomputed_tokens", "running", "waiting")

    def __init__(self, waiting: deque[InFlight], running: list[InFlight], free_blocks: int) -> None:
        self.waiting = waiting
        self.running = running
        self.free_blocks = free_blocks
        self.preempted = 0
        self.recomputed_tokens = 0


def schedule(queues: Queues, setup: ReplicaSetup, pick: Pick, now_s: float) -> Batch:
    """Return the batch of the next iteration.

    Running sequences first, in order of admission, each with its remaining tokens within the token budget; where a block is
    missing the last admitted is preempted; then, unless one was, the waiting are admitted. Source: vLLM 0.11,
    ``vllm/v1/core/sched/scheduler.py``.
    """
    batch: Batch = []
    budget = setup.max_num_batched_tokens
    for request in queues.running:  # preemption takes from its end, so the loop never meets a victim
        if budget == 0:
            break
        new = min(request.remaining, budget)
        if request.computed + new > request.blocks * setup.block_size and not _allocate(queues, setup, request, request.computed + new):
            break
        batch.append((request, new))
        budget -= new
    return batch if queues.preempted else batch + admit(queues, setup, pick, now_s, budget)


def _allocate(queues: Queues, setup: ReplicaSetup, request: InFlight, tokens: int) -> bool:
    """Give a request blocks for so many tokens, preempting from the end; False where it had to go itself."""
    missing = setup.blocks_for(tokens) - request.blocks
    while missing > queues.free_blocks:
        victim = queues.running.pop()
        preempt(queues, victim)
        if victim is request:
            return False
    queues.free_blocks -= missing
    request.blocks += missing
    return True


def preempt(queues: Queues, victim: InFlight) -> None:
    """Send a request back to the head of the queue; what it has generated is to be computed again with its prompt."""
    queues.free_blocks += victim.blocks
    queues.recomputed_tokens += victim.computed
    queues.preempted += 1
    victim.blocks = victim.computed = 0
    victim.remaining = victim.prompt_tokens + victim.generated
    victim.preemptions += 1
    queues.waiting.appendleft(victim)


def admit(queues: Queues, setup: ReplicaSetup, pick: Pick, now_s: float, budget: int) -> Batch:
    """Take requests from the queue while tokens, places and blocks last; return them with their new tokens."""
    admitted: Batch = []
    waiting, running = queues.waiting, queues.running
    while waiting and budget > 0 and len(running) < setup.max_num_seqs:
        place = pick(waiting, now_s)
        request = waiting[place]
        new = min(request.remaining, budget)
        blocks = setup.blocks_for(new)
        if blocks > queues.free_blocks or (new < request.remaining and not setup.chunked_prefill):
            break
        del waiting[place]
        queues.free_blocks -= blocks
        request.blocks = blocks
        if request.first_scheduled_s < 0.0:
            request.first_scheduled_s = now_s
        running.append(request)
        admitted.append((request, new))
        budget -= new
    return admitted


def contexts_and_chunks(batch: Sequence[tuple[InFlight, int]]) -> tuple[list[int], list[tuple[int, int]]]:
    """Return, as a step model takes them, the contexts of decoding sequences and the prefill chunks."""
    contexts: list[int] = []
    chunks: list[tuple[int, int]] = []
    for request, new in batch:
        if request.remaining == 1 and request.generated:
            contexts.append(request.computed + 1)
        else:
            chunks.append((new, request.computed))
    return contexts, chunks


def sample(batch: Batch, token_j: float, span_s: tuple[float, float], inter_token: Histogram) -> list[InFlight]:
    """Give each request of an iteration what it has computed and its energy; return those that are done.

    Args:
        batch: Requests with their new tokens.
        token_j: Energy per token of the iteration [J].
        span_s: Its start and end.
        inter_token: Counts the time since each request's last token.
    """
    start_s, now_s = span_s
    ended, usual = [], 0
    for request, new in batch:
        request.computed += new
        request.energy_j += token_j * new
        request.remaining -= new
        if request.remaining:
            continue
        request.remaining = 1
        request.generated += 1
        if request.last_token_s == start_s:
            usual += 1
        elif request.generated == 1:
            request.first_token_s = now_s
        else:
            inter_token.add(now_s - request.last_token_s)
        request.last_token_s = now_s
        if request.generated == request.output_tokens:
            ended.append(request)
    if usual:
        inter_token.add(now_s - start_s, usual)
    return ended


def divided(running: list[InFlight]) -> tuple[list[InFlight], InFlight | None]:
    """Return those before the last with it if it decodes, and the last one where its prompt is still being read."""
    if running and not (running[-1].remaining == 1 and running[-1].generated):
        return running[:-1], running[-1]
    return running, None


def steady(request: InFlight, now_s: float, window: float) -> bool:
    """Return whether a request decodes, had its last token just now, and fills the widest attention window."""
    return request.remaining == 1 and request.generated > 0 and request.last_token_s == now_s and request.computed + 1 >= window
