"""The replicas as machines: off, provisioned, loading, on, draining, down; when each changes, and what it draws meanwhile."""

from collections.abc import Callable, Sequence
from typing import Final

from effsim.sim.control.agenda import Agenda
from effsim.sim.control.unit import Unit
from effsim.sim.decode import DecodeCosts
from effsim.sim.meter import IDLE
from effsim.sim.replica import Replica
from effsim.sim.request import InFlight
from effsim.sim.setup import StepModel

OFF: Final = "off"
LOADING: Final = "loading"
ON: Final = "on"
DRAINING: Final = "draining"
DOWN: Final = "down"
GONE: Final = "gone"
"""Down for good."""

Then = Callable[["Machine", float], None]


class Machine:
    """A replica and where it stands.

    Attributes:
        life: Rises with each change, so that what was planned for the state before can be told.
        starts: How often it has come on.
        then: What follows once it is drained.
        step_model: The costs that it runs at, or will once it is on.
        link_free_s: When its link has sent what it was given.
    """

    __slots__ = ("life", "link_free_s", "replica", "standing", "starts", "step_model", "then", "unit")

    def __init__(self, replica: Replica, unit: Unit) -> None:
        self.replica, self.unit = replica, unit
        self.standing = ON
        self.life = self.starts = 0
        self.then: Then | None = None
        self.step_model: StepModel = replica.setup.step_model
        self.link_free_s = 0.0

    def refusal(self, request: InFlight) -> str | None:
        """Return why its cache can never hold a request, or what of it is computed here, or None."""
        if self.unit.role != "prefill":
            return self.replica.setup.refusal(request)
        whole, request.output_tokens = request.output_tokens, request.generated + 1
        found = self.replica.setup.refusal(request)
        request.output_tokens = whole
        return found


class Fleet:
    """All machines of a run; every change of one goes through here.

    Attributes:
        fresh: Replicas that are on and take requests whose prompt is to be read.
        filled: Replicas that are on and take requests whose cache has been computed elsewhere.
        draining: Machines that take no more requests.
        changes: (time [s], replicas on, replicas being started), one entry per change.
    """

    def __init__(self, replicas: Sequence[Replica], units: Sequence[Unit], agenda: Agenda) -> None:
        self.agenda = agenda
        self.machines = [Machine(replica, unit) for replica, unit in zip(replicas, units, strict=True)]
        self._costs = {id(replica.setup.step_model): (replica.setup.step_model, DecodeCosts(replica.setup.step_model)) for replica in replicas}
        self.on_ready: list[Callable[[Machine, float], None]] = []
        self.starts = self.stops = 0
        self.draining: list[Machine] = []
        self.changes: list[tuple[float, int, int]] = []
        self._changed(0.0)

    def _changed(self, now_s: float) -> None:
        on = [machine for machine in self.machines if machine.standing == ON]
        self.fresh = [machine.replica for machine in on if machine.unit.role != "decode"]
        self.filled = [machine.replica for machine in on if machine.unit.role != "prefill"]
        self.draining = [machine for machine in self.machines if machine.standing == DRAINING]
        row = (now_s, len(on) + len(self.draining), sum(machine.standing == LOADING for machine in self.machines))
        if self.changes and self.changes[-1][0] == now_s:
            self.changes[-1] = row
        else:
            self.changes.append(row)

    def _stand(self, machine: Machine, standing: str, now_s: float) -> None:
        machine.standing = standing
        machine.life += 1
        self._changed(now_s)

    def keep_off(self, machine: Machine) -> None:
        """Let a machine be off from the start of the run."""
        self._switch_off(machine, 0.0)
        self._stand(machine, OFF, 0.0)

    @staticmethod
    def _switch_off(machine: Machine, now_s: float) -> None:
        """Let accelerators and host draw nothing."""
        host = machine.replica.setup.host
        machine.replica.rest(OFF, now_s, 0.0, -(host.idle_w + host.fan_w))

    def start(self, machine: Machine, now_s: float) -> None:
        """Provision a machine, load its weights, and let it serve."""
        machine.replica.rest(LOADING, now_s)
        self._stand(machine, LOADING, now_s)
        self.starts += 1
        life, unit = machine.life, machine.unit
        loads_s = now_s + unit.provisioning_s

        def load(at_s: float) -> None:
            if machine.life == life:
                machine.replica.rest(LOADING, at_s, unit.load_w)

        def ready(at_s: float) -> None:
            if machine.life == life:
                machine.replica.rest(IDLE, at_s)
                machine.starts += 1
                self._stand(machine, ON, at_s)
                for follow in self.on_ready:
                    follow(machine, at_s)

        self.agenda.add(loads_s, load, is_background=True)
        self.agenda.add(loads_s + unit.load_s, ready, is_background=True)

    def drain(self, machine: Machine, now_s: float, then: Then) -> None:
        """Give a machine no more requests; ``then`` follows when it has none."""
        machine.replica.advance(now_s)
        self._stand(machine, DRAINING, now_s)
        machine.then = then
        self.check_drained(machine, now_s)

    def recall(self, machine: Machine, now_s: float) -> None:
        """Let a draining machine take requests again."""
        machine.then = None
        self._stand(machine, ON, now_s)

    def check_drained(self, machine: Machine, now_s: float) -> None:
        """Go on with what follows the draining of a machine once it has no requests."""
        then = machine.then
        if machine.standing == DRAINING and machine.replica.outstanding == 0 and then is not None:
            machine.then = None
            then(machine, now_s)

    def stop(self, machine: Machine, now_s: float) -> None:
        """Switch a machine off that has no requests; one that has failed meanwhile stays as it is."""
        if machine.standing in {DRAINING, DOWN}:
            self._switch_off(machine, now_s)
            self._stand(machine, OFF, now_s)
            self.stops += 1

    def take_down(self, machine: Machine, now_s: float, back_s: float | None, then: Then | None = None) -> None:
        """Take a machine that has no requests out until a time, None for good; then ``then``, or what followed its draining, or its start."""
        self._switch_off(machine, now_s)
        self._stand(machine, GONE if back_s is None else DOWN, now_s)
        life = machine.life
        follow = then or machine.then or self.start
        machine.then = None

        def back(at_s: float) -> None:
            if machine.life == life:
                follow(machine, at_s)

        if back_s is not None:
            self.agenda.add(back_s, back, is_background=True)
        elif follow != self.start:
            follow(machine, now_s)

    def kill(self, machine: Machine, now_s: float) -> list[InFlight]:
        """Return what a machine had when it failed; its caches are lost."""
        return machine.replica.evict_all(now_s)

    def retune(self, machine: Machine, step_model: StepModel, now_s: float) -> None:
        """Let a machine run at other costs from the end of the iteration under way."""
        if machine.step_model is step_model:
            return
        machine.step_model = step_model
        known = self._costs.setdefault(id(step_model), (step_model, DecodeCosts(step_model)))
        machine.replica.advance(now_s)
        machine.replica.retune(known[1], now_s)
