"""One replica: the scheduler of vLLM V1 over a paged KV cache, one event per iteration."""

import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import simpy

from effsim.errors import SpecError
from effsim.sim.recorder import Histogram, TimeBins
from effsim.sim.request import InFlight

DROP_KV: Final = "needs more KV blocks than a replica has"
DROP_BUDGET: Final = "longer than max_num_batched_tokens without chunked prefill"

Pick = Callable[[Sequence[InFlight], float], int]


class StepModel(Protocol):
    """The cost of one iteration of one replica."""

    @property
    def num_accelerators(self) -> int:
        """Accelerators of the replica."""

    @property
    def kv_capacity_tokens(self) -> int:
        """Tokens whose keys and values fit."""

    @property
    def idle_power_w(self) -> float:
        """All accelerators of the replica when nothing runs."""

    def cached_tokens(self, tokens: int) -> int:
        """Return how much of ``kv_capacity_tokens`` a sequence of so many tokens takes: less where layers keep only a window."""

    def step(self, decode_contexts: Sequence[int], chunks: Sequence[tuple[int, int]]) -> tuple[float, float, float, float, float]:
        """Return time [s] and static, core, memory and link energy [J] of an iteration, over all accelerators.

        Args:
            decode_contexts: KV tokens that each decoding sequence reads, its new token included.
            chunks: (new tokens, tokens in the cache before) of each prefill chunk.
        """


@dataclass(frozen=True, slots=True)
class HostShare:
    """What one replica draws beside its accelerators: its share of host and fans [W], and the supply's efficiency."""

    idle_w: float = 0.0
    busy_w: float = 0.0
    fan_w: float = 0.0
    psu_efficiency: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.idle_w <= self.busy_w < math.inf or not 0.0 <= self.fan_w < math.inf or not 0.0 < self.psu_efficiency <= 1.0:
            raise SpecError(f"host: expected 0 <= idle_w <= busy_w, 0 <= fan_w and 0 < psu_efficiency <= 1, got {self}")


