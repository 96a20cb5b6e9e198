"""From the settings of a run to the processes that control its cluster, and to their report."""

from collections.abc import Sequence
from dataclasses import dataclass

from effsim.errors import SpecError
from effsim.sim.control.conductor import Conductor
from effsim.sim.control.failing import Failing, Keeping
from effsim.sim.control.power import Budget, plan_limits
from effsim.sim.control.report import OperationReport
from effsim.sim.control.scaling import Scaling
from effsim.sim.control.unit import Unit
from effsim.sim.options import Progress, ServingOptions
from effsim.sim.setup import ReplicaSetup
from effsim.workload.traces import Trace


@dataclass(frozen=True, slots=True)
class Operated:
    """A cluster and what controls it."""

    conductor: Conductor
    failing: Failing | None
    keeping: Keeping | None
    budget: Budget | None

    def report(self) -> OperationReport:
        """Return what was done."""
        one = self.conductor
        return OperationReport(
            failures=0 if self.failing is None else self.failing.failures,
            retries=one.retries,
            starts=one.fleet.starts,
            stops=one.fleet.stops,
            maintained=0 if self.keeping is None else self.keeping.maintained,
            transfers=one.transfers,
            transfer_bytes=one.transfer_bytes,
            transfer_j=one.transfer_j,
            dropped_j=sum(request.energy_j for request, _ in one.dropped.values()),
            over_budget_s=0.0 if self.budget is None else self.budget.over_s,
            over_budget_j=0.0 if self.budget is None else self.budget.over_j,
            replicas=tuple(one.fleet.changes),
            levels=() if self.budget is None else tuple(self.budget.changes),
        )


def operate(requests: Trace, setups: Sequence[ReplicaSetup], options: ServingOptions, progress: Progress | None) -> Operated:
    """Return a cluster under the control that the options ask for.

    Raises:
        SpecError: Units that do not go with the replicas; a budget below static power; a failure of a replica that is not there.
    """
    check_units(options.units, len(setups))
    operation = options.operation
    if operation.power is not None and any(unit.schedule for unit in options.units):
        raise SpecError("operation.power and power_schedule of the fleet both set limits; expected one of them")
    conductor = Conductor(requests, setups, options, progress)
    least_on = len(setups)
    if operation.autoscaling is not None:
        roles = dict.fromkeys(machine.unit.role for machine in conductor.fleet.machines)
        pools = [[machine for machine in conductor.fleet.machines if machine.unit.role == role] for role in roles]
        scalings = [Scaling(conductor, pool, operation.autoscaling) for pool in pools]
        conductor.on_hold.extend(scaling.awake for scaling in scalings)
        least_on = sum(scaling.least for scaling in scalings)
    plan_limits(conductor)
    return Operated(
        conductor,
        None if operation.failures is None else Failing(conductor, operation.failures, options.seed),
        None if operation.maintenance is None else Keeping(conductor, operation.maintenance),
        None if operation.power is None else Budget(conductor, operation.power, least_on),
    )


def check_units(units: Sequence[Unit], replicas: int) -> None:
    """Check that there is one unit per replica, and a decode pool where there is one for prefill and the other way round.

    Raises:
        SpecError: There is not.
    """
    if units and len(units) != replicas:
        raise SpecError(f"units: expected one per replica, {replicas}; got {len(units)}")
    roles = {unit.role for unit in units}
    if "decode" in roles and not roles & {"prefill", "both"}:
        raise SpecError("fleet: role decode without prefill: expected an entry with role prefill")
    if "prefill" in roles and not roles & {"decode", "both"}:
        raise SpecError("fleet: role prefill without decode: expected an entry with role decode")
