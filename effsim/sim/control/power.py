"""Power as a control: limits that change at given times, and a budget for the whole cluster."""

from collections.abc import Callable

from effsim.errors import SpecError
from effsim.sim.control.conductor import Conductor
from effsim.sim.control.fleet import DRAINING, ON, Machine
from effsim.sim.control.unit import Rung
from effsim.sim.replica import Replica
from effsim.specs.operation import PowerBudget

CLOCK_EXPONENT = 3.0
"""Power rises at most with the cube of the clock, as voltage rises with it: what is expected of a higher clock."""
ROUNDING = 1e-9
"""Of sums of energies: what is above the budget by this share is at it."""


def plan_limits(conductor: Conductor) -> None:
    """Change the power limits of machines at the times of their schedules."""
    for machine in conductor.fleet.machines:
        for time_s, rung in machine.unit.schedule:
            conductor.agenda.add(time_s, _change(conductor, machine, rung), is_background=True)


def _change(conductor: Conductor, machine: Machine, rung: Rung) -> Callable[[float], None]:
    return lambda now_s: conductor.fleet.retune(machine, rung.step_model, now_s)


class Budget:
    """Holds the mean power of all accelerators to a budget, through rungs that all machines share.

    At each interval the power of each replica is its energy over the time since the last look, or since the last change has come into force,
    up to the end of its last leg, and ``P`` their sum; legs are ended half-way between looks, so that there is one. Above the budget the
    highest lower rung is taken at which ``P · level / present level`` is within it, the lowest if none is; below, the highest rung at which
    the power expected, ``P · (level / present level)`` for a limit and ``P · (level / present level)³`` for a clock, leaves the margin free.
    The first rung is the highest whose limits, taken by all accelerators at once, keep the budget; with clocks, the highest.

    Attributes:
        over_s: Time of the intervals whose ``P`` was above the budget.
        over_j: Energy above it in them.
        changes: (time [s], level of the rung), one entry per change.
    """

    def __init__(self, conductor: Conductor, spec: PowerBudget, least_on: int) -> None:
        self._conductor, self._spec = conductor, spec
        self._machines = conductor.fleet.machines
        self._rungs = [machine.unit.rungs for machine in self._machines]
        if not all(len(rungs) == len(self._rungs[0]) > 0 for rungs in self._rungs):
            raise SpecError("operation.power: every replica needs the same number of rungs")
        self.levels = [max(rungs[place].level for rungs in self._rungs) for place in range(len(self._rungs[0]))]
        self._check(least_on)
        self.over_s = self.over_j = 0.0
        self._has_changed = False
        self._seen: list[tuple[float, float, float]] = [(0.0, 0.0, 0.0)] * len(self._machines)
        self.rung = len(self.levels) - 1 if spec.control == "clock" else self._first()
        self.changes: list[tuple[float, float]] = []
        self._take(self.rung, 0.0)
        conductor.fleet.on_ready.append(self._tune)
        conductor.agenda.add(0.5 * spec.interval, self._midway, is_background=True)
        conductor.agenda.add(spec.interval, self._look, is_background=True)

    def _check(self, least_on: int) -> None:
        """Refuse a budget below what the replicas draw at the lowest rung with clocks on and nothing computed."""
        static_w = sorted(_static_w(rungs[0]) for rungs in self._rungs)[:least_on]
        if sum(static_w) > self._spec.budget:
            raise SpecError(
                f"operation.power.budget: {self._spec.budget / 1e3:g} kW given; static power alone of the {len(static_w)} replicas that are always on is "
                f"{sum(static_w) / 1e3:.4g} kW at the lowest rung; expected more, or fewer replicas"
            )

    def _first(self) -> int:
        for place in range(len(self.levels) - 1, 0, -1):
            if sum(rungs[place].level * rungs[place].step_model.num_accelerators for rungs in self._rungs) <= self._spec.budget * (1.0 + ROUNDING):
                return place
        return 0

    def _tune(self, machine: Machine, now_s: float) -> None:
        self._conductor.fleet.retune(machine, machine.unit.rungs[self.rung].step_model, now_s)

    def _take(self, rung: int, now_s: float) -> None:
        share = self.levels[rung] / self.levels[self.rung]
        self._seen = [(energy_j, until_s, power_w * share) for energy_j, until_s, power_w in self._seen]  # what is expected until it is measured
        self.rung, self._has_changed = rung, True
        self.changes.append((now_s, self.levels[rung]))
        for machine in self._machines:
            if machine.standing in {ON, DRAINING} or now_s == 0.0:
                self._tune(machine, now_s)

    def _midway(self, now_s: float) -> None:
        """End legs, so that the next look finds their energy; after a change, what came before it is left behind."""
        for place, machine in enumerate(self._machines):
            energy_j, until_s = self._counted(machine.replica, now_s)
            if self._has_changed:
                self._seen[place] = (energy_j, until_s, self._seen[place][2])
        self._has_changed = False

    def _counted(self, replica: Replica, now_s: float) -> tuple[float, float]:
        """Return the energy that a replica's meters have counted [J], and the time up to which they have; let its leg end soon."""
        replica.advance(now_s)
        if replica.outstanding:
            replica.cut(now_s)
        else:
            replica.account_idle(now_s)
        return energy_so_far_j(replica), replica.busy_s + replica.idle_s

    def _measured_w(self, now_s: float) -> float:
        total_w = 0.0
        for place, machine in enumerate(self._machines):
            energy_j, until_s = self._counted(machine.replica, now_s)
            before_j, before_s, power_w = self._seen[place]
            if until_s > before_s:
                power_w = (energy_j - before_j) / (until_s - before_s)
            self._seen[place] = (energy_j, until_s, power_w)
            total_w += power_w
        return total_w

    def _look(self, now_s: float) -> None:
        spec = self._spec
        self._conductor.agenda.add(now_s + 0.5 * spec.interval, self._midway, is_background=True)
        self._conductor.agenda.add(now_s + spec.interval, self._look, is_background=True)
        power_w, present = self._measured_w(now_s), self.levels[self.rung]
        chosen = self.rung
        if power_w > spec.budget * (1.0 + ROUNDING):
            self.over_s += spec.interval
            self.over_j += (power_w - spec.budget) * spec.interval
            lower = [place for place in range(self.rung) if power_w * self.levels[place] / present <= spec.budget * (1.0 + ROUNDING)]
            chosen = max(lower, default=0)
        else:
            exponent = CLOCK_EXPONENT if spec.control == "clock" else 1.0
            room_w = spec.budget * (1.0 - spec.margin)
            higher = [p for p in range(self.rung + 1, len(self.levels)) if power_w * (self.levels[p] / present) ** exponent <= room_w]
            chosen = max(higher, default=self.rung)
        if chosen != self.rung:
            self._take(chosen, now_s)


def energy_so_far_j(replica: Replica) -> float:
    """Return the energy of a replica's accelerators that its meters have counted [J]."""
    return replica.static_j + replica.core_j + replica.memory_j + replica.link_j + replica.idle_j


def _static_w(rung: Rung) -> float:
    """Return the static power of an iteration that decodes one short sequence: static energy over time [W]."""
    longest = rung.step_model.longest_window
    keys = 1.0 if longest == float("inf") else max(1.0, longest)
    time_s, static_j, *_ = rung.step_model.step_at(1, keys, ())
    return static_j / time_s if static_j > 0.0 else rung.step_model.idle_power_w