@dataclass(frozen=True, slots=True)
class ReplicaSetup:
    """One replica and the limits of its engine.

    Args:
        step_model: Its costs.
        max_num_seqs: Sequences running at once.
        max_num_batched_tokens: Tokens per iteration.
        block_size: Tokens per KV block.
        num_gpu_blocks: KV blocks; None: as many as fit ``step_model.kv_capacity_tokens``.
        chunked_prefill: Prompts may be split over iterations.
        scheduler: A file name in ``sim/policies`` with ``pick``.
        host: Its share of a server.

    Raises:
        SpecError: A limit below 1, or no KV block.
    """

    step_model: StepModel
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    block_size: int = 16
    num_gpu_blocks: int | None = None
    chunked_prefill: bool = True
    scheduler: str = "fcfs"
    host: HostShare = HostShare()

    def __post_init__(self) -> None:
        limits = {"max_num_seqs": self.max_num_seqs, "max_num_batched_tokens": self.max_num_batched_tokens, "block_size": self.block_size}
        for name, value in {**limits, "num_gpu_blocks": self.kv_blocks if self.block_size > 0 else 1}.items():
            if value < 1:
                raise SpecError(f"engine.{name}: expected at least 1, got {value}")

    def blocks_for(self, tokens: int) -> int:
        """Return the KV blocks of a sequence of so many tokens."""
        return -(-self.step_model.cached_tokens(tokens) // self.block_size)

    @property
    def kv_blocks(self) -> int:
        """KV blocks in force."""
        return self.step_model.kv_capacity_tokens // self.block_size if self.num_gpu_blocks is None else self.num_gpu_blocks


class Record:
    """What all replicas of a run write to; channels: accelerator J, server J above its floor, and s × running, waiting, KV blocks."""

    __slots__ = ("bins", "finished", "inter_token", "iteration_done")

    def __init__(self, bin_s: float, max_bins: int, finished: Callable[[InFlight], None], iteration_done: Callable[[], None]) -> None:
        self.bins = TimeBins(bin_s, 5, max_bins)
        self.inter_token = Histogram()
        self.finished = finished
        self.iteration_done = iteration_done


class Replica:
    """The queues, the cache and the meters of one replica."""

    def __init__(self, index: int, setup: ReplicaSetup, pick: Pick) -> None:
        self.index = index
        self.setup = setup
        self.pick = pick
        self.waiting: deque[InFlight] = deque()
        self.running: list[InFlight] = []
        self.batch: list[tuple[InFlight, int]] = []
        self.batch_tokens = 0
        self.free_blocks = setup.kv_blocks
        self.wake: simpy.Event | None = None
        self.idle_since_s = 0.0
        self.iterations = self.preemptions = self.recomputed_tokens = 0
        self.busy_s = self.idle_s = 0.0
        self.static_j = self.core_j = self.memory_j = self.link_j = self.idle_j = 0.0

    @property
    def outstanding(self) -> int:
        """Requests waiting and running."""
        return len(self.waiting) + len(self.running)

    def refusal(self, request: InFlight) -> str | None:
        """Return why a request can never be served here, or None."""
        if self.setup.blocks_for(request.kv_tokens) > self.setup.kv_blocks:
            return DROP_KV
        if not self.setup.chunked_prefill and request.kv_tokens > self.setup.max_num_batched_tokens:
            return DROP_BUDGET
        return None

    def receive(self, request: InFlight) -> None:
        """Queue a request, and end the idling if there is any."""
        request.replica = self.index
        self.waiting.append(request)
        if self.wake is not None and not self.wake.triggered:
            self.wake.succeed()

    def schedule(self, now_s: float) -> tuple[list[int], list[tuple[int, int]]]:
        """Choose the batch of the next iteration: (contexts of decoding sequences, prefill chunks).

        As vLLM V1: running sequences first, in order of admission, each with its remaining tokens within the token budget;
        where a block is missing the last admitted is preempted; then, unless one was, the waiting are admitted.
        """
        self.batch = []
        budget = self.setup.max_num_batched_tokens
        block_size = self.setup.block_size
        preempted = self.preemptions
        contexts: list[int] = []
        chunks: list[tuple[int, int]] = []
        for request in self.running:  # preemption takes from its end, so the loop never meets a victim
            if budget == 0:
                break
            remaining, computed = request.remaining, request.computed
            new = remaining if remaining <= budget else budget
            if computed + new > request.blocks * block_size and not self._allocate(request, computed + new):
                break
            if remaining == 1 and request.generated:
                contexts.append(computed + 1)
            else:
                chunks.append((new, computed))
            self.batch.append((request, new))
            budget -= new
        if self.preemptions == preempted:
            budget = self._admit(budget, now_s, chunks)
        self.batch_tokens = self.setup.max_num_batched_tokens - budget
        return contexts, chunks

    def _allocate(self, request: InFlight, tokens: int) -> bool:
        """Give a request blocks for so many tokens, preempting from the end; False where it had to go itself."""
        missing = self.setup.blocks_for(tokens) - request.blocks
        while missing > self.free_blocks:
            victim = self.running.pop()
            self._preempt(victim)
            if victim is request:
                return False
        self.free_blocks -= missing
        request.blocks += missing
        return True

    def _preempt(self, victim: InFlight) -> None:
        """Send a request back to the head of the queue; what it has generated is to be computed again with its prompt."""
        self.free_blocks += victim.blocks
        self.recomputed_tokens += victim.computed
        victim.blocks = victim.computed = 0
        victim.remaining = victim.prompt_tokens + victim.generated
        victim.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(victim)

    def _admit(self, budget: int, now_s: float, chunks: list[tuple[int, int]]) -> int:
        """Take requests from the queue into the batch; return the token budget that is left."""
        while self.waiting and budget > 0 and len(self.running) < self.setup.max_num_seqs:
            place = self.pick(self.waiting, now_s)
            request = self.waiting[place]
            new = request.remaining if request.remaining <= budget else budget
            blocks = self.setup.blocks_for(new)
            if blocks > self.free_blocks or (new < request.remaining and not self.setup.chunked_prefill):
                break
            del self.waiting[place]
            self.free_blocks -= blocks
            request.blocks = blocks
            if request.first_scheduled_s < 0.0:
                request.first_scheduled_s = now_s
            self.running.append(request)
            self.batch.append((request, new))
            chunks.append((new, 0))
            budget -= new
        return budget

    def finish(self, start_s: float, now_s: float, cost: tuple[float, float, float, float, float], record: Record) -> None:
        """Account for an iteration that ends now: energy, tokens, requests that are done.

        A request's energy is the iteration's by share of tokens, those read and those generated counting alike.
        """
        _, static_j, core_j, memory_j, link_j = cost
        self.static_j += static_j
        self.core_j += core_j
        self.memory_j += memory_j
        self.link_j += link_j
        self.iterations += 1
        length_s = now_s - start_s
        self.busy_s += length_s
        energy_j = static_j + core_j + memory_j + link_j
        host = self.setup.host
        server_j = (energy_j + (host.busy_w - host.idle_w) * length_s) / host.psu_efficiency
        used_blocks = self.setup.kv_blocks - self.free_blocks
        record.bins.add(start_s, now_s, (energy_j, server_j, len(self.running) * length_s, len(self.waiting) * length_s, used_blocks * length_s))
        token_j = energy_j / self.batch_tokens
        steady = ended = 0
        for request, new in self.batch:
            request.computed += new
            request.energy_j += token_j * new
            request.remaining -= new
            if request.remaining:
                continue
            request.remaining = 1
            request.generated += 1
            if request.last_token_s == start_s:
                steady += 1
            elif request.generated == 1:
                request.first_token_s = now_s
            else:
                record.inter_token.add(now_s - request.last_token_s)
            request.last_token_s = now_s
            if request.generated == request.output_tokens:
                ended += 1
                self.free_blocks += request.blocks
                request.blocks = 0
                record.finished(request)
        if steady:
            record.inter_token.add(length_s, steady)
        if ended:
            self.running = [request for request in self.running if request.generated < request.output_tokens]

    def idle_until(self, now_s: float, record: Record) -> None:
        """Account for the time since the replica had nothing to do."""
        length_s = now_s - self.idle_since_s
        if length_s > 0.0:
            energy_j = self.setup.step_model.idle_power_w * length_s
            self.idle_s += length_s
            self.idle_j += energy_j
            record.bins.add(self.idle_since_s, now_s, (energy_j, energy_j / self.setup.host.psu_efficiency, 0.0, 0.0, 0.0))
        self.idle_since_s = now_s


def serve(env: simpy.Environment, replica: Replica, record: Record) -> Generator[simpy.Event, Any, None]:
    """Serve for ever: wait for a request, choose a batch, spend its time, retire what is done."""
    step = replica.setup.step_model.step
    while True:
        if not (replica.waiting or replica.running):
            replica.idle_since_s = env.now
            replica.wake = env.event()
            yield replica.wake
            replica.idle_until(env.now, record)
            replica.wake = None
        start_s = env.now
        cost = step(*replica.schedule(start_s))
        if not 0.0 < cost[0] < math.inf:
            raise SpecError(f"replica {replica.index}: an iteration takes {cost[0]!r} s; expected a positive time")
        yield env.timeout(cost[0])
        replica.finish(start_s, env.now, cost, record)
        record.iteration_done()
