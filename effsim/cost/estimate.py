"""What serving and training estimates share: intervals and a breakdown, computed when asked for."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from effsim.catalog import suggest
from effsim.cost.uncertainty import interval
from effsim.errors import SpecError, shown
from effsim.results import Result


@dataclasses.dataclass(frozen=True)
class Estimate(Result):
    """Base of the estimates; ``spread`` gives the log-sd of each output, ``rows`` the breakdown, ``bounds`` what physics allows."""

    OUTPUTS: ClassVar[tuple[str, ...]] = ()
    spread: dataclasses.InitVar[Callable[[], Mapping[str, Any]]]
    rows: dataclasses.InitVar[Callable[[], pd.DataFrame]]
    bounds: dataclasses.InitVar[Mapping[str, tuple[float, float]]]

    def __post_init__(self, spread: Callable[[], Mapping[str, Any]], rows: Callable[[], pd.DataFrame], bounds: Mapping[str, tuple[float, float]]) -> None:
        """Keep what is computed on demand."""
        self.__dict__.update(_spread=spread, _rows=rows, _bounds=bounds)

    @cached_property
    def _log_sd(self) -> Mapping[str, Any]:
        spread: Mapping[str, Any] = self.__dict__["_spread"]()
        return spread

    @cached_property
    def breakdown(self) -> pd.DataFrame:
        """Return one row per operation: count, FLOPs, bytes, time, energy and what bounds it; of the first load where there are many."""
        rows: pd.DataFrame = self.__dict__["_rows"]()
        return rows

    def interval(self, field: str, level: float = 0.9) -> tuple[Any, Any]:
        """Return the central interval of a field as (low, high): log-normal, from the doubt about all coefficients and the model.

        It keeps within what physics allows, whatever the doubt: power between idle and the limit, a share of a peak at most 1.

        Raises:
            SpecError: Not a field that is predicted with an interval, or no level.
        """
        if not is_number(level):
            raise SpecError(f"level: must be a number between 0 and 1, got {shown(level)}")
        sd = self.relative_sd(field)
        low, high = interval(getattr(self, field), sd, float(level))
        least, most = self.__dict__["_bounds"].get(field, (0.0, math.inf))
        if isinstance(low, float):
            return min(max(low, least), getattr(self, field)), max(min(high, most), getattr(self, field))
        low, high = np.minimum(np.maximum(low, least), getattr(self, field)), np.maximum(np.minimum(high, most), getattr(self, field))
        return low, high

    def relative_sd(self, field: str) -> Any:
        """Return the standard deviation of the logarithm of a field.

        Raises:
            SpecError: As :meth:`interval`.
        """
        if field not in self.OUTPUTS:
            raise SpecError(f"interval: {shown(field)} has none; {suggest(str(field), self.OUTPUTS)}choose from {', '.join(self.OUTPUTS)}")
        return self._log_sd[field]


def is_number(value: Any) -> bool:
    """Return whether a value is a real number; truth values are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def whole_number(name: str, value: Any) -> int:
    """Return a whole number of at least 1.

    Raises:
        SpecError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise SpecError(f"{name}: must be a whole number of at least 1, got {shown(value)}")
    return int(value)


def number_or_none(name: str, value: Any, most: Any = math.inf) -> float | None:
    """Return a number above 0 and at most ``most``, or None.

    Raises:
        SpecError: It is something else.
    """
    if value is None:
        return None
    if not is_number(value) or not 0.0 < float(value) <= most:
        raise SpecError(f"{name}: must be a number above 0{'' if most == math.inf else f' and at most {most:g}'}, got {value!r}")
    return float(value)


def _numbers(name: str, value: Any) -> npt.NDArray[np.float64]:
    """Return a number or a nest of numbers as an array; texts and truth values are no numbers, even where NumPy would convert them."""
    try:
        given = np.asarray(value) if hasattr(value, "__array__") else np.asarray(value, dtype=object)
        if given.dtype.kind in "iuf" or all(is_number(one) for one in given.flat):
            return given.astype(float)
    except (TypeError, ValueError, OverflowError):
        pass
    raise SpecError(f"{name}: expected a number or an array of numbers, got {shown(value)}")


def number_arrays(given: Mapping[str, Any]) -> tuple[list[Any], tuple[int, ...]]:
    """Return counts (at least 1) given as numbers or arrays as flat arrays, and the shape that they broadcast to.

    Raises:
        SpecError: Not a number, not finite, below 1, or shapes that do not broadcast.
    """
    parts = []
    for name, value in given.items():
        array = _numbers(name, value)
        if (array.size and not array.min() >= 1.0) or not np.isfinite(array).all():
            raise SpecError(f"{name}: must be finite and at least 1, got {array.min() if array.size > 1 else value}")
        parts.append(array)
    shape = parts[0].shape
    if any(part.shape != shape for part in parts):
        try:
            shape = np.broadcast_shapes(*(part.shape for part in parts))
        except ValueError:
            raise SpecError(f"the shapes of {', '.join(given)} do not broadcast: {', '.join(str(part.shape) for part in parts)}") from None
        parts = [np.broadcast_to(part, shape) for part in parts]
    return [part.ravel() for part in parts], shape
