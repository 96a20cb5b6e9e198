"""Failures of replicas, and maintenance in turn."""

import zlib

import numpy as np

from effsim.errors import SpecError
from effsim.sim.control.conductor import Conductor
from effsim.sim.control.fleet import DRAINING, GONE, LOADING, ON, Machine
from effsim.specs.operation import Maintenance, ReplicaFailures


class Failing:
    """Failures at given times, and exponential ones with a random stream per replica.

    The clock of a replica runs while it is on, and starts anew each time it comes on.
    """

    def __init__(self, conductor: Conductor, spec: ReplicaFailures, seed: int) -> None:
        self._conductor, self._spec = conductor, spec
        self.failures = 0
        machines = conductor.fleet.machines
        self._random = [
            np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(b"replica failures"), number])) if spec.mtbf else None
            for number in range(len(machines))
        ]
        for given in spec.at:
            if given.replica >= len(machines):
                raise SpecError(f"operation.failures.at: replica {given.replica} given; the fleet has replicas 0 to {len(machines) - 1}")
            self._plan(machines[given.replica], given.time, starts=None)
        if spec.mtbf is not None:
            conductor.fleet.on_ready.append(self._draw)
            for machine in machines:
                if machine.standing == ON:
                    self._draw(machine, 0.0)

    def _draw(self, machine: Machine, now_s: float) -> None:
        random = self._random[machine.replica.index]
        if random is not None and self._spec.mtbf is not None:
            self._plan(machine, now_s + float(random.exponential(self._spec.mtbf)), starts=machine.starts)

    def _plan(self, machine: Machine, time_s: float, *, starts: int | None) -> None:
        def strike(now_s: float) -> None:
            if starts in {None, machine.starts} and machine.standing in {ON, DRAINING, LOADING}:
                self._strike(machine, now_s)

        self._conductor.agenda.add(time_s, strike, is_background=True)

    def _strike(self, machine: Machine, now_s: float) -> None:
        conductor, spec = self._conductor, self._spec
        self.failures += 1
        thrown_out = conductor.fleet.kill(machine, now_s)
        conductor.fleet.take_down(machine, now_s, None if spec.repair is None else now_s + spec.repair)
        conductor.lose(thrown_out, now_s, spec.max_retries if spec.requests == "retried" else 0)
        if machine.standing == GONE:
            conductor.release(now_s)


class Keeping:
    """Maintenance of one replica after the other; those that are not on when their turn comes are passed over."""

    def __init__(self, conductor: Conductor, spec: Maintenance) -> None:
        self._fleet, self._spec = conductor.fleet, spec
        self._left = list(conductor.fleet.machines)[: spec.replicas]
        self._kept: Machine | None = None
        self.maintained = 0
        conductor.fleet.on_ready.append(self._returned)
        conductor.agenda.add(spec.start, self._next, is_background=True)

    def _next(self, now_s: float) -> None:
        self._kept = None
        while self._left and self._kept is None:
            machine = self._left.pop(0)
            if machine.standing == ON:
                self._kept = machine
                self._fleet.drain(machine, now_s, self._drained)

    def _drained(self, machine: Machine, now_s: float) -> None:
        """Switch off a replica that has no requests; one that failed meanwhile is passed over."""
        if machine.standing == GONE:
            self._next(now_s)
            return
        self.maintained += 1
        self._fleet.take_down(machine, now_s, now_s + self._spec.duration)

    def _returned(self, machine: Machine, now_s: float) -> None:
        if machine is self._kept:
            self._kept = None
            self._fleet.agenda.add(now_s + self._spec.gap, self._next, is_background=True)
