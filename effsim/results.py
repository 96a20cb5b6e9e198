"""What EffSim answers with: frozen values whose names carry units, whose numbers carry intervals and provenance.

Absent is ``None`` (``null`` in JSON), never 0; a figure that is not finite is absent too.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import pandas as pd

Provenance = Literal["measured", "calibrated", "transferred", "datasheet", "assumed"]
Scope = Literal["accelerator", "server", "site"]

PROVENANCES: Final[tuple[Provenance, ...]] = get_args(Provenance)
"""Strongest first: measured on this very case; fitted on this device; fitted on a similar one; data sheet and priors; assumed."""


def weakest(provenances: Iterable[Provenance]) -> Provenance:
    """Return the provenance of a result that rests on several: that of its weakest part.

    Raises:
        ValueError: Empty, or a name that is no provenance.

    >>> weakest(["measured", "datasheet", "calibrated"])
    'datasheet'
    """
    return PROVENANCES[max(PROVENANCES.index(name) for name in provenances)]


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: NumPy, pandas and results unpacked, what is not finite as ``None``.

    >>> plain({"tpot_s": np.float64("nan"), "batch": np.array([1, 2])})
    {'tpot_s': None, 'batch': [1, 2]}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return _unpacked(value)


def _unpacked(value: Any) -> Any:
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, pd.DataFrame):
        value = value.to_dict(orient="records")
    elif isinstance(value, np.ndarray):
        return plain(value.tolist())
    elif is_dataclass(value):
        value = {one.name: getattr(value, one.name) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)


def to_json(value: Any, indent: int | None = 2) -> str:
    """Return valid JSON (no ``NaN``, no ``Infinity``) of whatever :func:`plain` unpacks."""
    return json.dumps(plain(value), indent=indent, allow_nan=False, ensure_ascii=False)


def flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, the keys joined by dots.

    >>> flatten({"energy": {"host_j": 1.0, "total_j": 3.0}})
    {'energy.host_j': 1.0, 'energy.total_j': 3.0}
    """
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


class Result:
    """Base of the result types, which are frozen slotted dataclasses."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values; the keys are the field names, which carry the units."""
        return {one.name: plain(getattr(self, one.name)) for one in fields(self)}  # type: ignore[arg-type]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per case: arrays of equal length become rows, scalars are repeated, tables stay out."""
        flat = {key: value for key, value in flatten(self.to_dict()).items() if not _is_table(value)}
        length = max((len(value) for value in flat.values() if isinstance(value, list)), default=None)
        if length is None:
            return pd.DataFrame([flat])
        return pd.DataFrame({key: value if isinstance(value, list) and len(value) == length else [value] * length for key, value in flat.items()})

    def to_json(self, indent: int | None = 2) -> str:
        """Return :meth:`to_dict` as valid JSON: what is absent is ``null``."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False, ensure_ascii=False)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)


@dataclass(frozen=True, slots=True)
class Quantity(Result):
    """One number with its 90 % interval and where it comes from.

    Args:
        value: The median, in ``unit``; ``None`` where it is not known.
        unit: As printed: ``"s"``, ``"J/token"``, ``"kW"`` ...
        low: 5 % quantile, ``None`` where no interval is known.
        high: 95 % quantile.
        provenance: See :data:`PROVENANCES`.
        scope: The boundary of a power or energy: the accelerators; the servers at the plug; the site at the meter.

    Raises:
        ValueError: The interval does not contain the value, or only one end of it is given.

    >>> Quantity(2.0, "s", 1.5, 3.0, "datasheet").relative_to(Quantity(1.6, "s"))
    0.25
    """

    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    provenance: Provenance = "datasheet"
    scope: Scope | None = None

    def __post_init__(self) -> None:
        """Refuse an interval that does not contain its value."""
        if (self.low is None) != (self.high is None):
            raise ValueError(f"an interval has two ends, got low={self.low}, high={self.high}")
        if self.value is not None and self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError(f"expected low <= value <= high, got {self.low}, {self.value}, {self.high} {self.unit}")

    def relative_to(self, base: "Quantity") -> float | None:
        """Return the relative difference to a base, or ``None`` where either is absent or the base is 0.

        Raises:
            ValueError: The units differ.
        """
        if self.unit != base.unit:
            raise ValueError(f"cannot compare {self.unit} with {base.unit}")
        if self.value is None or not base.value:
            return None
        return self.value / base.value - 1.0

    def scaled(self, factor: float, unit: str) -> "Quantity":
        """Return the quantity in another unit, for reports.

        >>> Quantity(2.0, "W").scaled(1e3, "mW").value
        2000.0
        """
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Quantity(None if self.value is None else self.value * factor, unit, low, high, self.provenance, self.scope)


@dataclass(frozen=True, slots=True)
class Variant(Result):
    """A column of a scenario's table: the base or one what-if.

    Args:
        name: As the scenario names it.
        metrics: Key with unit -> quantity, in the order of the table; empty where the variant cannot run.
        changes: Field path -> value that the what-if sets; empty for the base.
        infeasible: Why it cannot run, or ``None``.
        notes: What a reader must know beside the numbers (assumptions, substitutions).
        difference_intervals: Key -> 90 % interval of the difference to the base, what is not known of both being the same in both.
    """

    name: str
    metrics: Mapping[str, Quantity]
    changes: Mapping[str, Any]
    infeasible: str | None = None
    notes: tuple[str, ...] = ()
    difference_intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScenarioReport(Result):
    """The answer to a scenario: its base and its what-ifs in the same metrics.

    Args:
        name: The scenario's.
        kind: ``serving`` or ``training``.
        variants: The base first.
        labels: Metric key -> words for people, without the unit.
        summary: The base run in full, as plain values: counts, energy parts, what was assumed.
        metadata: Versions, seed, trace, calibration, engine imitated.
    """

    name: str
    kind: str
    variants: tuple[Variant, ...]
    labels: Mapping[str, str]
    summary: Mapping[str, Any]
    metadata: Mapping[str, Any]

    @property
    def base(self) -> Variant:
        """The unchanged scenario."""
        return self.variants[0]

    def difference(self, variant: Variant, key: str) -> float | None:
        """Return the difference of a metric to the base, or ``None`` where either lacks it: relative, of shares (unit 1) absolute."""
        if key not in variant.metrics or key not in self.base.metrics or variant is self.base:
            return None
        value, before = variant.metrics[key].value, self.base.metrics[key].value
        if variant.metrics[key].unit == "1":
            return None if value is None or before is None else value - before
        return variant.metrics[key].relative_to(self.base.metrics[key])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; each what-if's metrics also hold their difference to the base, with its interval."""
        variants = []
        for variant in self.variants:
            document = variant.to_dict()
            apart = document.pop("difference_intervals")
            for key, metric in document["metrics"].items():
                metric["difference_to_base"] = self.difference(variant, key)
                metric["difference_low"], metric["difference_high"] = apart.get(key, (None, None))
            variants.append(document)
        return {
            "name": self.name,
            "kind": self.kind,
            "variants": variants,
            "labels": dict(self.labels),
            "summary": plain(self.summary),
            "metadata": plain(self.metadata),
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row per variant and metric: value, unit, interval, provenance, scope, difference to the base."""
        rows = [
            {"variant": variant.name, "metric": key, **metric.to_dict(), "difference_to_base": self.difference(variant, key)}
            for variant in self.variants
            for key, metric in variant.metrics.items()
        ]
        columns = ["variant", "metric", *(one.name for one in fields(Quantity)), "difference_to_base"]
        return pd.DataFrame(rows, columns=columns)
