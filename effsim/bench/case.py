"""What is to be measured, and how it is called."""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from effsim.bench import kernels
from effsim.bench.devices.base import Call, Device
from effsim.bench.run_file import row_key
from effsim.errors import SpecError


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel at one shape.

    Args:
        kind: What the row is called.
        shape: Whole numbers and words that fix the work.
        dtype: Of the operands; blank for none.
        flop: Of one call [FLOP].
        bytes: That one call moves at least [bytes].
        held_bytes: Memory of one set of operands, where larger than ``bytes``.
        duty_ratio: Share of the sustained window in which calls are issued; 0: only waiting.
        power_limit_w: To set during the case [W]; ``None``: none.
    """

    kind: str
    shape: Mapping[str, int | str] = field(default_factory=dict)
    dtype: str = ""
    flop: float = 0.0
    bytes: float = 0.0
    held_bytes: float = 0.0
    duty_ratio: float = 1.0
    power_limit_w: float | None = None

    @property
    def key(self) -> str:
        """What tells it from the other cases."""
        return row_key(self.kind, self.dtype, self.shape, self.duty_ratio, self.power_limit_w)

    def whole(self, name: str) -> int:
        """Return a number of the shape."""
        return int(self.shape[name])


@dataclass(frozen=True, slots=True)
class Work:
    """A case made ready.

    Args:
        run: Does all calls once.
        implementation: What runs.
        calls: Calls in a run.
        buffers: Sets of operands that take turns.
        recordable: Whether a run may be recorded and replayed without Python.
    """

    run: Call
    implementation: str
    calls: int = 1
    buffers: int = 1
    recordable: bool = True


def in_turn(calls: Sequence[Call], implementation: str) -> Work:
    """Return the work of calling each of several, which do the same on operands of their own."""
    if len(calls) == 1:
        return Work(calls[0], implementation)

    def run() -> None:
        for call in calls:
            call()

    return Work(run, implementation, calls=len(calls), buffers=len(calls))


class Kernel(Protocol):
    """A module of :mod:`effsim.bench.kernels`."""

    def cases(self, device: Device, quick: bool) -> list[Case]:
        """Return what to measure, the most telling first."""
        ...

    def prepare(self, case: Case, device: Device) -> Work:
        """Allocate the operands."""
        ...


NAMES: Final = tuple(sorted(found.name for found in pkgutil.iter_modules(kernels.__path__)))


def kernel(name: str) -> Kernel:
    """Return a kernel.

    Raises:
        SpecError: No such file.
    """
    if name not in NAMES:
        raise SpecError(f"--only: no kernel is called {name!r}; choose from {', '.join(NAMES)}")
    found: Kernel = importlib.import_module(f"{kernels.__name__}.{name}")
    return found
