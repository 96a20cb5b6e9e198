"""A figure of a data file: its value in SI, what kind of knowledge it is, where it stands and of what date."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from effsim.errors import SpecError, shown
from effsim.units import parse_quantity

Kind = Literal["datasheet", "measured", "fitted", "assumed"]


class Spec(BaseModel):
    """Base of every model of the world: strict about names, immutable, without NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=2_000)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, given: Any) -> Any:
        """Refuse ``yes`` where a number belongs: pydantic would read it as 1, and YAML reads ``yes``, ``on`` and ``true`` as truth."""
        for name, value in given.items() if isinstance(given, dict) else ():
            field = cls.model_fields.get(name)
            is_truth = isinstance(value, bool) or (isinstance(value, (list, tuple)) and any(isinstance(item, bool) for item in value))
            if is_truth and field is not None and not _takes_truth(field.annotation):
                raise PydanticCustomError(MISPLACED_TRUTH, "expected a number, a text or a mapping", {"field": name})
        return given


MISPLACED_TRUTH: Final = "misplaced_truth"
"""Type of the validation error above; its context names the field."""


def _takes_truth(annotation: Any) -> bool:
    return annotation in {bool, Any} or any(_takes_truth(part) for part in get_args(annotation))


class Source(Spec):
    """Where figures stand: a title that a reader can find, an address where there is one, a date."""

    title: str = Field(min_length=3)
    url: str | None = None
    date: str = Field(pattern=r"^\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?$", description="of the source, or of the reading")


class Figure(Spec):
    """One number with its provenance.

    Args:
        value: In the SI unit of the field.
        unit: That unit, put in by the field.
        kind: ``datasheet``, ``measured``, ``fitted`` or ``assumed``.
        source: A key of the file's ``sources``.
        low: Lower end of the range that the source gives, or a 90 % range for an assumption.
        high: Upper end.
    """

    value: float
    unit: str
    kind: Kind
    source: str
    low: float | None = None
    high: float | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "Figure":
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        if not low <= self.value <= high:
            raise ValueError(f"expected low <= value <= high, got {low:g}, {self.value:g}, {high:g}")
        return self


NONNEGATIVE: Final = {"W", "J", "byte", "byte/s", "FLOP", "FLOP/s", "Hz", "s", "kg", "kg/J", "USD", "USD/s", "m3/J", "J/byte", "J/FLOP", "1/s", "1", "count"}


def quantity(given: Any, dimension: str) -> float:
    """Return a validated SI float; the message of a bad one says what was expected."""
    try:
        value = parse_quantity(given, dimension)
    except SpecError as error:
        raise ValueError(str(error)) from None
    if value < 0.0 and dimension in NONNEGATIVE:
        raise ValueError(f"must not be negative, got {shown(given)}")
    return value


def _figure(dimension: str) -> BeforeValidator:
    def build(given: Any) -> Any:
        if not isinstance(given, dict):
            if isinstance(given, Figure):
                return given
            raise ValueError(f"expected {{value, kind, source}}, got {shown(given)}")
        parts = dict(given)
        for key in ("value", "low", "high"):
            if parts.get(key) is not None:
                parts[key] = quantity(parts[key], dimension)
        return {**parts, "unit": dimension}

    return BeforeValidator(build)


def _quantity(dimension: str) -> BeforeValidator:
    return BeforeValidator(lambda given: quantity(given, dimension))


Watts = Annotated[Figure, _figure("W")]
Bytes = Annotated[Figure, _figure("byte")]
BytesPerSecond = Annotated[Figure, _figure("byte/s")]
FlopPerSecond = Annotated[Figure, _figure("FLOP/s")]
Hertz = Annotated[Figure, _figure("Hz")]
Seconds = Annotated[Figure, _figure("s")]
Kilograms = Annotated[Figure, _figure("kg")]
KilogramsPerJoule = Annotated[Figure, _figure("kg/J")]
Dollars = Annotated[Figure, _figure("USD")]
DollarsPerJoule = Annotated[Figure, _figure("USD/J")]
DollarsPerSecond = Annotated[Figure, _figure("USD/s")]
CubicMetresPerJoule = Annotated[Figure, _figure("m3/J")]
JoulesPerByte = Annotated[Figure, _figure("J/byte")]
Celsius = Annotated[Figure, _figure("degC")]
Ratio = Annotated[Figure, _figure("1")]
Count = Annotated[Figure, _figure("count")]

SecondsValue = Annotated[float, _quantity("s")]
WattsValue = Annotated[float, _quantity("W")]
JoulesValue = Annotated[float, _quantity("J")]
BytesValue = Annotated[float, _quantity("byte")]
DollarsValue = Annotated[float, _quantity("USD")]
RateValue = Annotated[float, _quantity("1/s")]
RatioValue = Annotated[float, _quantity("1")]


class Sourced(Spec):
    """A spec whose figures cite the ``sources`` of the same file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    aliases: tuple[str, ...] = ()
    note: str | None = None
    sources: dict[str, Source]

    @model_validator(mode="after")
    def _cited(self, info: ValidationInfo) -> "Sourced":
        for path, figure in figures(self):
            if figure.source not in self.sources:
                raise ValueError(f"{path} cites the source {figure.source!r}, which is not among sources: {', '.join(self.sources)}")
        return self


def figures(spec: BaseModel, prefix: str = "") -> Iterator[tuple[str, Figure]]:
    """Yield every figure of a spec with its field path."""
    for name in type(spec).model_fields:
        yield from _figures_in(getattr(spec, name), f"{prefix}{name}")


def _figures_in(value: Any, path: str) -> Iterator[tuple[str, Figure]]:
    if isinstance(value, Figure):
        yield path, value
    elif isinstance(value, BaseModel):
        yield from figures(value, f"{path}.")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _figures_in(item, f"{path}.{key}")
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _figures_in(item, f"{path}.{index}")
