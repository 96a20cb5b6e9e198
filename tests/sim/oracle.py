"""A serving cluster that takes one iteration after the other and looks at every request in each: slow, and easy to believe."""

import math
from collections import deque

from effsim.sim.decode import DecodeCosts
from effsim.sim.registry import policy
from effsim.sim.request import InFlight


class OracleReplica:
    """vLLM V1's scheduler, written down request by request."""

    def __init__(self, index, setup, pieces):
        self.index, self.setup = index, setup
        self.pick = policy("pick", setup.scheduler)
        self.costs = DecodeCosts(setup.step_model) if pieces else None
        self.waiting, self.running = deque(), []
        self.free_blocks = setup.kv_blocks
        self.batch, self.cost, self.start_s, self.end_s = [], None, 0.0, math.inf
        self.iterations = self.preemptions = self.recomputed_tokens = 0
        self.busy_s = self.energy_j = 0.0
        self.gaps_s = []
        self.finished = []

    @property
    def outstanding(self):
        return len(self.waiting) + len(self.running)

    def receive(self, request, now_s):
        request.replica = self.index
        self.waiting.append(request)
        if self.end_s == math.inf:
            self.end_s, self.batch = now_s, []  # choose a batch once all that arrive now are here

    def boundary(self):
        now_s = self.end_s
        self.retire(now_s)
        self.schedule(now_s)
        if not self.batch:
            assert not self.outstanding
            self.end_s = math.inf
            return
        contexts = [r.computed + 1 for r, _ in self.batch if r.remaining == 1 and r.generated]
        chunks = [(new, r.computed) for r, new in self.batch if not (r.remaining == 1 and r.generated)]
        if self.costs is None or chunks or min(contexts) < self.setup.step_model.longest_window:
            self.cost = self.setup.step_model.step(contexts, chunks)
        else:
            self.cost = self.costs.cost(len(contexts), sum(contexts))
        self.start_s, self.end_s = now_s, now_s + self.cost[0]

    def schedule(self, now_s):
        setup, budget, preempted = self.setup, self.setup.max_num_batched_tokens, self.preemptions
        self.batch = []
        for request in self.running:
            if budget == 0:
                break
            new = min(request.remaining, budget)
            if not self.allocate(request, request.computed + new):
                break
            self.batch.append((request, new))
            budget -= new
        while self.preemptions == preempted and self.waiting and budget > 0 and len(self.running) < setup.max_num_seqs:
            place = self.pick(self.waiting, now_s)
            request = self.waiting[place]
            new = min(request.remaining, budget)
            blocks = setup.blocks_for(new)
            if blocks > self.free_blocks or (new < request.remaining and not setup.chunked_prefill):
                break
            del self.waiting[place]
            self.free_blocks -= blocks
            request.blocks = blocks
            if request.first_scheduled_s < 0.0:
                request.first_scheduled_s = now_s
            self.running.append(request)
            self.batch.append((request, new))
            budget -= new

    def allocate(self, request, tokens):
        missing = self.setup.blocks_for(tokens) - request.blocks
        while missing > self.free_blocks:
            victim = self.running.pop()
            self.free_blocks += victim.blocks
            self.recomputed_tokens += victim.computed
            self.preemptions += 1
            victim.blocks = victim.computed = 0
            victim.remaining = victim.prompt_tokens + victim.generated
            victim.preemptions += 1
            self.waiting.appendleft(victim)
            if victim is request:
                return False
        self.free_blocks -= missing
        request.blocks += missing
        return True

    def retire(self, now_s):
        if not self.batch:
            return
        self.iterations += 1
        self.busy_s += self.cost[0]
        energy_j = sum(self.cost[1:])
        self.energy_j += energy_j
        token_j = energy_j / sum(new for _, new in self.batch)
        for request, new in self.batch:
            request.computed += new
            request.energy_j += token_j * new
            request.remaining -= new
            if request.remaining:
                continue
            request.remaining = 1
            request.generated += 1
            if request.generated == 1:
                request.first_token_s = now_s
            else:
                self.gaps_s.append(now_s - request.last_token_s)
            request.last_token_s = now_s
            if request.generated == request.output_tokens:
                self.free_blocks += request.blocks
                self.running.remove(request)
                self.finished.append(request)


def simulate(trace, setups, router="round_robin", concurrency=None, *, pieces=False):
    """Return (requests by id, replicas, dropped ids); at equal times requests arrive before an iteration ends.

    ``pieces``: iterations that only decode cost what :class:`DecodeCosts` says; else all are asked of the step model.
    """
    replicas = [OracleReplica(index, setup, pieces) for index, setup in enumerate(setups)]
    route = policy("route", router)
    columns = (trace.arrival_s.tolist(), trace.prompt_tokens.tolist(), trace.output_tokens.tolist())
    requests = [InFlight(number, *row) for number, row in enumerate(zip(*columns, strict=True))]
    coming, dropped, routed = deque(requests), [], 0
    now_s = 0.0
    while True:
        busy = min(replicas, key=lambda replica: replica.end_s)
        while coming and (coming[0].arrival_s <= busy.end_s if concurrency is None else routed - sum(len(r.finished) for r in replicas) < concurrency):
            request = coming.popleft()
            if concurrency is None:
                now_s = request.arrival_s
            else:
                request.arrival_s = now_s
            able = [replica for replica in replicas if replica.setup.refusal(request) is None]
            if able:
                able[route(able, request, routed, 0)].receive(request, now_s)
                routed += 1
            else:
                dropped.append(request.id)
            busy = min(replicas, key=lambda replica: replica.end_s)
        if busy.end_s == math.inf:
            return requests, replicas, dropped
        now_s = busy.end_s
        busy.boundary()
