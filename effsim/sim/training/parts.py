"""Joules by cause and by part: accelerators, hosts, network and storage, from the books of a run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from effsim.sim.training.ledger import CAUSES

PARTS: Final = ("accelerator", "host", "network", "storage")
BUSY: Final = ("useful", "recomputed", "checkpoint", "straggling", "throttled")
"""Causes during which the hosts feed their accelerators."""
WORKING: Final = ("useful", "recomputed")
"""Causes during which steps are made: data are read, and gradients and activations travel."""

Matrix = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside the accelerators of a node, and what a job moves.

    Args:
        host_busy_w: Host while it feeds its accelerators.
        host_idle_w: Host otherwise.
        fans_per_watt: Watts of fans per watt of accelerators.
        supply_efficiency: Of the power supplies, which accelerators, host and fans share.
        network_w: Of switches and optics per node, while steps are made.
        storage_w: Of storage servers at rest, the share of a node.
        reading_w: Of storage servers beyond that per node, while steps are made.
        save_j: Of storage servers for writing a checkpoint.
        load_j: Of storage servers for reading one.
    """

    host_busy_w: float = 0.0
    host_idle_w: float = 0.0
    fans_per_watt: float = 0.0
    supply_efficiency: float = 1.0
    network_w: float = 0.0
    storage_w: float = 0.0
    reading_w: float = 0.0
    save_j: float = 0.0
    load_j: float = 0.0


def by_part(node_s: Mapping[str, float], energy_j: Mapping[str, float], beside: Beside, saves: float = 0.0, loads: float = 0.0) -> Matrix:
    """Return cause -> part -> joules of a book.

    ``host = (accelerators (1 + fans) + host power · time) / efficiency - accelerators``; checkpoints are booked where they belong,
    written ones under ``checkpoint`` and read ones under ``restart``, whether training stands still meanwhile or not.

    Args:
        node_s: Node-seconds by cause.
        energy_j: Of the accelerators, by cause.
        beside: Of a node.
        saves: Checkpoints written.
        loads: Checkpoints read.

    >>> found = by_part({"useful": 10.0}, {"useful": 70.0}, Beside(host_busy_w=2.0, network_w=0.5, storage_w=1.0, save_j=4.0), saves=1)
    >>> found["useful"], found["checkpoint"]["storage"]
    ({'accelerator': 70.0, 'host': 20.0, 'network': 5.0, 'storage': 10.0}, 4.0)
    """
    matrix = {}
    for cause in CAUSES:
        time_s, accelerators_j = node_s.get(cause, 0.0), energy_j.get(cause, 0.0)
        host_w = beside.host_busy_w if cause in BUSY else beside.host_idle_w
        working_s = time_s if cause in WORKING else 0.0
        moved_j = {"checkpoint": saves * beside.save_j, "restart": loads * beside.load_j}.get(cause, 0.0)
        matrix[cause] = {
            "accelerator": accelerators_j,
            "host": (accelerators_j * (1.0 + beside.fans_per_watt) + host_w * time_s) / beside.supply_efficiency - accelerators_j,
            "network": beside.network_w * working_s,
            "storage": beside.storage_w * time_s + beside.reading_w * working_s + moved_j,
        }
    return matrix


def added(matrices: Iterable[Matrix]) -> Matrix:
    """Return the sum of matrices, entry by entry."""
    whole = {cause: dict.fromkeys(PARTS, 0.0) for cause in CAUSES}
    for matrix in matrices:
        for cause, parts in matrix.items():
            for part, joules in parts.items():
                whole[cause][part] += joules
    return whole


def of_part(matrix: Matrix, part: str) -> float:
    """Return the joules of a part, all causes together."""
    return sum(parts[part] for parts in matrix.values())
