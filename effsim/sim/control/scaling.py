"""How many replicas of a pool are on."""

import math
from collections import deque
from collections.abc import Sequence

from effsim.sim.control.conductor import NO_REPLICA, Conductor
from effsim.sim.control.fleet import DOWN, DRAINING, LOADING, OFF, ON, Machine
from effsim.sim.replica import Replica
from effsim.specs.operation import Autoscaling


class Scaling:
    """Starts and stops the machines of one pool.

    Every ``interval`` the wanted number is ``ceil(on · metric / target)``, on the replicas that serve; within ``tolerance`` of the target it
    is what is on. More are started up to the least number wanted during ``up_cooldown``, fewer kept down to the greatest during
    ``down_cooldown`` (the stabilisation windows of Kubernetes' HorizontalPodAutoscaler, autoscaling/v2). Machines that are still draining
    are taken back, then the first that is off is started; that with the fewest requests is drained and then stopped. Where none is on or
    being started, a request that arrives starts one.
    """

    def __init__(self, conductor: Conductor, machines: Sequence[Machine], spec: Autoscaling) -> None:
        self._conductor, self._fleet, self._machines, self._spec = conductor, conductor.fleet, list(machines), spec
        self.most = min(spec.maximum or len(self._machines), len(self._machines))
        self.least = min(spec.minimum, self.most)
        self._wanted: deque[tuple[float, int]] = deque()
        self._busy: dict[int, float] = {}
        self._looked_s = 0.0
        initial = self.most if spec.initial is None else min(spec.initial, self.most)
        self._wanted.append((0.0, max(initial, self.least)))
        for machine in self._machines[max(initial, self.least) :]:
            self._fleet.keep_off(machine)
        conductor.agenda.add(spec.interval, self._look, is_background=True)

    def _those(self, *standings: str) -> list[Machine]:
        return [machine for machine in self._machines if machine.standing in standings]

    def awake(self, now_s: float) -> None:
        """Start a machine where a request waits and none is on or about to be."""
        if not self._those(ON, LOADING, DOWN) and any(machine in self._machines for one in self._conductor.held for machine in self._conductor.able(one)):
            self._start(1, now_s)

    def _look(self, now_s: float) -> None:
        self._conductor.agenda.add(now_s + self._spec.interval, self._look, is_background=True)
        for machine in self._machines:
            machine.replica.advance(now_s)
        on = self._those(ON)
        started = len(on) + len(self._those(LOADING))
        wanted = self._want(on, started, now_s)
        self._wanted.append((now_s, wanted))
        longest_s = max(self._spec.up_cooldown, self._spec.down_cooldown)
        while self._wanted[0][0] < now_s - longest_s:
            self._wanted.popleft()
        up = min(number for at_s, number in self._wanted if at_s >= now_s - self._spec.up_cooldown)
        down = max(number for at_s, number in self._wanted if at_s >= now_s - self._spec.down_cooldown)
        if up > started:
            self._start(up - started, now_s)
        elif down < started:
            self._stop(min(started - down, len(on)), now_s)
        self._look_after_held(now_s)
        self._looked_s = now_s

    def _want(self, on: list[Machine], started: int, now_s: float) -> int:
        """Return how many replicas the metric asks for, within the limits."""
        amount = self._amount([machine.replica for machine in on], now_s)  # on · metric
        if on and abs(amount / len(on) / self._spec.target - 1.0) <= self._spec.tolerance:
            return started
        return min(max(math.ceil(amount / self._spec.target - 1e-9), self.least), self.most)

    def _amount(self, on: Sequence[Replica], now_s: float) -> float:
        if self._spec.metric == "outstanding":
            return float(sum(replica.outstanding for replica in on) + len(self._conductor.held))
        if self._spec.metric == "kv_usage":
            return sum((replica.kv_blocks - replica.free_blocks) / replica.kv_blocks for replica in on) + bool(self._conductor.held)
        total = float(bool(self._conductor.held))
        for replica in on:
            busy_s = now_s - replica.idle_s - (now_s - replica.idle_since_s if replica.end_s == math.inf else 0.0)
            total += (busy_s - self._busy.get(replica.index, 0.0)) / (now_s - self._looked_s)
        for machine in self._machines:
            replica = machine.replica
            self._busy[replica.index] = now_s - replica.idle_s - (now_s - replica.idle_since_s if replica.end_s == math.inf else 0.0)
        return total

    def _start(self, count: int, now_s: float) -> None:
        room = self.most - len(self._those(ON, LOADING))
        count = max(0, min(count, room))
        still_on = [machine for machine in self._those(DRAINING) if machine.then == self._fleet.stop][:count]
        for machine in still_on:
            self._fleet.recall(machine, now_s)
        for machine in self._those(OFF)[: count - len(still_on)]:
            self._fleet.start(machine, now_s)

    def _stop(self, count: int, now_s: float) -> None:
        for machine in sorted(self._those(ON), key=lambda one: (one.replica.outstanding, -one.replica.index))[:count]:
            self._fleet.drain(machine, now_s, self._fleet.stop)

    def _look_after_held(self, now_s: float) -> None:
        """Start the machine that a held request needs; where it cannot be started, the request is not served."""
        for request in list(self._conductor.held):
            able = [machine for machine in self._conductor.able(request) if machine in self._machines]
            if not able or any(machine.standing in {ON, LOADING, DOWN, DRAINING} for machine in able):
                continue
            if len(self._those(ON, LOADING)) < self.most:
                self._fleet.start(able[0], now_s)
            else:
                self._conductor.held.remove(request)
                self._conductor.refuse(request, NO_REPLICA, now_s)
