"""One replica: the scheduler of vLLM V1 over a paged KV cache, many iterations at a step.

A replica is advanced to a time by whoever asks; between two boundaries (the end of a *leg*) nothing about it changes but counts that
grow evenly. A leg is one iteration with prompts in it, or as many iterations that only decode as fit before the batch changes: the
next completion, the last free block, or, once a request arrives that could be admitted, the end of the iteration then under way.
The sums over such a leg are closed forms (:mod:`effsim.sim.decoding`). Where requests lose their blocks, where the token budget is
shorter than the batch, or where a sequence is still shorter than an attention window, a leg is one iteration scheduled request by
request (:mod:`effsim.sim.stepwise`). At equal times requests arrive before an iteration ends.
"""

import math
from collections import deque

from effsim.sim.cache import NOTHING, PrefixCache
from effsim.sim.decode import DecodeCosts
from effsim.sim.decoding import DECODING, IDLE, MIXED, STEPWISE, WAKING, Decoding, part_of
from effsim.sim.recorder import Recorder
from effsim.sim.registry import victim_of
from effsim.sim.request import InFlight
from effsim.sim.setup import PREFILL_FIRST, STATIC, Pick, ReplicaSetup
from effsim.sim.stepwise import Batch, Queues, contexts_and_chunks, divided, sample, schedule, take_in


