"""One replica: the scheduler of vLLM V1 over a paged KV cache, many iterations at a step.

A replica is advanced to a time by whoever asks; between two boundaries (the end of a *leg*) nothing about it changes but counts that
grow evenly. A leg is one iteration with prompts in it, or as many iterations that only decode as fit before the batch changes: the
next completion, the last free block, or, once a request arrives that could be admitted, the end of the iteration then under way.
The sums over such a leg are closed forms of :mod:`effsim.sim.decode`. Where requests lose their blocks, where the token budget is
shorter than the batch, or where a sequence is still shorter than an attention window, a leg is one iteration scheduled request by
request (:mod:`effsim.sim.stepwise`). At equal times requests arrive before an iteration ends.
"""

import math
from collections import deque
from heapq import heappop, heappush
from typing import Final

from effsim.errors import SpecError
from effsim.sim.decode import DecodeCosts
from effsim.sim.meter import Meter
from effsim.sim.recorder import Recorder
from effsim.sim.request import InFlight
from effsim.sim.setup import Cost, Pick, ReplicaSetup
from effsim.sim.stepwise import Batch, Queues, contexts_and_chunks, divided, sample, schedule, steady

IDLE: Final = 0
WAKING: Final = 1
DECODING: Final = 2
MIXED: Final = 3
STEPWISE: Final = 4


