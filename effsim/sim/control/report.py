"""What the control of a cluster did during a run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OperationReport:
    """Counts and courses of a run to which more happened than arrivals.

    Args:
        failures: Of replicas that were on or being started.
        retries: Requests placed anew after a failure.
        starts: Replicas started: by the autoscaler, after a failure, after maintenance.
        stops: Replicas switched off by the autoscaler.
        maintained: Replicas taken out for maintenance.
        transfers: KV caches sent from a prefill to a decode replica.
        transfer_bytes: Their size.
        transfer_j: Their energy, which is part of the link energy of the senders and of the requests.
        dropped_j: Energy of the accelerators spent on requests that were dropped.
        over_budget_s: Time of the intervals whose mean power was above the budget.
        over_budget_j: Energy above the budget in them.
        replicas: (time [s], replicas on, replicas being started), one entry per change.
        levels: (time [s], level) of the rung of power: W per accelerator, or share of the full clock; one entry per change.
    """

    failures: int
    retries: int
    starts: int
    stops: int
    maintained: int
    transfers: int
    transfer_bytes: float
    transfer_j: float
    dropped_j: float
    over_budget_s: float
    over_budget_j: float
    replicas: tuple[tuple[float, int, int], ...]
    levels: tuple[tuple[float, float], ...]
