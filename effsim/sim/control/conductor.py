"""A cluster to which more happens than arrivals: what is due next is done next, on SimPy's clock."""

import copy
import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

import simpy

from effsim.sim.cluster import Cluster
from effsim.sim.control.agenda import ARRIVAL, Agenda
from effsim.sim.control.fleet import DRAINING, GONE, Fleet, Machine
from effsim.sim.control.source import Source
from effsim.sim.control.unit import Unit
from effsim.sim.options import Progress, ServingOptions
from effsim.sim.recorder import Recorder
from effsim.sim.replica import Replica
from effsim.sim.request import InFlight
from effsim.sim.setup import ReplicaSetup
from effsim.workload.traces import Trace

REJECTED_REPLICA: Final = "rejected: every queue had max_waiting_per_replica requests"
REJECTED_CLUSTER: Final = "rejected: max_waiting requests were waiting"
TIMED_OUT: Final = "left: waited longer than max_wait"
LOST: Final = "lost: its replica failed"
NO_REPLICA: Final = "no replica that could serve it was left"
EARLIER_TURN: Final = "an earlier turn of its session was not served"


class Conductor(Cluster):
    """Places requests on the replicas that are on, and holds them while none is.

    Attributes:
        held: Requests that wait for a replica to come on.
        retries: Requests placed anew after a failure.
        on_hold: Called with the time when a request is held.
    """

    def __init__(self, requests: Trace, setups: Sequence[ReplicaSetup], options: ServingOptions, progress: Progress | None) -> None:
        self.units = options.units or tuple(Unit() for _ in setups)
        self.agenda = Agenda()
        self.held: deque[InFlight] = deque()
        self._held_since_s: dict[int, float] = {}
        self._whole: dict[int, int] = {}
        self._deadlines: deque[tuple[float, InFlight]] = deque()
        self._admission = options.operation.admission
        self.retries = self.transfers = 0
        self.transfer_bytes = self.transfer_j = 0.0
        self.tries: dict[int, int] = {}
        self.on_hold: list[Callable[[float], None]] = []
        super().__init__(requests, setups, options, progress)
        self.fleet = Fleet(self.replicas, self.units, self.agenda)
        self.fleet.on_ready.append(lambda _machine, now_s: self.release(now_s))
        self.source = Source(requests, self.arrivals(), self.request, options.concurrency)
        handing = [machine for machine in self.fleet.machines if machine.unit.role == "prefill"]
        self._has_links = any(machine.unit.link is not None for machine in handing)
        self._watched = self.fleet.machines if self.source.follows else handing

    def _finished(self) -> Callable[[InFlight], None]:
        return self.finished

    def _record(self, index: int) -> Recorder:
        if self.units[index].role != "prefill":
            return self.recorder
        record = copy.copy(self.recorder)
        record.finished = self.prefilled
        return record

    def admit(self, request: InFlight, now_s: float) -> None:
        """Let a request in that has just arrived, unless too many wait."""
        limit = self._admission
        if limit.max_waiting is not None and self._waiting(now_s) >= limit.max_waiting:
            self.refuse(request, REJECTED_CLUSTER, now_s)
            return
        if limit.max_wait is not None:
            self._deadlines.append((now_s + limit.max_wait, request))
            if len(self._deadlines) == 1:
                self.agenda.add(now_s + limit.max_wait, self._expire, is_background=True)
        self.place_on(request, now_s, limit.max_waiting_per_replica)

    def _waiting(self, now_s: float) -> int:
        for replica in self.replicas:
            replica.advance(now_s)
        return len(self.held) + sum([len(replica.waiting) for replica in self.replicas])

    def place_on(self, request: InFlight, now_s: float, longest_queue: int | None = None) -> None:
        """Give a request to a replica that is on and can serve it; hold it where none is, drop it where none will be."""
        ready = self.fleet.filled if request.computed else self.fleet.fresh
        if request.kv_tokens > self.most_tokens:
            ready = [replica for replica in ready if self.fleet.machines[replica.index].refusal(request) is None] if self._kept(request) else []
        if not ready:
            self._hold(request, now_s)
            return
        if longest_queue is not None:
            for replica in ready:
                replica.advance(now_s)
            ready = [replica for replica in ready if len(replica.waiting) < longest_queue]
            if not ready:
                self.refuse(request, REJECTED_REPLICA, now_s)
                return
        if self.reads_replicas and self._has_links and not request.computed:  # of those that a router holds equal it takes the first
            ready = sorted(ready, key=lambda replica: self.fleet.machines[replica.index].link_free_s)
        machine = self.fleet.machines[self.give(request, ready, now_s).index]
        if machine.unit.role == "prefill":  # it ends there with the next token
            self._whole[request.id], request.output_tokens = request.output_tokens, request.generated + 1

    def able(self, request: InFlight) -> list[Machine]:
        """Return the machines that may serve a request, now or when they are on."""
        beside = "prefill" if request.computed else "decode"
        return [m for m in self.fleet.machines if m.standing != GONE and m.unit.role != beside and m.refusal(request) is None]

    def _kept(self, request: InFlight) -> bool:
        """Whether some machine can hold the whole of a request at its end."""
        return any(m.standing != GONE and m.unit.role != "prefill" and m.refusal(request) is None for m in self.fleet.machines)

    def _hold(self, request: InFlight, now_s: float) -> None:
        if not self.able(request) or not self._kept(request):
            why = next((found for replica in self.replicas if (found := replica.setup.refusal(request)) is not None), NO_REPLICA)
            self.refuse(request, why, now_s)
            return
        self.held.append(request)
        self._held_since_s.setdefault(request.id, now_s)
        for follow in self.on_hold:
            follow(now_s)

    def release(self, now_s: float) -> None:
        """Place what is held anew, as a replica has come on, or gone for good."""
        waiting, self.held = self.held, deque()
        for request in waiting:
            self.place_on(request, now_s)
        still = {request.id for request in self.held}
        for number in [number for number in self._held_since_s if number not in still]:
            self._count_wait(number, now_s)

    def _count_wait(self, number: int, now_s: float) -> None:
        since_s = self._held_since_s.pop(number, now_s)
        self.recorder.bins.add(since_s, now_s, (0.0, 0.0, 0.0, now_s - since_s, 0.0))

    def _expire(self, now_s: float) -> None:
        """Let those leave who have waited for too long and were never scheduled."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now_s:
            request = deadlines.popleft()[1]
            if request.id in self._held_since_s:
                self.held.remove(request)
                self._count_wait(request.id, now_s)
                self.refuse(request, TIMED_OUT, now_s)
            elif request.first_scheduled_s < 0.0 and request.id not in self.dropped:
                replica = self.replicas[request.replica]
                replica.advance(now_s)
                if request.first_scheduled_s < 0.0:
                    replica.withdraw(request, now_s)
                    self.refuse(request, TIMED_OUT, now_s)
        if deadlines:
            self.agenda.add(deadlines[0][0], self._expire, is_background=True)

    def refuse(self, request: InFlight, reason: str, now_s: float) -> None:
        """Count a request as not served, and with it the later turns of its session."""
        request.output_tokens = self._whole.pop(request.id, request.output_tokens)
        self.drop(request, reason)
        turn = self.source.ended(request, now_s)
        while turn is not None:
            self.drop(turn, EARLIER_TURN)
            turn = self.source.ended(turn, now_s)

    def finished(self, request: InFlight) -> None:
        """Log a request that has its last token; the next turn of its session comes after the time to think."""
        self.log.add(request)
        turn = self.source.ended(request, request.last_token_s) if self.source.follows else None
        if turn is not None:
            self.agenda.add(turn.arrival_s, lambda now_s: self.admit(turn, now_s), rank=ARRIVAL)

    def prefilled(self, request: InFlight) -> None:
        """Send the cache of a request whose prompt has been read to where it decodes; transfers of a replica go one after the other."""
        request.output_tokens, request.blocks = self._whole.pop(request.id), 0
        if request.generated == request.output_tokens:
            self.finished(request)
            return
        machine, now_s = self.fleet.machines[request.replica], request.last_token_s
        link, arrives_s = machine.unit.link, now_s
        if link is not None:
            size_bytes = machine.unit.kv_bytes_per_token * machine.replica.setup.step_model.cached_tokens(request.computed)
            starts_s = max(now_s, machine.link_free_s)
            machine.link_free_s = starts_s + size_bytes / link.bytes_per_s
            arrives_s = machine.link_free_s + link.latency_s
            self._charge(machine.replica, request, link.energy_j_per_byte * size_bytes, (starts_s, arrives_s))
            self.transfers += 1
            self.transfer_bytes += size_bytes
        self.agenda.add(arrives_s, lambda at_s: self.place_on(request, at_s), rank=ARRIVAL)

    def _charge(self, replica: Replica, request: InFlight, energy_j: float, span_s: tuple[float, float]) -> None:
        replica.link_j += energy_j
        request.energy_j += energy_j
        self.transfer_j += energy_j
        self.recorder.bins.add(*span_s, (energy_j, energy_j / replica.setup.host.psu_efficiency, 0.0, 0.0, 0.0))

    def lose(self, requests: Sequence[InFlight], now_s: float, most_tries: int) -> None:
        """Place requests anew that a failure threw out, or count them as lost."""
        for request in requests:
            request.output_tokens = self._whole.pop(request.id, request.output_tokens)
            request.computed = request.blocks = 0
            request.remaining = request.prompt_tokens + request.generated
            tried = self.tries.get(request.id, 0)
            if tried >= most_tries:
                self.refuse(request, LOST, now_s)
                continue
            self.tries[request.id] = tried + 1
            self.retries += 1
            self.place_on(request, now_s)

    def _earliest(self) -> tuple[float, Machine | None]:
        """Return the end of the next leg at whose end something may follow, and whose it is."""
        found: tuple[float, Machine | None] = (math.inf, None)
        for machine in self._watched if not self.fleet.draining else (*self._watched, *self.fleet.draining):
            if machine.replica.end_s < found[0]:
                found = (machine.replica.end_s, machine)
        return found

    def _is_over(self, now_s: float) -> bool:
        """Whether nothing is left to come and nothing under way at a time when only background entries are due."""
        if self.agenda.foreground or self.held or self.source.next_s < math.inf:
            return False
        for replica in self.replicas:
            replica.advance(now_s)
        return not any(replica.outstanding for replica in self.replicas)

    def play(self, env: simpy.Environment) -> Generator[simpy.Event, Any, None]:
        """Do what is due next until nothing is: arrivals, then the agenda, then the ends of legs that are waited for."""
        agenda, source = self.agenda, self.source
        while True:
            due_s = agenda.next_s if agenda else math.inf
            leg_s, machine = self._earliest()
            time_s = min(source.next_s, due_s, leg_s)
            if time_s == math.inf or (due_s <= min(source.next_s, leg_s) and self._is_over(due_s)):
                break
            if time_s > env.now:
                yield env.timeout(time_s - env.now)
            if source.next_s == time_s:
                self.admit(source.take(time_s), time_s)
                self.report()
            elif due_s == time_s:
                agenda.act()
            elif machine is not None:
                machine.replica.advance(math.nextafter(leg_s, math.inf))
                if machine.standing == DRAINING:
                    self.fleet.check_drained(machine, leg_s)
        for request in list(self.held):
            self._count_wait(request.id, float(env.now))
            self.refuse(request, NO_REPLICA, float(env.now))
