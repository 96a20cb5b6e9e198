"""From the name of a policy to its function; the folder ``sim/policies`` is the registry."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, Literal

from effsim import catalog
from effsim.errors import UnknownNameError
from effsim.sim import policies

Role = Literal["pick", "route"]
_WORDS = {"pick": "scheduler policy", "route": "router"}


def names(role: Role) -> tuple[str, ...]:
    """Return the files of the folder that have the function of a role.

    >>> "fcfs" in names("pick"), "fcfs" in names("route")
    (True, False)
    """
    files = sorted(module.name for module in pkgutil.iter_modules(policies.__path__))
    return tuple(name for name in files if hasattr(importlib.import_module(f"{policies.__name__}.{name}"), role))


def policy(role: Role, name: str) -> Callable[..., Any]:
    """Return the function of a named policy.

    Raises:
        UnknownNameError: No file of that name has it; the message has the nearest names.
    """
    allowed = names(role)
    if name not in allowed:
        hint = catalog.suggest(name, allowed)
        raise UnknownNameError(f"unknown {_WORDS[role]} {name[:60]!r}; {hint}allowed: {', '.join(allowed)}")
    function: Callable[..., Any] = getattr(importlib.import_module(f"{policies.__name__}.{name}"), role)
    return function


def victim_of(scheduler: str) -> Callable[..., int]:
    """Return which running request loses its blocks first: what the policy says in ``victim``, else the last admitted."""
    found: Callable[..., int] = getattr(importlib.import_module(f"{policies.__name__}.{scheduler}"), "victim", last)
    return found


def last(running: Sequence[Any]) -> int:
    """Return the place of the last admitted."""
    return len(running) - 1


def reads_replicas(router: str) -> bool:
    """Return whether a router looks at the replicas; those that do not say ``READS_REPLICAS = False``."""
    return bool(getattr(importlib.import_module(f"{policies.__name__}.{router}"), "READS_REPLICAS", True))
