"""From a file to measurements; its format is recognised by its content."""

import importlib
import json
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from effsim.calibrate.logs import formats
from effsim.calibrate.logs.fields import sheet
from effsim.calibrate.logs.record import Measurement
from effsim.documents import read_text
from effsim.errors import SpecError

MAX_LOG_BYTES: Final = 200_000_000
"""A detailed log of `vllm bench serve` has the token times of every request."""


def known_formats() -> tuple[ModuleType, ...]:
    """Return the modules of the folder ``formats``."""
    return tuple(importlib.import_module(f"{formats.__name__}.{module.name}") for module in pkgutil.iter_modules(formats.__path__))


def read_log(path: Path) -> list[Measurement]:
    """Return the measurements in a file, at least one.

    Raises:
        SpecError: Missing, too large, no format that is known, or without a completed run.
    """
    document = _document(path)
    module = next((module for module in known_formats() if module.sniff(document)), None)
    if module is None:
        allowed = "; ".join(module.TITLE for module in known_formats())
        raise SpecError(f"{path}: not a log of a known format; known: {allowed}")
    try:
        found: list[Measurement] = module.read(document, str(path))
    except (TypeError, ValueError, KeyError, AttributeError) as error:  # a part has another shape than the format's
        raise SpecError(f"{path}: {module.TITLE}: malformed ({type(error).__name__}: {error})") from None
    if not found:
        raise SpecError(f"{path}: {module.TITLE}: no run in it has completed requests and a latency, a throughput or an energy")
    return found


def read_logs(paths: Iterable[Path]) -> list[Measurement]:
    """Return the measurements in several files; see :func:`read_log`."""
    return [one for path in paths for one in read_log(path)]


def _document(path: Path) -> Any:
    text = read_text(path, MAX_LOG_BYTES)
    stripped = text.lstrip()
    if not stripped:
        raise SpecError(f"{path}: the file is empty")
    if stripped[0] not in "{[":
        return sheet(text)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise SpecError(f"{path}, line {error.lineno}: not JSON ({error.msg}); a file that was cut off ends like this") from None
    except RecursionError:
        raise SpecError(f"{path}: nested too deeply to be a log") from None
