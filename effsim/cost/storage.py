"""What training moves to and from storage: checkpoints and data, with time and energy."""

import dataclasses
from typing import Final

from effsim.errors import SpecError

WEIGHT_BYTES: Final = 2.0
TOKEN_BYTES: Final = 4.0  # a token id as stored by Megatron's and MosaicML's indexed data sets (int32)


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """A file system as the whole job sees it.

    Args:
        write_bytes_per_s: Of all writers together.
        read_bytes_per_s: Of all readers together.
        energy_per_byte_j: Of storage servers and network, per byte moved. About 100 kW for 1 TB/s of a flash file system gives 1e-7:
            judgement from vendor data sheets of all-flash arrays (2025), wide.
    """

    write_bytes_per_s: float = 1e11
    read_bytes_per_s: float = 2e11
    energy_per_byte_j: float = 1e-7

    def __post_init__(self) -> None:
        """Refuse rates that are not positive.

        Raises:
            SpecError: A rate of 0 or below, or a negative energy.
        """
        if not (self.write_bytes_per_s > 0.0 and self.read_bytes_per_s > 0.0 and self.energy_per_byte_j >= 0.0):
            raise SpecError(f"storage: rates must be positive and the energy per byte not negative, got {self}")


def checkpoint_bytes(parameters: float, optimizer_state_bytes: float) -> float:
    """Return the size of a checkpoint [bytes]: 16-bit weights, and master weights with optimizer state.

    >>> checkpoint_bytes(175e9, 12.0) / 1e12
    2.45
    """
    return parameters * (WEIGHT_BYTES + optimizer_state_bytes)


def write_time_s(size_bytes: float, storage: Storage) -> float:
    """Return the time to write a checkpoint [s].

    >>> write_time_s(2.45e12, Storage())
    24.5
    """
    return size_bytes / storage.write_bytes_per_s


def transfer_energy_j(size_bytes: float, storage: Storage) -> float:
    """Return the energy of moving bytes to or from storage [J].

    >>> round(transfer_energy_j(2.45e12, Storage()))
    245000
    """
    return size_bytes * storage.energy_per_byte_j


def data_rate_bytes_per_s(tokens_per_s: float) -> float:
    """Return what a run reads [bytes/s].

    >>> data_rate_bytes_per_s(1e6)
    4000000.0
    """
    return tokens_per_s * TOKEN_BYTES