class Replica(Meter):
    """The queues, the cache and the meters of one replica.

    Attributes:
        waiting: Requests in the queue.
        members: Running requests by id, in the order of admission.
        most_tokens: Every request that needs no more tokens in the cache can be served here.
        end_s: End of the leg under way; infinite while idle.
    """

    __slots__ = (
        "_arrived", "_arrived_sum_s", "_at_start", "_batch", "_block_size", "_cost", "_costs", "_count", "_decoding", "_ending", "_filling",
        "_iteration", "_keys", "_leg", "_most_seqs", "_needs", "_next_costs", "_reorders", "_start_s", "_step", "_stepwise", "_token_j",
        "_window", "_windowed_cache", "end_s", "free_blocks", "index", "kv_blocks", "members", "most_tokens", "pick", "preemptions",
        "recomputed_tokens", "waiting",
    )  # fmt: skip

    def __init__(self, index: int, setup: ReplicaSetup, pick: Pick, costs: DecodeCosts, record: Recorder) -> None:
        super().__init__(setup, record)
        self.index, self.pick = index, pick
        self.waiting: deque[InFlight] = deque()
        self.members: dict[int, InFlight] = {}
        self.end_s = math.inf
        self.kv_blocks = self.free_blocks = setup.kv_blocks
        self.preemptions = self.recomputed_tokens = 0
        self._costs, self._step = costs, setup.step_model
        self._next_costs: DecodeCosts | None = None
        self._block_size, self._most_seqs = setup.block_size, setup.max_num_seqs
        self._window, self._windowed_cache = setup.step_model.longest_window, setup.step_model.windowed_cache
        self.most_tokens = setup.most_tokens
        self._reorders = setup.scheduler != "fcfs"
        self._leg = IDLE
        self._batch: Batch = []
        self._start_s, self._cost, self._count = 0.0, (0.0, 0.0, 0.0, 0.0, 0.0), 0
        self._decoding, self._keys, self._iteration, self._token_j = 0, 0, 0, 0.0
        self._ending: list[tuple[int, int, InFlight]] = []
        self._needs = [0] * (2 * self._block_size)
        self._filling: InFlight | None = None
        self._stepwise = False
        self._arrived, self._arrived_sum_s, self._at_start = 0, 0.0, 0

    @property
    def outstanding(self) -> int:
        """Requests waiting and running."""
        return len(self.waiting) + len(self.members)

    def receive(self, request: InFlight, now_s: float) -> None:
        """Queue a request at a time up to which the replica has been advanced; what it decodes ends at the next iteration if it may enter."""
        request.replica = self.index
        self.waiting.append(request)
        if self._leg == IDLE:
            self.account_idle(now_s)
            self._leg, self.end_s = WAKING, now_s
            return
        self._arrived += 1
        self._arrived_sum_s += now_s
        if len(self.members) < self._most_seqs and (self._reorders or len(self.waiting) == 1):
            self.cut(now_s)

    def advance(self, now_s: float) -> None:
        """Serve until the leg under way ends at ``now_s`` or later."""
        while self.end_s < now_s:
            leg, end_s = self._leg, self.end_s
            if leg == DECODING:
                self._end_decoding(end_s)
            elif leg == MIXED:
                self._end_mixed(end_s)
            elif leg == STEPWISE:
                self._end_stepwise(end_s)
            self._begin(end_s)

    def _begin(self, now_s: float) -> None:
        """Choose the next leg."""
        self._start_s, self._arrived, self._arrived_sum_s = now_s, 0, 0.0
        if self._next_costs is not None:
            self._take_costs(self._next_costs)
        decoding = self._decoding
        mixed = not self._stepwise and (self.waiting or self._filling is not None) and self._begin_mixed(now_s)
        if self._stepwise:
            self._begin_stepwise(now_s)
        elif not mixed and decoding:
            self._begin_decoding(now_s)
        elif not mixed:
            self._leg, self.end_s, self.idle_since_s, self._token_j = IDLE, math.inf, now_s, 0.0
        self._at_start = len(self.waiting)

    def _begin_decoding(self, now_s: float) -> None:
        decoding = self._decoding
        count = self._ending[0][0] - self._iteration
        free, size = self.free_blocks, self._block_size
        if decoding * (count // size + 1) > free:
            count = self._iterations_of_blocks(count, free)
        if count == 0 or decoding > self.setup.max_num_batched_tokens:
            self._begin_stepwise(now_s)
            return
        self._leg, self._count = DECODING, count
        self.end_s = now_s + self._costs.duration_s(decoding, self._keys, count)
        self._check_end(now_s)

    def _check_end(self, now_s: float) -> None:
        if not now_s < self.end_s < math.inf:
            raise SpecError(f"replica {self.index}: a leg begun at {now_s!r} s ends at {self.end_s!r} s; expected a positive time")

    def _iterations_of_blocks(self, most: int, free: int) -> int:
        """Return how many iterations the free blocks last, at most ``most``."""
        if self._windowed_cache:  # blocks that a sequence leaves make up for some that it takes: no more than one per block of tokens
            return max(0, min(most, (free // self._decoding - 1) * self._block_size))
        needs, size = self._needs, self._block_size
        done = min(most, free // self._decoding * size)  # whole rounds take one block per sequence
        free -= done // size * self._decoding
        while done < most:
            free -= needs[(self._iteration + done) % size]
            if free < 0:
                break
            done += 1
        return done

    def _blocks_taken(self, count: int) -> int:
        """Return the blocks that ``count`` iterations of the present batch take."""
        size = self._block_size
        rounds, rest = divmod(count, size)
        first = self._iteration % size
        return rounds * self._decoding + sum(self._needs[first : first + rest])

    def _end_decoding(self, now_s: float) -> None:
        """Account for a run of iterations: sums of the closed form."""
        count, decoding = self._count, self._decoding
        cost = self._costs.run(decoding, self._keys, count, self._record.inter_token)
        taken = 0 if self._windowed_cache else self._blocks_taken(count)
        energy_j = self._meter(cost, now_s, count, 0.5 * taken * (1.0 + 1.0 / count))
        self.free_blocks -= taken
        self._iteration += count
        self._keys += decoding * count
        self._token_j += energy_j / decoding
        if self._windowed_cache:
            self._recount()
        if self._ending[0][0] <= self._iteration:
            self._retire(now_s)

    def _recount(self) -> None:
        """Count the blocks of all members anew, as sequences in windowed caches take fewer than their tokens say."""
        blocks_for, filling, iteration = self.setup.blocks_for, self._filling, self._iteration
        taken = sum([blocks_for(request.base + iteration) for _, _, request in self._ending])
        self.free_blocks = self.kv_blocks - taken - (filling.blocks if filling is not None else 0)

    def _windowed_needs(self) -> int:
        """Return the blocks that the next iteration takes where caches are windowed; negative when windows give some back."""
        blocks_for, iteration = self.setup.blocks_for, self._iteration
        return sum([blocks_for(r.base + iteration + 1) - blocks_for(r.base + iteration) for _, _, r in self._ending])

    def _meter(self, cost: Cost, now_s: float, count: int, growth: float = 0.0) -> float:
        """Add the cost of a leg to the meters and the time bins; return its energy [J]. ``growth``: mean of the blocks it takes on its way."""
        self.iterations += count
        start_s = self._start_s
        length_s = now_s - start_s
        waiting_s = self._at_start * length_s + (self._arrived * now_s - self._arrived_sum_s)
        blocks_s = (self.kv_blocks - self.free_blocks + growth) * length_s
        return self.add(cost, (start_s, now_s), (len(self.members) * length_s, waiting_s, blocks_s))

    def _begin_mixed(self, now_s: float) -> bool:
        """Try a leg of one iteration with prompts in it; False where there is none to be had, or requests must be looked at one by one."""
        decoding, setup, filling = self._decoding, self.setup, self._filling
        budget = setup.max_num_batched_tokens - decoding
        free = self.free_blocks - (self._windowed_needs() if self._windowed_cache else self._needs[self._iteration % self._block_size])
        if budget < 0 or free < 0:
            self._stepwise = True
            return False
        batch: Batch = []
        if filling is not None:
            new = min(filling.remaining, budget)
            blocks = setup.blocks_for(filling.computed + new) - filling.blocks
            if blocks > free or new == 0 or (filling.remaining == 1 and filling.generated):
                self._stepwise = True
                return False
            filling.blocks += blocks
            free -= blocks
            budget -= new
            batch.append((filling, new))
        if self.waiting and budget > 0 and len(self.members) < self._most_seqs:
            free, budget = self._admit(batch, free, budget, now_s)
        if not batch:
            return False
        self.free_blocks = free
        chunks = [(new, request.computed) for request, new in batch]
        self._leg, self._batch = MIXED, batch
        self._cost = self._step.step_at(decoding, self._keys, chunks)
        self._count = setup.max_num_batched_tokens - budget
        self.end_s = now_s + self._cost[0]
        self._check_end(now_s)
        return True

    def _admit(self, batch: Batch, free: int, budget: int, now_s: float) -> tuple[int, int]:
        """Admit from the queue into ``batch``; return the blocks and tokens that are left."""
        waiting, members, setup = self.waiting, self.members, self.setup
        while waiting and budget > 0 and len(members) < self._most_seqs:
            place = self.pick(waiting, now_s)
            request = waiting[place]
            remaining = request.remaining
            new = remaining if remaining <= budget else budget
            blocks = setup.blocks_for(new)
            if blocks > free or (new < remaining and not setup.chunked_prefill):
                break
            if place:
                del waiting[place]
            else:
                waiting.popleft()
            free -= blocks
            request.blocks = blocks
            if request.first_scheduled_s < 0.0:
                request.first_scheduled_s = now_s
            members[request.id] = request
            batch.append((request, new))
            budget -= new
        return free, budget

    def _end_mixed(self, now_s: float) -> None:
        """Account for an iteration with prompts in it."""
        decoding = self._decoding
        energy_j = self._meter(self._cost, now_s, 1)
        token_j = energy_j / self._count
        self._iteration += 1
        if decoding:
            self._record.inter_token.add(now_s - self._start_s, decoding)
            self._keys += decoding
            self._token_j += token_j
        self._filling = None
        for request, new in self._batch:
            request.computed += new
            request.energy_j += token_j * new
            request.remaining -= new
            if request.remaining:
                self._filling = request
                continue
            self._sample(request, now_s)
        if self._ending and self._ending[0][0] <= self._iteration:
            self._retire(now_s)
        if self._windowed_cache:
            self._recount()

    def _sample(self, request: InFlight, now_s: float) -> None:
        """Take the first token after a prompt has been read: the request is done, or decodes from now on."""
        request.remaining = 1
        request.generated += 1
        if request.generated == 1:
            request.first_token_s = now_s
        else:
            self._record.inter_token.add(now_s - request.last_token_s)
        request.last_token_s = now_s
        if request.generated == request.output_tokens:
            self.free_blocks += request.blocks
            del self.members[request.id]
            self._record.finished(request)
        else:
            self._join(request)

    def _join(self, request: InFlight) -> None:
        """Let a request decode with the others."""
        iteration, computed = self._iteration, request.computed
        request.base = computed - iteration
        request.mark_j = self._token_j
        if computed + 1 < self._window:
            self._stepwise = True
        slot = (iteration - self._step.cached_tokens(computed)) % self._block_size
        self._needs[slot] += 1
        self._needs[slot + self._block_size] += 1
        self._decoding += 1
        self._keys += computed + 1
        heappush(self._ending, (iteration + request.output_tokens - request.generated, request.id, request))

    def _leave(self, request: InFlight) -> None:
        """Take a request out of those that decode; its own numbers are current again."""
        request.computed = computed = request.base + self._iteration
        request.energy_j += self._token_j - request.mark_j
        slot = (self._iteration - self._step.cached_tokens(computed)) % self._block_size
        self._needs[slot] -= 1
        self._needs[slot + self._block_size] -= 1
        self._decoding -= 1
        self._keys -= computed + 1

    def _retire(self, now_s: float) -> None:
        """End the requests whose last token has been sampled."""
        ending, iteration = self._ending, self._iteration
        while ending and ending[0][0] <= iteration:
            request = heappop(ending)[2]
            self._leave(request)
            if not self._windowed_cache:
                self.free_blocks += self.setup.blocks_for(request.computed)
            request.generated, request.blocks, request.last_token_s = request.output_tokens, 0, now_s
            del self.members[request.id]
            self._record.finished(request)
        if self._windowed_cache:
            self._recount()

    def _begin_stepwise(self, now_s: float) -> None:
        """Begin an iteration request by request, every number of each made current."""
        self._spread(now_s)
        queues = Queues(self.waiting, list(self.members.values()), self.free_blocks)
        batch = schedule(queues, self.setup, self.pick, now_s)
        self.members = {request.id: request for request in queues.running}
        self.free_blocks = queues.free_blocks
        self.preemptions += queues.preempted
        self.recomputed_tokens += queues.recomputed_tokens
        contexts, chunks = contexts_and_chunks(batch)
        if chunks or not contexts or min(contexts) < self._window:
            self._cost = self._step.step(contexts, chunks)
        else:
            self._cost = self._costs.cost(len(contexts), sum(contexts))
        self._leg, self._batch, self._stepwise = STEPWISE, batch, True
        self._count = sum([new for _, new in batch])
        self.end_s = now_s + self._cost[0]
        self._check_end(now_s)

    def _spread(self, now_s: float) -> None:
        """Leave the closed form: each decoding request gets its own numbers."""
        for finish, _, request in self._ending:
            request.generated = request.output_tokens - (finish - self._iteration)
            request.last_token_s = now_s
            self._leave(request)
            request.blocks = self.setup.blocks_for(request.computed)
        self._ending.clear()
        self._filling = None

    def _end_stepwise(self, now_s: float) -> None:
        """Account for an iteration request by request, and return to the closed form where that is exact."""
        token_j = self._meter(self._cost, now_s, 1) / self._count
        self._iteration += 1
        for request in sample(self._batch, token_j, (self._start_s, now_s), self._record.inter_token):
            self.free_blocks += request.blocks
            del self.members[request.id]
            self._record.finished(request)
        self._gather(now_s)

    def _gather(self, now_s: float) -> None:
        """Return to the closed form if every running request but the last decodes, none waits its turn, and blocks are not scarce."""
        decoding, filling = divided(list(self.members.values()))
        if not all(steady(request, now_s, self._window) for request in decoding) or len(decoding) > min(self.free_blocks, self.setup.max_num_batched_tokens):
            return
        self._filling, self._stepwise = filling, False
        for request in decoding:
            self._join(request)

    def cut(self, now_s: float) -> None:
        """Let the leg under way end with the iteration that is under way at ``now_s``, up to which the replica has been advanced."""
        if self._leg == DECODING and self._count > 1:
            self._count, span_s = self._costs.count_until(self._decoding, self._keys, self._count, now_s - self._start_s)
            self.end_s = self._start_s + span_s

    def retune(self, costs: DecodeCosts, now_s: float) -> None:
        """Take other costs of the same model, as of another clock or power limit, from the next iteration on."""
        self.cut(now_s)
        self._next_costs = costs
        if self._leg == IDLE:
            self.account_idle(now_s)
            self._take_costs(costs)

    def _take_costs(self, costs: DecodeCosts) -> None:
        self._costs, self._step, self._next_costs = costs, costs.step, None

    def withdraw(self, request: InFlight, now_s: float) -> None:
        """Take a request out of the queue at a time up to which the replica has been advanced."""
        self.waiting.remove(request)
        self._arrived -= 1
        self._arrived_sum_s -= now_s
        self.cut(now_s)

    def evict_all(self, now_s: float) -> list[InFlight]:
        """Stop at once: return all requests, running ones in the order of admission before those that wait, their cache lost.

        The iteration under way is lost; what it has drawn, its energy by the share of its time, counts for its requests all the same.
        What a request has generated before stays with it, and is to be computed again with its prompt.
        """
        self.advance(now_s)
        if self._leg == DECODING:
            self._stop_decoding(now_s)
        elif self._leg in {MIXED, STEPWISE}:
            token_j = self._meter(_part(self._cost, (now_s - self._start_s) / self._cost[0]), now_s, 0) / self._count
            self._token_j += token_j if self._leg == MIXED else 0.0
            for request, new in self._batch:
                request.energy_j += token_j * new
        self._spread(now_s)
        evicted = [*self.members.values(), *self.waiting]
        for request in self.members.values():
            request.computed = request.blocks = 0
            request.remaining = request.prompt_tokens + request.generated
        self.members.clear()
        self.waiting.clear()
        self.free_blocks, self._stepwise = self.kv_blocks, False
        if self._leg != IDLE:
            self._leg, self.end_s, self.idle_since_s, self._token_j = IDLE, math.inf, now_s, 0.0
        if self._next_costs is not None:
            self._take_costs(self._next_costs)
        return evicted

    def _stop_decoding(self, now_s: float) -> None:
        """End a run of iterations with a part of one."""
        self.cut(now_s)
        decoding, done = self._decoding, self._count - 1
        span_s = self._costs.duration_s(decoding, self._keys, done)
        whole = self._costs.run(decoding, self._keys, done, self._record.inter_token)
        last = self._costs.cost(decoding, self._keys + decoding * done)
        part = _part(last, (now_s - self._start_s - span_s) / last[0])
        cost = (whole[0] + part[0], whole[1] + part[1], whole[2] + part[2], whole[3] + part[3], whole[4] + part[4])
        self._token_j += self._meter(cost, now_s, done) / decoding
        self._iteration += done
        self._keys += decoding * done


def _part(cost: Cost, share: float) -> Cost:
    time_s, static_j, core_j, memory_j, link_j = cost
    return time_s * share, static_j * share, core_j * share, memory_j * share, link_j * share
