"""What a replica draws: energy of its legs and of its rest, added up and spread over the time bins of a run."""

from typing import Final

from effsim.sim.recorder import Recorder
from effsim.sim.request import InFlight
from effsim.sim.setup import Cost, ReplicaSetup

IDLE: Final = "idle"


class Meter:
    """The joules and seconds of one replica, by what they are spent on.

    Attributes:
        static_j: Of the accelerators while they serve; ``core_j``, ``memory_j`` and ``link_j`` likewise [J].
        members: Running requests by id, in the order of admission.
        iterations: So far.
        busy_s: Time in iterations.
        rest_s: Time without any, by state: idle, and what :meth:`rest` names.
        rest_j: Energy of the accelerators in it.
        prefill_j: Energy of iterations for tokens of prompts, by their share of the tokens of each.
        host_j: Of hosts above their floor, idle and fans, in iterations and at rest; before the loss of the supply.
    """

    __slots__ = (
        "_arrived", "_arrived_sum_s", "_at_start", "_host_w", "_record", "_rest_w", "_start_s", "busy_s", "core_j", "host_j", "idle_since_s",
        "iterations", "link_j", "members", "memory_j", "prefill_j", "rest_j", "rest_s", "setup", "state", "static_j",
    )  # fmt: skip

    def __init__(self, setup: ReplicaSetup, record: Recorder) -> None:
        self.setup, self._record = setup, record
        self.static_j = self.core_j = self.memory_j = self.link_j = self.host_j = self.prefill_j = 0.0
        self.busy_s = self.idle_since_s = 0.0
        self.iterations = 0
        self.members: dict[int, InFlight] = {}
        self._start_s, self._arrived, self._arrived_sum_s, self._at_start = 0.0, 0, 0.0, 0
        self.state = IDLE
        self.rest_s, self.rest_j = {IDLE: 0.0}, {IDLE: 0.0}
        self._rest_w = (setup.step_model.idle_power_w, 0.0)
        self._host_w = (setup.host.busy_w - setup.host.idle_w, setup.host.psu_efficiency)

    @property
    def idle_s(self) -> float:
        """Time at rest in any state."""
        return sum(self.rest_s.values())

    @property
    def idle_j(self) -> float:
        """Energy at rest in any state [J]."""
        return sum(self.rest_j.values())

    def _account(self, cost: Cost, now_s: float, count: int, blocks: float) -> float:
        """Add the leg that ends now; return its energy [J].

        Args:
            cost: Of the leg.
            now_s: Its end.
            count: Its iterations.
            blocks: Mean of the KV blocks taken while it lasts.
        """
        _, static_j, core_j, memory_j, link_j = cost
        self.static_j += static_j
        self.core_j += core_j
        self.memory_j += memory_j
        self.link_j += link_j
        self.iterations += count
        start_s = self._start_s
        length_s = now_s - start_s
        self.busy_s += length_s
        energy_j = static_j + core_j + memory_j + link_j
        host_w, efficiency = self._host_w
        host_j = host_w * length_s
        self.host_j += host_j
        waiting_s = self._at_start * length_s + (self._arrived * now_s - self._arrived_sum_s)
        bins = self._record.bins
        width_s = bins.width_s
        place = int(now_s / width_s)
        accelerator_j, servers_j, running, queued, used = bins.sums
        if place == int(start_s / width_s) and place < len(used):  # the usual case of TimeBins.add, which it costs much to call
            accelerator_j[place] += energy_j
            servers_j[place] += (energy_j + host_j) / efficiency
            running[place] += len(self.members) * length_s
            queued[place] += waiting_s
            used[place] += blocks * length_s
        else:
            bins.add(start_s, now_s, (energy_j, (energy_j + host_j) / efficiency, len(self.members) * length_s, waiting_s, blocks * length_s))
        if self._record.on_leg is not None:
            self._record.on_leg(self, now_s, count, energy_j)
        return energy_j

    def account_idle(self, now_s: float) -> None:
        """Account for the time since nothing was under way."""
        length_s = now_s - self.idle_since_s
        if length_s > 0.0:
            accelerators_w, host_w = self._rest_w
            energy_j = accelerators_w * length_s
            self.rest_s[self.state] += length_s
            self.rest_j[self.state] += energy_j
            self.host_j += host_w * length_s
            self._record.bins.add(self.idle_since_s, now_s, (energy_j, (energy_j + host_w * length_s) / self._host_w[1], 0.0, 0.0, 0.0))
        self.idle_since_s = now_s

    def rest(self, state: str, now_s: float, accelerators_w: float | None = None, host_w: float = 0.0) -> None:
        """Change what a replica that does nothing draws from a time on.

        Args:
            state: Name under which time and energy are counted, such as idle, loading or off.
            now_s: From when on; what was before is accounted for.
            accelerators_w: Of all accelerators [W]; None: their idle power.
            host_w: Above the host's floor of idle power and fans [W]; negative where that is saved too.
        """
        self.account_idle(now_s)
        self.state = state
        self._rest_w = (self.setup.step_model.idle_power_w if accelerators_w is None else accelerators_w, host_w)
        self.rest_s.setdefault(state, 0.0)
        self.rest_j.setdefault(state, 0.0)
