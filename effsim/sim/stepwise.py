"""The scheduler of an engine, one request after the other: for iterations in which requests lose their blocks or the budget runs short."""

from collections import deque
from collections.abc import Callable, Sequence

from effsim.sim.cache import NOTHING, PrefixCache
from effsim.sim.recorder import Histogram
from effsim.sim.request import InFlight
from effsim.sim.setup import PREFILL_FIRST, STATIC, Pick, ReplicaSetup
from effsim.sim.speculation import Speculation, tokens_after

Batch = list[tuple[InFlight, int]]
"""Requests of an iteration with their new tokens, decoding ones before those that are admitted."""
Victim = Callable[[Sequence[InFlight]], int]
"""Takes the running requests; returns the place of the one to preempt."""


class Queues:
    """Requests that wait and run, with the blocks that are free.

    Args:
        waiting: In the order of their arrival, preempted ones first.
        running: In the order of their admission.
        free_blocks: KV blocks that nobody has.
        cache: What stands in blocks; None: nothing is found again.
        ahead: Blocks for decoding requests that the cache has given up already.
    """

    __slots__ = ("ahead", "asked_tokens", "cache", "found_tokens", "free_blocks", "preempted", "recomputed_tokens", "running", "waiting")

    def __init__(self, waiting: deque[InFlight], running: list[InFlight], free_blocks: int, cache: PrefixCache | None, ahead: int = 0) -> None:
        self.waiting = waiting
        self.running = running
        self.free_blocks = free_blocks
        self.cache, self.ahead = cache, ahead
        self.asked_tokens = self.found_tokens = 0
        self.preempted = 0
        self.recomputed_tokens = 0


def schedule(queues: Queues, setup: ReplicaSetup, policies: tuple[Pick, Victim], now_s: float) -> Batch:
    """Return the batch of the next iteration.

    Running sequences first, in order of admission, each with its remaining tokens within the token budget; where a block is
    missing one is preempted; then, unless one was, the waiting are admitted. Source: vLLM 0.11,
    ``vllm/v1/core/sched/scheduler.py``. With prefill first, an iteration with prompts has nothing else; of a static batch, the
    next one begins when all have ended.
    """
    pick, victim = policies
    if setup.batching == PREFILL_FIRST:
        batch, budget = _prompts(queues, setup)
        batch += admit(queues, setup, pick, now_s, budget)
        return batch or running(queues, setup, victim)[0]
    closed = setup.batching == STATIC and bool(queues.running)
    batch, budget = running(queues, setup, victim)
    return batch if queues.preempted or closed else batch + admit(queues, setup, pick, now_s, budget)


def _prompts(queues: Queues, setup: ReplicaSetup) -> tuple[Batch, int]:
    """Return the running requests whose prompts can be read further, and what is left of the token budget."""
    batch: Batch = []
    budget = setup.max_num_batched_tokens
    for request in queues.running:
        new = 0 if request.decodes else setup.share(request, budget)
        blocks = setup.blocks_for(request.computed + new) - request.blocks
        if new and blocks <= queues.free_blocks:
            _give(queues, request, blocks, request.computed + new)
            batch.append((request, new))
            budget -= new
    return batch, budget


def running(queues: Queues, setup: ReplicaSetup, victim: Victim) -> tuple[Batch, int]:
    """Return running requests with their new tokens, preempting where blocks are missing, and what is left of the token budget."""
    batch: Batch = []
    budget = setup.max_num_batched_tokens
    place = 0
    while place < len(queues.running) and budget > 0:
        request = queues.running[place]
        new = setup.share(request, budget)
        tokens = after(request, new, setup.speculation)
        blocks = setup.blocks_for(tokens) - request.blocks
        while blocks > queues.free_blocks:
            chosen = victim(queues.running)
            lost = queues.running.pop(chosen)
            preempt(queues, lost)
            if lost is request:
                break
            if chosen < place:
                budget += batch.pop(chosen)[1]
                place -= 1
        else:
            _give(queues, request, blocks, tokens)
            batch.append((request, new))
            budget -= new
            place += 1
            continue
        if batch:  # else the less urgent of them went, and the others come first now
            break
    return batch, budget


