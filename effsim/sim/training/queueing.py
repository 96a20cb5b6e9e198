"""What a queue policy sees and answers, and how one is found by its name."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import NamedTuple

from effsim import catalog
from effsim.errors import UnknownNameError
from effsim.sim.training import policies


class Waiting(NamedTuple):
    """A job in the queue; ``expected_s`` is how long it will run if nothing fails."""

    id: int
    nodes: int
    expected_s: float
    priority: int
    submit_s: float


class Running(NamedTuple):
    """A job that holds nodes; ``leaving``: it has been told to make room and is saving."""

    id: int
    nodes: int
    expected_end_s: float
    priority: int
    start_s: float
    leaving: bool


class Decision(NamedTuple):
    """Waiting jobs to start, in order; running jobs to preempt."""

    start: tuple[int, ...] = ()
    preempt: tuple[int, ...] = ()


Policy = Callable[[Sequence[Waiting], Sequence[Running], int, float], Decision]


def policy_names() -> tuple[str, ...]:
    """Return the files of the folder.

    >>> policy_names()
    ('backfill', 'fifo', 'priority')
    """
    return tuple(sorted(module.name for module in pkgutil.iter_modules(policies.__path__)))


def queue_policy(name: str) -> Policy:
    """Return the function of a named policy.

    Raises:
        UnknownNameError: No such file.
    """
    allowed = policy_names()
    if name not in allowed:
        raise UnknownNameError(f"unknown queue policy {name[:60]!r}; {catalog.suggest(name, allowed)}allowed: {', '.join(allowed)}")
    found: Policy = importlib.import_module(f"{policies.__name__}.{name}").admit
    return found
