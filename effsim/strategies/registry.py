"""From the name of a choice to its module; the folder ``strategies/training`` is the registry."""

import functools
import importlib
import pkgutil
from types import ModuleType

from effsim import catalog
from effsim.errors import UnknownNameError
from effsim.strategies import training


@functools.cache
def names() -> tuple[str, ...]:
    """Return the files of the folder.

    >>> "optimizer" in names()
    True
    """
    return tuple(sorted(module.name for module in pkgutil.iter_modules(training.__path__)))


def choice(name: str) -> ModuleType:
    """Return the module of a named choice.

    Raises:
        UnknownNameError: No file has that name; the message has the nearest names.
    """
    if name not in names():
        raise UnknownNameError(f"unknown training choice {name[:60]!r}; {catalog.suggest(name, names())}allowed: {', '.join(names())}")
    return importlib.import_module(f"{training.__name__}.{name}")
