"""Where the time and the energy go: one row per operation."""

import numpy as np
import pandas as pd

from effsim.cost.evaluate import CostTable, operation_costs
from effsim.workload.operations import Array


def operation_breakdown(costs: CostTable, features: Array, phase: str, waiting_s: float = 0.0) -> pd.DataFrame:
    """Return one row per operation of one iteration on one tensor rank, all pipeline stages; times at full clock.

    ``bound`` is what takes most of the operation's time: compute, memory, network, or the fixed cost of its kernels.

    Args:
        costs: The configuration.
        features: Of one iteration, shape (feature, 1).
        phase: Named in the first column.
        waiting_s: In which the device waits for the host; a row of its own [s].
    """
    table, device = costs.table, costs.device
    each = operation_costs(costs, features)
    active = (costs.trigger @ features > 0.0)[:, 0]
    count = costs.count
    flop, read, write, payload = (count * (part @ features)[:, 0] * active for part in (table.flop, table.read, table.write, table.payload))
    time_s = each.time_s[:, 0]
    rate = np.array([device.peak_flop_per_s[op.dtype] for op in table.operations])
    link_j = np.zeros_like(time_s)
    if table.num_collectives:
        link_j[-table.num_collectives :] = (costs.link_j_per_collective @ features)[:, 0]
    dynamic_j = link_j + flop * device.coefficients.compute_power * device.tdp_w / rate + costs.memory_w * each.memory_s[:, 0]
    static_j = count * time_s * device.static_w + costs.busy_w * each.moving_s[:, 0]
    bound = np.array(["compute", "memory", "fixed"])[np.argmax(np.stack([each.compute_s[:, 0], each.memory_s[:, 0], costs.fixed_s[:, 0] * active]), axis=0)]
    bound[len(bound) - table.num_collectives :] = "network"
    frame = pd.DataFrame(
        {
            "phase": phase,
            "operation": [op.name for op in table.operations],
            "kind": [op.kind for op in table.operations],
            "count": count,
            "flop": flop,
            "read_bytes": read,
            "write_bytes": write,
            "link_bytes": payload,
            "time_s": count * time_s,
            "energy_j": dynamic_j + static_j,
            "bound": bound,
        }
    )
    found = frame[active].reset_index(drop=True)
    if waiting_s:
        zero = dict.fromkeys(("flop", "read_bytes", "write_bytes", "link_bytes"), 0.0)
        named = {"phase": phase, "operation": "host wait", "kind": "host", "bound": "host"}
        row = {**named, **zero, "count": 1.0, "time_s": waiting_s, "energy_j": waiting_s * device.static_w}
        found = pd.concat([found, pd.DataFrame([row])[found.columns]], ignore_index=True)
    return found
