"""Token counts and times drawn from distributions."""

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from effsim.documents import read_text
from effsim.errors import SpecError
from effsim.specs.workload import (
    Distribution,
    Duration,
    Empirical,
    ExponentialTime,
    Fixed,
    FixedTime,
    Geometric,
    Histogram,
    Lognormal,
    LognormalTime,
    Uniform,
    UniformTime,
)
from effsim.workload.traces import FloatArray, IntArray

DRAWN_AT_ONCE: Final = 1_000_000
LONGEST: Final = 10**8
_P90_OF_NORMAL: Final = 1.2815515655446004
Find = Callable[[str], Path]


def lengths(distribution: Distribution, random: np.random.Generator, count: int) -> IntArray:
    """Return token counts of a distribution, shape (count,), each at least 1; drawn in blocks, so that memory stays that of the result.

    Raises:
        SpecError: A histogram that was not replaced by what its file says (:func:`resolved`).

    >>> lengths(Fixed(kind="fixed", tokens=512), np.random.default_rng(0), 3).tolist()
    [512, 512, 512]
    """
    draw = _drawer(distribution, random)
    found = np.empty(count, dtype=np.int64)
    for first in range(0, count, DRAWN_AT_ONCE):
        part = found[first : first + DRAWN_AT_ONCE]
        part[:] = draw(part.size)
    return found


def _drawer(distribution: Distribution, random: np.random.Generator) -> Callable[[int], Any]:
    match distribution:
        case Fixed():
            return lambda _: distribution.tokens
        case Uniform():
            return lambda size: random.integers(distribution.low, distribution.high, size=size, endpoint=True)
        case Geometric():
            return lambda size: np.minimum(random.geometric(1.0 / distribution.mean, size=size), LONGEST)
        case Empirical():
            values, weights = np.array(distribution.values, dtype=np.int64), distribution.weights
            shares = None if weights is None else np.array(weights) / sum(weights)
            return lambda size: random.choice(values, size=size, p=shares)
        case Lognormal():
            mu, sigma = lognormal_parameters(distribution)
            low, high = distribution.minimum, distribution.maximum or LONGEST
            return lambda size: np.clip(np.rint(random.lognormal(mu, sigma, size=size)), low, high)
        case Histogram():
            raise SpecError(f"{distribution.file}: a histogram is read from its file before anything is drawn")


def lognormal_parameters(distribution: Lognormal) -> tuple[float, float]:
    """Return mean and standard deviation of the logarithm.

    From median and 90th percentile: mu = ln median, sigma = ln(p90 / median) / 1.2816. From the mean of the tokens and
    sigma: mu = ln mean - sigma^2 / 2.

    >>> lognormal_parameters(Lognormal(kind="lognormal", mean=1.0, sigma=2.0))
    (-2.0, 2.0)
    """
    if distribution.median is not None and distribution.p90 is not None:
        return math.log(distribution.median), math.log(distribution.p90 / distribution.median) / _P90_OF_NORMAL
    if distribution.mean is None or distribution.sigma is None:
        raise SpecError("lognormal: expected median and p90, or mean and sigma")
    return math.log(distribution.mean) - distribution.sigma**2 / 2.0, distribution.sigma


def resolved(distribution: Distribution, find: Find) -> Distribution:
    """Return a histogram as what its file says, any other distribution as it is.

    Raises:
        SpecError: The file is absent, or a row is no length with a weight (with its line).
    """
    return _histogram(find(distribution.file)) if isinstance(distribution, Histogram) else distribution


def _histogram(path: Path) -> Empirical:
    rows = csv.reader(io.StringIO(read_text(path, 10_000_000)))
    header = [name.strip() for name in next(rows, [])]
    weight = next((name for name in ("weight", "count") if name in header), None)
    if "tokens" not in header or weight is None:
        raise SpecError(f"{path}, line 1: expected the columns tokens and weight (or count), found {', '.join(header)[:80] or 'nothing'}")
    values, weights = [], []
    for row in rows:
        if row:
            values.append(_cell(row, header.index("tokens"), f"{path}, line {rows.line_num}: tokens", 1.0))
            weights.append(_cell(row, header.index(weight), f"{path}, line {rows.line_num}: {weight}", 0.0))
    if sum(weights) <= 0.0:
        raise SpecError(f"{path}: expected at least one row with a {weight} above 0")
    if not all(value == int(value) for value in values):
        raise SpecError(f"{path}: tokens: expected whole numbers, found {next(value for value in values if value != int(value)):g}")
    return Empirical.model_construct(kind="empirical", values=tuple(int(value) for value in values), weights=tuple(weights))


def _cell(row: list[str], position: int, where: str, low: float) -> float:
    try:
        value = float(row[position])
    except (ValueError, IndexError):
        value = math.nan
    if not low <= value <= LONGEST:
        raise SpecError(f"{where}: expected a number from {low:g} to {LONGEST:,}, got {','.join(row)[:40]!r}")
    return value


def times_s(distribution: Duration, random: np.random.Generator, count: int) -> FloatArray:
    """Return times of a distribution [s], shape (count,).

    >>> times_s(FixedTime(kind="fixed", time=2.0), np.random.default_rng(0), 2).tolist()
    [2.0, 2.0]
    """
    match distribution:
        case FixedTime():
            return np.full(count, distribution.time)
        case ExponentialTime():
            return random.exponential(distribution.mean, size=count)
        case LognormalTime():
            return random.lognormal(math.log(distribution.median), math.log(distribution.p90 / distribution.median) / _P90_OF_NORMAL, size=count)
        case UniformTime():
            return random.uniform(distribution.low, distribution.high, size=count)