class Replica(Decoding):
    """The queues, the cache and the meters of one replica.

    Attributes:
        waiting: Requests in the queue.
        most_tokens: Every request that needs no more tokens in the cache can be served here.
        asked_tokens: Of requests at their admission, where prefixes are found again.
        found_tokens: Those of them that were in the cache.
    """

    __slots__ = (
        "_batch", "_most_seqs", "_next_costs", "_prefill_first", "_read", "_ready", "_reorders", "_static", "_victim", "asked_tokens", "found_tokens",
        "most_tokens", "pick", "preemptions", "recomputed_tokens", "waiting",
    )  # fmt: skip

    def __init__(self, index: int, setup: ReplicaSetup, pick: Pick, costs: DecodeCosts, record: Recorder) -> None:
        super().__init__(index, setup, costs, record)
        self.pick, self._victim = pick, victim_of(setup.scheduler)
        self.waiting: deque[InFlight] = deque()
        self.preemptions = self.recomputed_tokens = self.asked_tokens = self.found_tokens = 0
        self.most_tokens = setup.most_tokens
        self._most_seqs, self._reorders = setup.max_num_seqs, setup.scheduler != "fcfs"
        self._prefill_first, self._static = setup.batching == PREFILL_FIRST, setup.batching == STATIC
        self._next_costs: DecodeCosts | None = None
        self._batch: Batch = []
        self._ready = self._read = 0

    @property
    def outstanding(self) -> int:
        """Requests waiting and running."""
        return len(self.waiting) + len(self.members)

    def receive(self, request: InFlight, now_s: float) -> None:
        """Queue a request at a time up to which the replica has been advanced; what it decodes ends at the next iteration if it may enter."""
        request.replica = self.index
        self.waiting.append(request)
        if request.computed:
            self._ready += 1
        if self._leg == IDLE:
            self.account_idle(now_s)
            self._leg, self.end_s = WAKING, now_s
            return
        self._arrived += 1
        self._arrived_sum_s += now_s
        if self._leg == DECODING and not self._static and len(self.members) < self._most_seqs and (self._reorders or len(self.waiting) == 1):
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
        waiting = self.waiting
        if self._ready and waiting:
            self._stepwise = True
        if self._stepwise or not ((waiting or self._filling is not None) and self._begin_mixed(now_s)):
            if self._stepwise or (self._decoding and not self._begin_decoding(now_s)):
                self._begin_stepwise(now_s)
            elif not self._decoding:
                self._leg, self.end_s, self.idle_since_s, self._token_j = IDLE, math.inf, now_s, 0.0
        self._at_start = len(waiting)

    def _begin_mixed(self, now_s: float) -> bool:
        """Try a leg of one iteration with prompts in it; False where there is none to be had, or requests must be looked at one by one."""
        decoding, keys, filling = (0, 0.0, self._filling) if self._prefill_first else (self._decoding, self._keys, self._filling)
        budget = self.setup.max_num_batched_tokens - decoding * self._per_sequence
        needs = 0 if not decoding else self._needs[self._iteration % self._block_size] if self._even else self._blocks_taken(1)
        free = self.free_blocks - needs
        if budget < 0 or free < 0:
            self._stepwise = True
            return False
        batch: Batch = []
        if filling is not None:
            new = self.setup.share(filling, budget)
            blocks = self.setup.blocks_for(filling.computed + new) - filling.blocks
            if blocks > free or new == 0 or filling.decodes:
                self._stepwise = True
                return False
            free -= blocks
            budget -= new
            filling.blocks += blocks
            batch.append((filling, new))
        if self.cache is not None and self.cache.keyed:
            self._ahead = needs
            self.cache.take(needs)
        if self.cache is not None:
            for request, new in batch:
                self.cache.take(blocks)
                self.cache.fill(request, request.computed + new)
        if self.waiting and budget > 0 and len(self.members) < self._most_seqs and not (self._static and self.members):
            free, budget = self._admit(batch, free, budget, now_s)
        if not batch:
            return False
        self.free_blocks, self._ahead = free, 0
        self._leg, self._batch = MIXED, batch
        self._cost = self._step.step_at(decoding, keys, [(new, request.computed) for request, new in batch])
        self._count = self.setup.max_num_batched_tokens - budget
        self.end_s = now_s + self._cost[0]
        if not now_s < self.end_s < math.inf:
            self._refuse_end(now_s)
        return True

    def _admit(self, batch: Batch, free: int, budget: int, now_s: float) -> tuple[int, int]:
        """Admit from the queue into ``batch``; return the blocks and tokens that are left."""
        waiting, members, setup, cache, size = self.waiting, self.members, self.setup, self.cache, self._block_size
        most = setup.long_prefill_tokens or setup.max_num_batched_tokens
        cached_tokens, assumes = self._cached_tokens, setup.prefix_hit_ratio > 0.0
        while waiting and budget > 0 and len(members) < self._most_seqs:
            place = self.pick(waiting, now_s) if self._reorders else 0
            request = waiting[place]
            knows = cache is not None and (request.prefix is not None or request.session >= 0 or request.preemptions > 0)
            found = cache.find(request) if cache is not None and knows else NOTHING
            hit = found.blocks * size or (setup.assumed_hit(request) if assumes else 0)
            new = request.remaining - hit
            if new > budget or new > most:
                new = min(budget, most)
            blocks = -(-cached_tokens(hit + new) // size) - found.blocks
            if blocks + found.free > free or (hit + new < request.remaining and not setup.chunked_prefill):
                self._fading = found.blocks > 0
                break
            if place:
                del waiting[place]
            else:
                waiting.popleft()
            free -= blocks + found.free
            budget -= new
            request.blocks = blocks + found.blocks
            if cache is not None:
                self.asked_tokens += request.remaining
                self.found_tokens += hit
                if knows:
                    cache.hold(request, found)
                cache.take(blocks)
                if knows:
                    cache.fill(request, hit + new)
            take_in(request, hit, now_s)
            members[request.id] = request
            batch.append((request, new))
        return free, budget

    def _end_mixed(self, now_s: float) -> None:
        """Account for an iteration with prompts in it."""
        decoding = self._decoding
        energy_j = self._account(self._cost, now_s, 1, self.kv_blocks - self.free_blocks)
        token_j = energy_j / self._count
        if decoding and self._prefill_first:
            self._paused = True
        elif decoding:
            self._iteration += 1
            self._decoded_s = now_s
            self._record.inter_token.add(now_s - self._start_s, decoding)
            self._keys += self._growth
            self._token_j += token_j * self._per_sequence
            if self._ending[0][0] <= self._iteration:
                self._retire(now_s)
        filling, read = None, 0
        for request, new in self._batch:
            read += new
            if filling is not None:  # not the last in the order of admission
                self._stepwise = True
            request.computed += new
            request.energy_j += token_j * new
            request.remaining = left = request.remaining - new
            if left:
                filling = request
                continue
            request.remaining = 1
            request.generated += 1
            if request.first_token_s < 0.0:
                request.first_token_s = now_s
            else:
                self._record.inter_token.add(now_s - request.last_token_s)
            request.last_token_s = now_s
            if request.generated == request.output_tokens:
                self._end(request)
            else:
                self._join(request)
        self.prefill_j += token_j * read
        self._filling = filling

    def _begin_stepwise(self, now_s: float) -> None:
        """Begin an iteration request by request, every number of each made current."""
        self._spread()
        setup = self.setup
        queues = Queues(self.waiting, list(self.members.values()), self.free_blocks, self.cache, self._ahead)
        batch = schedule(queues, setup, (self.pick, self._victim), now_s)
        self.members = {request.id: request for request in queues.running}
        self.free_blocks, self._ahead = queues.free_blocks, 0
        self.preemptions += queues.preempted
        self.recomputed_tokens += queues.recomputed_tokens
        if self.cache is not None:
            self.asked_tokens += queues.asked_tokens
            self.found_tokens += queues.found_tokens
        if self._ready:
            self._ready = sum(request.computed > 0 for request in self.waiting)
        contexts, chunks = contexts_and_chunks(batch, setup.speculation)
        self._read = sum([new for new, _ in chunks])
        if chunks or not contexts or min(contexts) < self._window:
            self._cost = self._step.step(contexts, chunks)
        else:
            self._cost = self._costs.cost(len(contexts), sum(contexts))
        self._leg, self._batch, self._stepwise = STEPWISE, batch, True
        self._count = sum([new for _, new in batch])
        self.end_s = now_s + self._cost[0]
        if not now_s < self.end_s < math.inf:
            self._refuse_end(now_s)

    def _end_stepwise(self, now_s: float) -> None:
        """Account for an iteration request by request, and return to the closed form where that is exact."""
        token_j = self._account(self._cost, now_s, 1, self.kv_blocks - self.free_blocks) / self._count
        self.prefill_j += token_j * self._read
        for request in sample(self._batch, token_j, (self._start_s, now_s), self._record.inter_token):
            self._end(request)
        self._gather(now_s)

    def _gather(self, now_s: float) -> None:
        """Return to the closed form if every running request but the last decodes, none waits its turn, and blocks are not scarce."""
        decoding, filling = divided(list(self.members.values()))
        late = self._prefill_first and any(request.last_token_s != now_s for request in decoding)
        if len(decoding) > self.free_blocks or len(decoding) * self._per_sequence > self.setup.max_num_batched_tokens:
            return
        if not all(one.decodes and one.computed + 1 >= self._window and (late or one.last_token_s == now_s) for one in decoding):
            return
        self._filling, self._stepwise, self._paused, self._decoded_s = filling, False, late, -math.inf
        for request in decoding:
            self._join(request)

    def retune(self, costs: DecodeCosts, now_s: float) -> None:
        """Take other costs of the same model, as of another clock or power limit, from the next iteration on."""
        self.cut(now_s)
        self._next_costs = costs
        if self._leg == IDLE:
            self.account_idle(now_s)
            self._take_costs(costs)

    def _take_costs(self, costs: DecodeCosts) -> None:
        self._costs, self._step, self._next_costs = costs, costs.step, None

    def prefix_hit(self, request: InFlight) -> int:
        """Return the tokens of a request that would be found in the cache now."""
        return 0 if self.cache is None else self.cache.find(request).blocks * self._block_size

    def withdraw(self, request: InFlight, now_s: float) -> None:
        """Take a request out of the queue at a time up to which the replica has been advanced."""
        self.waiting.remove(request)
        self._ready -= request.computed > 0
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
            part = part_of(self._cost, (now_s - self._start_s) / self._cost[0])
            token_j = self._account(part, now_s, 0, self.kv_blocks - self.free_blocks) / self._count
            if self._leg == MIXED and not self._prefill_first:
                self._token_j += token_j * self._per_sequence
            self.prefill_j += token_j * (self._read if self._leg == STEPWISE else sum([new for _, new in self._batch]))
            for request, new in self._batch:
                request.energy_j += token_j * new
        self._spread()
        evicted = [*self.members.values(), *self.waiting]
        for request in evicted:
            request.computed = request.blocks = request.span = 0
            request.remaining = request.prompt_tokens + request.generated
            request.held = None
        self.members.clear()
        self.waiting.clear()
        self.cache = None if self.cache is None else PrefixCache(self._block_size)
        self.free_blocks, self._stepwise, self._paused, self._ready, self._ahead = self.kv_blocks, False, False, 0, 0
        if self._leg != IDLE:
            self._leg, self.end_s, self.idle_since_s, self._token_j = IDLE, math.inf, now_s, 0.0
        if self._next_costs is not None:
            self._take_costs(self._next_costs)
        return evicted