def after(request: InFlight, new: int, speculation: Speculation | None) -> int:
    """Return the tokens in the cache after an iteration in which a request has ``new`` tokens computed."""
    if speculation is None or not request.decodes:
        return request.computed + new
    speculation.start(request)
    return tokens_after(request, request.steps + 1)


def _give(queues: Queues, request: InFlight, blocks: int, tokens: int) -> None:
    queues.free_blocks -= blocks
    request.blocks += blocks
    if queues.cache is not None:
        known = min(queues.ahead, blocks)
        queues.ahead -= known
        queues.cache.take(blocks - known)
        queues.cache.fill(request, tokens)


def preempt(queues: Queues, victim: InFlight) -> None:
    """Send a request back to the head of the queue; what it has generated is to be computed again with its prompt."""
    freed = victim.blocks if queues.cache is None else queues.cache.release(victim, victim.blocks, queues.free_blocks, ended=False)
    queues.free_blocks += freed
    queues.recomputed_tokens += victim.computed
    queues.preempted += 1
    victim.blocks = victim.computed = victim.span = 0
    victim.remaining = victim.prompt_tokens + victim.generated
    victim.preemptions += 1
    queues.waiting.appendleft(victim)


def admit(queues: Queues, setup: ReplicaSetup, pick: Pick, now_s: float, budget: int) -> Batch:
    """Take requests from the queue while tokens, places and blocks last; return them with their new tokens."""
    admitted: Batch = []
    waiting, cache = queues.waiting, queues.cache
    while waiting and budget > 0 and len(queues.running) < setup.max_num_seqs:
        place = pick(waiting, now_s)
        request = waiting[place]
        found = NOTHING if cache is None or request.computed else cache.find(request)
        hit = found.blocks * setup.block_size or setup.assumed_hit(request)
        new = setup.share(request, budget, hit)
        tokens = after(request, new, setup.speculation) + hit
        blocks = setup.blocks_for(tokens) - found.blocks
        if blocks + found.free > queues.free_blocks or (hit + new < request.remaining and not setup.chunked_prefill):
            break
        del waiting[place]
        queues.free_blocks -= found.free
        queues.asked_tokens += 0 if request.computed else request.remaining  # what brings its cache asks for nothing
        queues.found_tokens += hit
        take_in(request, hit, now_s)
        if cache is not None:
            cache.hold(request, found)
        request.blocks = found.blocks
        _give(queues, request, blocks, tokens)
        queues.running.append(request)
        admitted.append((request, new))
        budget -= new
    return admitted


def take_in(request: InFlight, hit: int, now_s: float) -> None:
    """Note that a request is admitted with so many tokens in the cache."""
    request.computed += hit
    request.remaining -= hit
    if request.first_scheduled_s < 0.0:
        request.first_scheduled_s = now_s
        request.cached_tokens = hit


def contexts_and_chunks(batch: Sequence[tuple[InFlight, int]], speculation: Speculation | None) -> tuple[list[float], list[tuple[int, int]]]:
    """Return, as a step model takes them, the contexts of decoding sequences and the prefill chunks."""
    contexts: list[float] = []
    chunks: list[tuple[int, int]] = []
    for request, new in batch:
        if not request.decodes:
            chunks.append((new, request.computed))
        elif speculation is None:
            contexts.append(request.computed + 1)
        else:
            contexts.append(request.start + request.gain * request.steps / request.span + 1)
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
        request.energy_j += token_j * new
        if request.span:
            request.steps += 1
            request.computed = tokens_after(request, request.steps)
            request.generated = request.computed - request.prompt_tokens + 1
        else:
            request.computed += new
            request.remaining -= new
            if request.remaining:
                continue
            request.remaining = 1
            request.generated += 1
        if request.last_token_s == start_s:
            usual += 1
        elif request.first_token_s < 0.0:
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
    if running and not running[-1].decodes:
        return running[:-1], running[-1]
    return running, None
