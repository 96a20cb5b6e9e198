"""A serving cluster that takes one iteration after the other and looks at every request and every block in each: slow, and easy to believe."""

import math
from collections import deque
from fractions import Fraction

from effsim.sim.decode import DecodeCosts
from effsim.sim.registry import policy
from effsim.sim.request import InFlight


class Block:
    """A KV block: what stands in it, and how many requests hold it."""

    def __init__(self):
        self.name, self.holders = None, 0


class OracleReplica:
    """vLLM V1's scheduler and block manager, written down request by request and block by block."""

    def __init__(self, index, setup, pieces):
        self.index, self.setup = index, setup
        self.pick = policy("pick", setup.scheduler)
        self.costs = DecodeCosts(setup.step_model) if pieces else None
        self.waiting, self.running = deque(), []
        self.free = [Block() for _ in range(setup.kv_blocks)]  # the first is taken first
        self.cached, self.blocks, self.named, self.progress = {}, {}, {}, {}
        self.batch, self.cost, self.start_s, self.end_s = [], None, 0.0, math.inf
        self.iterations = self.preemptions = self.recomputed_tokens = self.found_tokens = self.computed_tokens = 0
        self.busy_s = self.energy_j = 0.0
        self.gaps_s = []
        self.finished = []

    @property
    def free_blocks(self):
        return len(self.free)

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
        contexts = [float(self.progressed(r, 0)) + 1 for r, _ in self.batch if decodes(r)]
        chunks = [(new, r.computed) for r, new in self.batch if not decodes(r)]
        if self.costs is None or chunks or min(contexts) < self.setup.step_model.longest_window:
            self.cost = self.setup.step_model.step(contexts if self.setup.speculation else [round(c) for c in contexts], chunks)
        else:
            self.cost = self.costs.cost(len(contexts), sum(contexts))
        self.start_s, self.end_s = now_s, now_s + self.cost[0]

    def share(self, request, budget, hit=0):
        if decodes(request):
            return min(budget, 1 if self.setup.speculation is None else 1 + self.setup.speculation.draft_tokens)
        return min(request.remaining - hit, budget, self.setup.long_prefill_tokens or budget)

    def progressed(self, request, more):
        """Tokens in the cache after so many more iterations of decoding, not rounded."""
        spec = self.setup.speculation
        if spec is None:
            return request.computed + more
        if request.id not in self.progress:
            gain = request.output_tokens - request.generated
            self.progress[request.id] = [request.computed, gain, spec.iterations(gain, f"{spec.seed} {request.id} {request.preemptions}"), 0]
        start, gain, span, done = self.progress[request.id]
        return start + Fraction(gain * (done + more), span)

    def after(self, request, new):
        return math.floor(self.progressed(request, 1)) if decodes(request) else request.computed + new

    def schedule(self, now_s):
        setup, self.batch, preempted = self.setup, [], self.preemptions
        was_empty, budget = not self.running, setup.max_num_batched_tokens
        if setup.batching == "prefill_first":
            for request in self.running:
                new = 0 if decodes(request) else self.share(request, budget)
                if new and setup.blocks_for(request.computed + new) - len(self.blocks[request.id]) <= len(self.free):
                    self.allocate(request, request.computed + new)
                    self.batch.append((request, new))
                    budget -= new
            self.admit(budget, now_s)
            if self.batch:
                return
            budget = setup.max_num_batched_tokens
        place = 0
        while place < len(self.running) and budget > 0:
            request = self.running[place]
            new = self.share(request, budget)
            while not self.allocate(request, self.after(request, new)):
                last = max(self.running, key=lambda r: (r.priority, r.arrival_s, r.id)) if setup.scheduler == "priority" else self.running[-1]
                for entry in [entry for entry in self.batch if entry[0] is last]:
                    self.batch.remove(entry)
                    budget += entry[1]
                    place -= 1
                self.preempt(last)
                if last is request:
                    break
            if request not in self.running:
                if self.batch:
                    break
                continue
            self.batch.append((request, new))
            budget -= new
            place += 1
        if self.preemptions == preempted and setup.batching != "prefill_first" and (was_empty or setup.batching != "static"):
            self.admit(budget, now_s)

    def admit(self, budget, now_s):
        setup, size = self.setup, self.setup.block_size
        while self.waiting and budget > 0 and len(self.running) < setup.max_num_seqs:
            place = self.pick(self.waiting, now_s)
            request = self.waiting[place]
            found = [] if request.computed else self.found(request)
            hit = len(found) * size
            told = request.prefix is not None or request.session >= 0
            if not hit and not told and not request.preemptions and not request.computed:
                hit = min(math.floor(setup.prefix_hit_ratio * request.prompt_tokens), request.prompt_tokens - 1) // size * size
            new = self.share(request, budget, hit)
            blocks = setup.blocks_for(hit + self.after(request, new)) - len(found)
            if blocks + sum(not block.holders for block in found) > len(self.free) or (hit + new < request.remaining and not setup.chunked_prefill):
                return
            del self.waiting[place]
            for block in found:
                if not block.holders:
                    self.free.remove(block)
                block.holders += 1
            self.blocks[request.id], self.named[request.id] = found, len(found)
            request.computed += hit
            request.remaining -= hit
            self.found_tokens += hit
            assert self.allocate(request, self.after(request, new))
            if request.first_scheduled_s < 0.0:
                request.first_scheduled_s = now_s
            self.running.append(request)
            self.batch.append((request, new))
            budget -= new

    def name(self, request, place):
        if request.prefix is not None and place < len(request.prefix):
            return request.prefix[place]
        return ("session", request.session, place) if request.session >= 0 else ("own", request.id, place)

    def found(self, request):
        """The leading blocks that are in the cache; the last token is computed, or the last two of what goes on."""
        found, setup = [], self.setup
        most = (request.remaining - (2 if request.generated else 1)) // setup.block_size
        if request.session >= 0 and not request.preemptions:
            most = min(most, request.prefix_tokens // setup.block_size)
        if setup.finds_prefixes:
            while len(found) < most and self.name(request, len(found)) in self.cached:
                found.append(self.cached[self.name(request, len(found))])
        return found

    def allocate(self, request, tokens):
        """Give a request blocks for so many tokens and names to the full ones; False where too few are free."""
        held, missing = self.blocks[request.id], self.setup.blocks_for(tokens) - len(self.blocks[request.id])
        if missing > len(self.free):
            return False
        for _ in range(missing):
            block = self.free.pop(0)
            if block.name is not None:
                del self.cached[block.name]
            block.name, block.holders = None, 1
            held.append(block)
        for _ in range(-missing):  # a window that moves on gives blocks back
            self.free.append(held.pop())
        if self.setup.finds_prefixes:
            for place in range(self.named[request.id], tokens // self.setup.block_size):
                name = self.name(request, place)
                if name in self.cached and name[0] == "own":  # of an earlier life of the request
                    self.cached.pop(name).name = None
                if name not in self.cached:
                    held[place].name, self.cached[name] = name, held[place]
                self.named[request.id] = place + 1
        return True

    def release(self, request):
        for block in reversed(self.blocks.pop(request.id)):
            block.holders -= 1
            if not block.holders:
                self.free.append(block)
        self.progress.pop(request.id, None)

    def preempt(self, victim):
        self.running.remove(victim)
        for block in self.blocks[victim.id][victim.computed // self.setup.block_size :]:  # named for an iteration that it will not see
            if block.name is not None:
                del self.cached[block.name]
                block.name = None
        self.release(victim)
        self.recomputed_tokens += victim.computed
        self.preemptions += 1
        victim.computed = 0
        victim.remaining = victim.prompt_tokens + victim.generated
        victim.preemptions += 1
        self.waiting.appendleft(victim)

    def retire(self, now_s):
        if not self.batch:
            return
        self.iterations += 1
        self.busy_s += self.cost[0]
        energy_j = sum(self.cost[1:])
        self.energy_j += energy_j
        token_j = energy_j / sum(new for _, new in self.batch)
        for request, new in self.batch:
            request.energy_j += token_j * new
            self.computed_tokens += new
            if decodes(request) and self.setup.speculation:
                tokens = self.after(request, new)
                self.progress[request.id][3] += 1
                request.generated += tokens - request.computed
                request.computed = tokens
            else:
                request.computed += new
                request.remaining -= new
                if request.remaining:
                    continue
                request.remaining = 1
                request.generated += 1
            if request.first_token_s < 0.0:
                request.first_token_s = now_s
            else:
                self.gaps_s.append(now_s - request.last_token_s)
            request.last_token_s = now_s
            if request.generated == request.output_tokens:
                self.release(request)
                self.running.remove(request)
                self.finished.append(request)


def decodes(request):
    return request.remaining == 1 and request.generated > 0


def simulate(trace, setups, router="round_robin", concurrency=None, *, pieces=False, change=lambda request: None):
    """Return (requests by id, replicas, dropped ids); at equal times requests arrive before an iteration ends.

    ``pieces``: iterations that only decode cost what :class:`DecodeCosts` says; else all are asked of the step model.
    ``change`` may alter each request before the run.
    """
    replicas = [OracleReplica(index, setup, pieces) for index, setup in enumerate(setups)]
    route = policy("route", router)
    columns = (trace.arrival_s.tolist(), trace.prompt_tokens.tolist(), trace.output_tokens.tolist())
    requests = [InFlight(number, *row) for number, row in enumerate(zip(*columns, strict=True))]
    for request in requests:
        change(request)
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
