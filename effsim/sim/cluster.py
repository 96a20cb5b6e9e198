"""The replicas of a serving run, and what became of its requests."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from effsim.errors import SpecError
from effsim.sim.decode import DecodeCosts
from effsim.sim.legs import LegLog
from effsim.sim.log import RequestLog
from effsim.sim.options import Progress, ServingOptions
from effsim.sim.recorder import Recorder
from effsim.sim.registry import policy, reads_replicas
from effsim.sim.replica import Replica
from effsim.sim.request import InFlight
from effsim.sim.setup import ReplicaSetup
from effsim.workload.traces import Trace

BlockName = tuple[int, int]
PROGRESS_INTERVAL_S: Final = 0.2
ARRIVALS_AT_ONCE: Final = 65_536  # turned into Python numbers together


class Cluster:
    """Replicas behind a router.

    Attributes:
        dropped: Request number -> the request that was not served, and why.
        routed: Requests placed so far.
    """

    def __init__(self, requests: Trace, setups: Sequence[ReplicaSetup], options: ServingOptions, progress: Progress | None) -> None:
        self.requests, self.seed = requests, options.seed
        self.log = RequestLog(keep=options.keep_requests, limits=options.limits, sink=options.sink)
        self.recorder = Recorder(options.bin_s, options.max_bins, self._finished())
        self.legs = LegLog(options.most_legs) if options.most_legs else None
        if self.legs is not None:
            self.recorder.on_leg = self.legs.add
        self.route = policy("route", options.router)
        self.reads_replicas = reads_replicas(options.router)
        costs = {id(setup.step_model): DecodeCosts(setup.step_model) for setup in setups}
        self.replicas = [
            Replica(index, setup, policy("pick", setup.scheduler), costs[id(setup.step_model)], self._record(index)) for index, setup in enumerate(setups)
        ]
        self.most_tokens = min(setup.most_tokens for setup in setups)
        self._tells = any(column is not None for column in (requests.priority, requests.session, requests.prefix_tokens, requests.hash_ids))
        self._names_blocks = any(setup.finds_prefixes for setup in setups)
        self._block_size = setups[0].block_size
        if requests.hash_ids is not None and self._names_blocks and any(setup.block_size != self._block_size for setup in setups):
            raise SpecError("engine.block_size: replicas that look up block hashes need one block size")
        self.dropped: dict[int, tuple[InFlight, str]] = {}
        self.routed = 0
        self._progress, self._due_s = progress, 0.0

    def _finished(self) -> Callable[[InFlight], None]:
        """Return what is to be done with a request that has its last token."""
        return self.log.add

    def _record(self, index: int) -> Recorder:
        """Return what a replica writes to."""
        return self.recorder

    def report(self) -> None:
        """Tell how far the run is, now and then."""
        if self._progress is not None and time.monotonic() >= self._due_s:
            self._progress(self.log.completed + len(self.dropped), len(self.requests))
            self._due_s = time.monotonic() + PROGRESS_INTERVAL_S

    def arrivals(self) -> Iterator[InFlight]:
        """Yield the requests in the order of their arrival."""
        trace = self.requests
        for first in range(0, len(trace), ARRIVALS_AT_ONCE):
            part = slice(first, first + ARRIVALS_AT_ONCE)
            columns = (trace.arrival_s[part].tolist(), trace.prompt_tokens[part].tolist(), trace.output_tokens[part].tolist())
            for number, (arrival_s, prompt, output) in enumerate(zip(*columns, strict=True), start=first):
                request = InFlight(number, arrival_s, prompt, output)
                yield self._told(request) if self._tells else request

    def request(self, row: int) -> InFlight:
        """Return the request of a row of the trace."""
        trace = self.requests
        return self._told(InFlight(row, float(trace.arrival_s[row]), int(trace.prompt_tokens[row]), int(trace.output_tokens[row])))

    def _told(self, request: InFlight) -> InFlight:
        """Give a request what the trace tells of it beside its lengths."""
        trace, row = self.requests, request.id
        if trace.priority is not None:
            request.priority = int(trace.priority[row])
        if trace.session is not None:
            request.session = int(trace.session[row])
        if trace.prefix_tokens is not None:
            request.prefix_tokens = int(trace.prefix_tokens[row])
        if trace.hash_ids is not None and self._names_blocks:
            request.prefix = block_names(trace.hash_ids.of(row).tolist(), trace.hash_ids.block_tokens, request.prompt_tokens, self._block_size)
        return request

    def drop(self, request: InFlight, reason: str) -> None:
        """Count a request as not served."""
        self.dropped[request.id] = (request, reason)

    def place(self, request: InFlight, now_s: float) -> Replica | None:
        """Give a request to a replica that can serve it, or drop it with the reason."""
        replicas: Sequence[Replica] = self.replicas
        if request.kv_tokens > self.most_tokens:
            replicas = [one for one in self.replicas if one.setup.refusal(request) is None]
        if not replicas:
            self.drop(request, str(self.replicas[0].setup.refusal(request)))
            return None
        return self.give(request, replicas, now_s)

    def give(self, request: InFlight, replicas: Sequence[Replica], now_s: float) -> Replica:
        """Let the router choose one of some replicas, and queue the request there."""
        if self.reads_replicas:
            for replica in replicas:
                if replica.end_s < now_s:
                    replica.advance(now_s)
        chosen: Replica = replicas[self.route(replicas, request, self.routed, self.seed)]
        if chosen.end_s < now_s:
            chosen.advance(now_s)
        chosen.receive(request, now_s)
        self.routed += 1
        return chosen


def block_names(ids: Sequence[int], block_tokens: int, prompt_tokens: int, block_size: int) -> list[BlockName]:
    """Return the names of the full blocks of a prompt, from names of blocks of another size.

    A name of the trace stands for all tokens up to the end of its block, so that of the block with a KV block's last token, with the place of
    the KV block, names all tokens up to there.

    >>> block_names([7, 8], block_tokens=4, prompt_tokens=7, block_size=2)
    [(7, 0), (7, 1), (8, 2)]
    """
    full = min(prompt_tokens, len(ids) * block_tokens) // block_size
    return [(ids[((place + 1) * block_size - 1) // block_tokens], place) for place in range(full)]
