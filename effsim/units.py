"""Units as people write them ("3.35 TB/s", "700 W", "80 GiB"), turned into SI floats at the boundary.

Inside EffSim every number is a plain float in the SI unit that its name carries: seconds, bytes, FLOP, watts,
joules, kilograms of CO2e, US dollars. Nothing below the loaders knows a prefix.

>>> parse_quantity("3.35 TB/s", "byte/s")
3350000000000.0
>>> parse_quantity("80 GiB", "byte")
85899345920.0
>>> parse_quantity("360 g/kWh", "kg/J")
1e-07
"""

import math
import re
from typing import Final

from effsim.errors import SpecError, shown

SECONDS_PER_HOUR: Final = 3600.0
SECONDS_PER_DAY: Final = 86_400.0
SECONDS_PER_YEAR: Final = 365.25 * SECONDS_PER_DAY
JOULES_PER_KWH: Final = 3.6e6
BYTES_PER_GIB: Final = 2.0**30
BITS_PER_BYTE: Final = 8.0

_DECIMAL: Final = {"n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_LARGE: Final = {"T": 1e12, "P": 1e15, "E": 1e18}
_BINARY: Final = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def _scaled(symbols: tuple[str, ...], prefixes: dict[str, float], base: float = 1.0) -> dict[str, float]:
    return {prefix + symbol: factor * base for prefix, factor in prefixes.items() for symbol in symbols}


_UP: Final = {p: f for p, f in {**_DECIMAL, **_LARGE}.items() if f >= 1.0}
_TIME: Final = {
    **_scaled(("s",), {p: f for p, f in _DECIMAL.items() if f <= 1.0}),
    **dict.fromkeys(("sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), SECONDS_PER_HOUR),
    **dict.fromkeys(("d", "day", "days"), SECONDS_PER_DAY),
    **dict.fromkeys(("week", "weeks"), 7 * SECONDS_PER_DAY),
    **dict.fromkeys(("y", "yr", "year", "years"), SECONDS_PER_YEAR),
}
_BYTE: Final = {
    **_scaled(("B", "byte", "bytes"), {**_UP, **_BINARY}),
    **_scaled(("bit", "bits", "b"), {**_UP, **_BINARY}, 1.0 / BITS_PER_BYTE),
}
_ENERGY: Final = {**_scaled(("J",), {**_DECIMAL, **_LARGE}), **_scaled(("Wh",), _UP, SECONDS_PER_HOUR)}
_MASS: Final = {"g": 1e-3, "kg": 1.0, "t": 1e3, "kt": 1e6, "Mt": 1e9}
_MASS_CO2E: Final = {
    **_MASS,
    **{f"{unit}{gas}": factor for unit, factor in _MASS.items() for gas in ("CO2e", "CO2", " CO2e", " CO2")},
}
_MONEY: Final = {"USD": 1.0, "$": 1.0, "kUSD": 1e3, "MUSD": 1e6}
_OPERATIONS: Final = _scaled(("FLOP", "FLOPs", "OP", "OPs"), _UP)
_VOLUME: Final = {"m3": 1.0, "L": 1e-3, "l": 1e-3}
_COUNT: Final = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def _per(numerator: dict[str, float], denominator: dict[str, float]) -> dict[str, float]:
    return {f"{n}/{d}": nf / df for n, nf in numerator.items() for d, df in denominator.items()}


UNITS: Final[dict[str, dict[str, float]]] = {
    "s": _TIME,
    "W": _scaled(("W",), {**_DECIMAL, **_LARGE}),
    "J": _ENERGY,
    "byte": _BYTE,
    "byte/s": {**_per(_BYTE, {"s": 1.0}), **{u[: -len("bit")] + "bps": f for u, f in _BYTE.items() if u.endswith("bit")}},
    "FLOP": _OPERATIONS,
    "FLOP/s": {**_per(_OPERATIONS, {"s": 1.0}), **_scaled(("FLOPS", "OPS"), _UP)},
    "Hz": _scaled(("Hz",), _UP),
    "kg": _MASS_CO2E,
    "kg/J": _per(_MASS_CO2E, {u: f for u, f in _ENERGY.items() if u in {"J", "kWh", "MWh"}}),
    "USD": _MONEY,
    "USD/J": _per(_MONEY, {u: f for u, f in _ENERGY.items() if u in {"J", "kWh", "MWh"}}),
    "USD/s": _per(_MONEY, {u: f for u, f in _TIME.items() if u in {"s", "h", "hour", "d", "y", "year"}}),
    "m3/J": _per(_VOLUME, {u: f for u, f in _ENERGY.items() if u in {"J", "kWh", "MWh"}}),
    "J/byte": {**_per(_ENERGY, {"byte": 1.0, "B": 1.0, "bit": 1 / BITS_PER_BYTE}), "pJ/byte": 1e-12, "pJ/bit": 8e-12},
    "J/FLOP": {**_per(_ENERGY, {"FLOP": 1.0}), "pJ/FLOP": 1e-12, "fJ/FLOP": 1e-15},
    "1/s": {"/s": 1.0, "1/s": 1.0, "req/s": 1.0, "requests/s": 1.0, "/min": 1 / 60.0, "req/min": 1 / 60.0, "/h": 1 / 3600.0},
    "degC": {"degC": 1.0, "°C": 1.0, "C": 1.0},
    "1": {"": 1.0, "%": 0.01},
    "count": {**_COUNT, "tokens": 1.0, "token": 1.0, "layers": 1.0, "parameters": 1.0},
}
"""Dimension (its SI unit) -> accepted unit -> factor to SI."""

_QUANTITY: Final = re.compile(r"^\s*([+-]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*$")
_EXAMPLES: Final = {
    "s": "2 s, 100 ms, 1 h", "W": "700 W, 1.2 kW", "J": "5 kWh, 100 J", "byte": "80 GiB, 512 MB", "byte/s": "3.35 TB/s, 400 Gbit/s",
    "FLOP": "3e23 FLOP", "FLOP/s": "989 TFLOP/s", "Hz": "1.98 GHz", "kg": "164 kg", "kg/J": "390 g/kWh", "USD": "25000 USD",
    "USD/J": "0.12 USD/kWh", "USD/s": "2.5 USD/h", "m3/J": "1.8 L/kWh", "J/byte": "5 pJ/bit", "J/FLOP": "0.5 pJ/FLOP", "1/s": "10 req/s",
    "degC": "25 degC", "1": "0.9, 90 %", "count": "8000, 70B",
}  # fmt: skip


def parse_quantity(given: object, dimension: str) -> float:
    """Return the SI value of a number with its unit.

    A bare number is taken to be in the SI unit already. YAML 1.1 reads ``3.35e12`` as text; that is a number here.

    Args:
        given: ``"700 W"``, ``700`` or ``700.0``.
        dimension: A key of :data:`UNITS`, which is its SI unit: ``"W"``, ``"byte/s"`` ...

    Raises:
        SpecError: Not a number, not finite, or a unit of another dimension.

    >>> parse_quantity("100 ms", "s"), parse_quantity(250, "W"), parse_quantity("3.35e12", "byte/s")
    (0.1, 250.0, 3350000000000.0)
    """
    allowed = UNITS[dimension]
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        raise SpecError(f"expected a quantity such as {_EXAMPLES[dimension]}, got {shown(given)}")
    if isinstance(given, str):
        value = _parse_text(given, dimension, allowed)
    else:
        try:
            value = float(given)
        except OverflowError:
            value = math.inf
    if not math.isfinite(value):
        raise SpecError(f"expected a finite quantity such as {_EXAMPLES[dimension]}, got {shown(given, 40)}")
    return value


def _parse_text(given: str, dimension: str, allowed: dict[str, float]) -> float:
    match = _QUANTITY.match(given)
    if match is None or len(given) > 80:  # noqa: PLR2004 -- no quantity is longer; keeps messages short
        raise SpecError(f"expected a quantity such as {_EXAMPLES[dimension]}, got {shown(given, 40)}")
    number, unit = match.groups()
    if unit == "":
        return float(number)
    if unit not in allowed:
        other = next((d for d, units in UNITS.items() if unit in units), None)
        problem = f"{unit!r} is a unit of {other!r}" if other else f"unknown unit {unit!r}"
        raise SpecError(f"{problem}; expected a quantity such as {_EXAMPLES[dimension]}, got {given!r}")
    return float(number) * allowed[unit]
