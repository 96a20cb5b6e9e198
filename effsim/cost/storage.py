"""What training moves to and from storage, data and checkpoints: time and energy."""

import dataclasses
import math
from typing import Any, Final

import numpy as np

from effsim.cost.estimate import is_number
from effsim.errors import SpecError, shown
from effsim.specs import loading
from effsim.specs.storage import Storage

DEFAULT_STORAGE: Final = "parallel_flash"
WEIGHT_BYTES: Final = 2.0
TOKEN_BYTES: Final = 4.0  # a token id as stored by Megatron's and MosaicML's indexed data sets (int32)


@dataclasses.dataclass(frozen=True, slots=True)
class Loading:
    """How a run reads its data.

    Args:
        storage: Name, path, dict or spec.
        bytes_per_token: Read from storage for one token; samples with images or audio have far more [bytes].
        prefetch_ratio: Share of a step behind which the reading of the next one is hidden: 1 with workers that read ahead, 0 without.
    """

    storage: Any = DEFAULT_STORAGE
    bytes_per_token: float = TOKEN_BYTES
    prefetch_ratio: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            SpecError: Bytes per token not above 0, or a share outside 0 to 1.
        """
        if not (is_number(self.bytes_per_token) and 0.0 < self.bytes_per_token < math.inf):
            raise SpecError(f"data_bytes_per_token: must be a number above 0, got {shown(self.bytes_per_token)}")
        if not (is_number(self.prefetch_ratio) and 0.0 <= self.prefetch_ratio <= 1.0):
            raise SpecError(f"prefetch_ratio: must be a number from 0 to 1, got {shown(self.prefetch_ratio)}")


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """Storage as a job sees it.

    Args:
        read_bytes_per_s: Of all its readers together.
        write_bytes_per_s: Of all its writers together.
        energy_per_byte_j: That servers draw beyond their rest, per byte moved.
        standing_w: What servers draw at rest, the share of the job's nodes.
    """

    read_bytes_per_s: float
    write_bytes_per_s: float
    energy_per_byte_j: float
    standing_w: float


def access(storage: Any, nodes: float, readers: float | None = None) -> Access:
    """Return a storage as a job on so many nodes sees it.

    Bandwidth: ``min(readers · that of a node, that of the units)``. Energy per byte: ``servers · (busy - idle) / bandwidth``; at rest:
    ``servers · idle · nodes / nodes served``. Disks inside the nodes have neither: they are part of the host.

    Args:
        storage: Name, path, dict or spec.
        nodes: Of the job; a fraction where a node is shared.
        readers: Nodes that read data, at most ``nodes``; None: all. All write.

    Raises:
        UnknownNameError: No such storage.

    >>> found = access("tectonic_llama3", 3072.0)
    >>> found.read_bytes_per_s / 1e12, round(found.standing_w / 1e6, 4), round(found.energy_per_byte_j * 1e9)
    (2.0, 2.3625, 319)
    """
    spec: Storage = loading.storage(storage)
    reading = max(min(nodes if readers is None else readers, nodes), 0.0)
    node_read, node_write = spec.node_read_bandwidth.value, spec.node_write_bandwidth.value
    if spec.read_bandwidth is None or spec.write_bandwidth is None or spec.served_nodes is None:
        return Access(reading * node_read, nodes * node_write, 0.0, 0.0)
    units = max(nodes / spec.served_nodes.value, 1.0) if spec.grows_with_nodes else 1.0
    servers = spec.servers.value if spec.servers else 0.0
    idle_w = spec.server_idle_power.value if spec.server_idle_power else 0.0
    busy_w = spec.server_busy_power.value if spec.server_busy_power else idle_w
    return Access(
        min(reading * node_read, units * spec.read_bandwidth.value),
        min(nodes * node_write, units * spec.write_bandwidth.value),
        servers * (busy_w - idle_w) / spec.read_bandwidth.value,
        servers * idle_w * nodes / spec.served_nodes.value,
    )


def exposed_loading_s(data_bytes: Any, step_s: Any, read_bytes_per_s: float, prefetch_ratio: float) -> Any:
    """Return by how much reading the data of a step prolongs it [s]: ``max(bytes / bandwidth - prefetched share · step, 0)``.

    >>> float(exposed_loading_s(3e9, 2.0, 1e9, 1.0)), float(exposed_loading_s(1e9, 2.0, 1e9, 1.0)), float(exposed_loading_s(1e9, 2.0, 1e9, 0.0))
    (1.0, 0.0, 1.0)
    """
    return np.maximum(data_bytes / read_bytes_per_s - prefetch_ratio * step_s, 0.0)


def checkpoint_bytes(parameters: float, optimizer_state_bytes: float) -> float:
    """Return the size of a checkpoint [bytes]: 16-bit weights, and master weights with optimizer state.

    >>> checkpoint_bytes(175e9, 12.0) / 1e12
    2.45
    """
    return parameters * (WEIGHT_BYTES + optimizer_state_bytes)


def copy_to_host_s(size_bytes: float, accelerators: int, host_link_bytes_per_s: float) -> float:
    """Return the time to copy a checkpoint to the memory of the hosts, each accelerator its share over its own link [s].

    >>> copy_to_host_s(2.45e12, 1024, 32e9) < 0.1
    True
    """
    return size_bytes / (accelerators * host_link_bytes_per_s)
