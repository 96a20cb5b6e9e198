"""The load of a serving scenario: a recorded trace, or arrival process and length distributions; no I/O, no sampling."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from effsim.specs.figure import RateValue, RatioValue, SecondsValue, Spec, quantity

HOURS: Final = 24


def _whole(given: Any) -> int:
    value = quantity(given, "count")
    if value != int(value):
        raise ValueError(f"expected a whole number, got {given!r}")
    return int(value)


def _inside(given: str) -> str:
    outside = re.search(r"^[/\\~]|^[A-Za-z]:|\0", given) or ".." in re.split(r"[/\\]", given)
    if outside:
        raise ValueError(f"path outside: {given!r} may not be absolute or contain '..'; give a name, or a path below the scenario's own folder")
    return given


WholeValue = Annotated[int, BeforeValidator(_whole)]
Positive = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Tokens = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=10**8)]
Requests = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=20_000_000)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_inside)]
PolicyName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]


class Fixed(Spec):
    """Every request has ``tokens``; a bare number means the same."""

    kind: Literal["fixed"]
    tokens: Tokens


class Lognormal(Spec):
    """Log-normal token counts, rounded and held within ``minimum`` and ``maximum``.

    Given by ``median`` and ``p90`` (the 90th percentile), or by ``mean`` (of the tokens) and ``sigma`` (standard
    deviation of the natural logarithm).
    """

    kind: Literal["lognormal"]
    median: Annotated[float, Field(gt=0.0)] | None = None
    p90: Annotated[float, Field(gt=0.0)] | None = None
    mean: Annotated[float, Field(gt=0.0)] | None = None
    sigma: Annotated[float, Field(ge=0.0, le=5.0)] | None = None
    minimum: Tokens = 1
    maximum: Tokens | None = None

    @model_validator(mode="after")
    def _determined(self) -> "Lognormal":
        given = {name for name in ("median", "p90", "mean", "sigma") if getattr(self, name) is not None}
        if given not in ({"median", "p90"}, {"mean", "sigma"}):
            raise ValueError(f"expected median and p90, or mean and sigma; given: {', '.join(sorted(given)) or 'none of them'}")
        if self.median is not None and self.p90 is not None and self.p90 < self.median:
            raise ValueError(f"p90 ({self.p90:g}) must not be below median ({self.median:g})")
        if self.maximum is not None and self.maximum < self.minimum:
            raise ValueError(f"maximum ({self.maximum}) must not be below minimum ({self.minimum})")
        return self


class Uniform(Spec):
    """Whole numbers from ``low`` to ``high``, both included, equally likely."""

    kind: Literal["uniform"]
    low: Tokens
    high: Tokens

    @model_validator(mode="after")
    def _ordered(self) -> "Uniform":
        if self.high < self.low:
            raise ValueError(f"high ({self.high}) must not be below low ({self.low})")
        return self


class Empirical(Spec):
    """One of ``values``, equally likely or by ``weights``."""

    kind: Literal["empirical"]
    values: tuple[Tokens, ...] = Field(max_length=20_000)
    weights: tuple[Annotated[float, Field(ge=0.0)], ...] | None = None

    @model_validator(mode="after")
    def _weighted(self) -> "Empirical":
        if not self.values:
            raise ValueError("values is empty: expected at least one number of tokens")
        if self.weights is not None and (len(self.weights) != len(self.values) or sum(self.weights) <= 0.0):
            raise ValueError(f"weights must be {len(self.values)} numbers, one per value, not all zero")
        return self


class Geometric(Spec):
    """1, 2, 3, ... with the same chance of going on after each, of a given ``mean``."""

    kind: Literal["geometric"]
    mean: Annotated[float, Field(ge=1.0, le=1e8)]


class Histogram(Spec):
    """One of the lengths of a CSV file with the columns ``tokens`` and ``weight`` (or ``count``), by weight."""

    kind: Literal["histogram"]
    file: Name


def _distribution(given: Any) -> Any:
    if isinstance(given, (int, float, str)):
        return {"kind": "fixed", "tokens": given}
    if isinstance(given, dict) and "kind" not in given:
        raise ValueError("expected a number of tokens, or {kind: fixed | lognormal | uniform | geometric | empirical | histogram, ...}")
    return given


Distribution = Fixed | Lognormal | Uniform | Geometric | Empirical | Histogram
Lengths = Annotated[Annotated[Distribution, Field(discriminator="kind")], BeforeValidator(_distribution)]


class FixedTime(Spec):
    """Always ``time`` [s]; a bare quantity means the same."""

    kind: Literal["fixed"]
    time: SecondsValue


class ExponentialTime(Spec):
    """Exponentially distributed, of a given ``mean`` [s]."""

    kind: Literal["exponential"]
    mean: Annotated[SecondsValue, Field(gt=0.0)]


class LognormalTime(Spec):
    """Log-normal, by ``median`` and ``p90`` (the 90th percentile) [s]."""

    kind: Literal["lognormal"]
    median: Annotated[SecondsValue, Field(gt=0.0)]
    p90: Annotated[SecondsValue, Field(gt=0.0)]

    @model_validator(mode="after")
    def _ordered(self) -> "LognormalTime":
        if self.p90 < self.median:
            raise ValueError(f"p90 ({self.p90:g} s) must not be below median ({self.median:g} s)")
        return self


class UniformTime(Spec):
    """Equally likely from ``low`` to ``high`` [s]."""

    kind: Literal["uniform"]
    low: SecondsValue
    high: SecondsValue

    @model_validator(mode="after")
    def _ordered(self) -> "UniformTime":
        if self.high < self.low:
            raise ValueError(f"high ({self.high:g} s) must not be below low ({self.low:g} s)")
        return self


def _duration(given: Any) -> Any:
    if isinstance(given, (int, float, str)):
        return {"kind": "fixed", "time": given}
    if isinstance(given, dict) and "kind" not in given:
        raise ValueError("expected a time, or {kind: fixed | exponential | lognormal | uniform, ...}")
    return given


Duration = FixedTime | ExponentialTime | LognormalTime | UniformTime
Durations = Annotated[Annotated[Duration, Field(discriminator="kind")], BeforeValidator(_duration)]


class Sessions(Spec):
    """Conversations of several turns: ``arrivals`` are those of first turns, the next turn comes ``think`` after the end of the former.

    ``prompt_tokens`` of the workload are what a turn adds; before it stand all earlier prompts and outputs of the session. A session ends after
    ``turns``, or before a turn that would pass ``max_context`` (the prompt and the output together).
    """

    turns: Lengths
    think: Durations
    max_context: Tokens | None = None


class Priorities(Spec):
    """One of ``values``, equally likely or by ``weights``; the smaller, the sooner served."""

    values: tuple[Annotated[int, Field(ge=-(10**9), le=10**9)], ...] = Field(min_length=1, max_length=100)
    weights: tuple[Annotated[float, Field(ge=0.0)], ...] | None = None

    @model_validator(mode="after")
    def _weighted(self) -> "Priorities":
        if self.weights is not None and (len(self.weights) != len(self.values) or sum(self.weights) <= 0.0):
            raise ValueError(f"weights must be {len(self.values)} numbers, one per value, not all zero")
        return self


_TAKES: Final[dict[str, tuple[frozenset[str], ...]]] = {
    "poisson": (frozenset({"rate"}),),
    "gamma": (frozenset({"rate", "burstiness"}),),
    "deterministic": (frozenset({"rate"}),),
    "diurnal": (frozenset({"rate", "hourly_factors"}), frozenset({"rate", "swing"}), frozenset({"hourly_rates"})),
    "closed_loop": (frozenset({"concurrency"}),),
}
"""Process -> sets of fields, of which exactly one is given."""
_MAY_TAKE: Final = {"diurnal": {"burstiness", "start_hour", "peak_hour"}}
Hour = Annotated[float, Field(ge=0.0, lt=24.0)]


class Arrivals(Spec):
    """When requests come.

    ``poisson``, ``gamma`` (``burstiness`` is the shape of the gaps: 1 is Poisson, below 1 burstier, as in vLLM's benchmark)
    and ``deterministic`` need ``rate``; ``closed_loop`` keeps ``concurrency`` requests (or sessions) under way.

    ``diurnal`` follows the hours of a day, which repeats: ``rate`` is the mean over a day, times one of 24 ``hourly_factors`` (only their ratios
    count) or times 1 + ``swing`` · cos(2π (hour − ``peak_hour``) / 24); or 24 ``hourly_rates`` are given. The run begins at ``start_hour``;
    with ``burstiness``, gaps in expected requests are gamma, else exponential.
    """

    process: Literal["poisson", "gamma", "deterministic", "diurnal", "closed_loop"]
    rate: Annotated[RateValue, Field(gt=0.0)] | None = None
    burstiness: Annotated[float, Field(gt=0.0)] | None = None
    concurrency: Annotated[int, BeforeValidator(_whole), Field(ge=1, le=1_000_000)] | None = None
    hourly_factors: tuple[Annotated[float, Field(ge=0.0)], ...] | None = None
    hourly_rates: tuple[RateValue, ...] | None = None
    swing: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    peak_hour: Hour | None = None
    start_hour: Hour | None = None

    @model_validator(mode="after")
    def _determined(self) -> "Arrivals":
        given = {name for name in type(self).model_fields if name != "process" and getattr(self, name) is not None}
        choices = _TAKES[self.process]
        if given - _MAY_TAKE.get(self.process, set()) not in choices:
            expected = " or ".join(" and ".join(sorted(fields)) for fields in choices)
            raise ValueError(f"{self.process} arrivals take exactly {expected}; given: {', '.join(sorted(given)) or 'nothing'}")
        if self.peak_hour is not None and self.swing is None:
            raise ValueError("peak_hour belongs to swing")
        for name in ("hourly_factors", "hourly_rates"):
            values = getattr(self, name)
            if values is not None and (len(values) != HOURS or sum(values) <= 0.0):
                raise ValueError(f"{name}: expected {HOURS} numbers, one per hour of the day, not all zero; got {len(values)}")
        return self


class Window(Spec):
    """The part of a trace from ``start`` to ``end`` [s], counted from its first request."""

    start: SecondsValue = 0.0
    end: SecondsValue

    @model_validator(mode="after")
    def _ordered(self) -> "Window":
        if self.end <= self.start:
            raise ValueError(f"end ({self.end:g} s) must be after start ({self.start:g} s)")
        return self


class Workload(Spec):
    """The requests: a recorded ``trace``, or ``arrivals`` with ``prompt_tokens`` and ``output_tokens``.

    ``rate_scale`` divides the gaps of a trace, ``volume_scale`` lays copies of it over each other or thins it, at an unchanged span; ``limit``
    keeps its first requests. ``duration`` and ``requests`` end generated arrivals, whichever comes first. ``lengths_from`` names a trace whose
    pairs of prompt and output are drawn in the place of the two distributions. ``sessions`` makes requests the turns of conversations.
    """

    trace: Name | None = None
    rate_scale: Annotated[RatioValue, Field(gt=0.0)] = 1.0
    volume_scale: Annotated[RatioValue, Field(gt=0.0)] = 1.0
    limit: Requests | None = None
    window: Window | None = None
    arrivals: Arrivals | None = None
    prompt_tokens: Lengths | None = None
    output_tokens: Lengths | None = None
    lengths_from: Name | None = None
    sessions: Sessions | None = None
    priorities: Priorities | None = None
    duration: Annotated[SecondsValue, Field(gt=0.0)] | None = None
    requests: Requests | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "Workload":
        generated = [n for n in _GENERATED if getattr(self, n) is not None]
        recorded = [n for n in ("limit", "window") if getattr(self, n) is not None]
        recorded += [n for n in ("rate_scale", "volume_scale") if getattr(self, n) != 1.0]
        if self.trace is not None and generated:
            raise ValueError(f"a trace excludes {', '.join(generated)}")
        if self.trace is None:
            self._check_generated(generated)
            if recorded:
                raise ValueError(f"{', '.join(recorded)} apply to a trace only")
        return self

    def _check_generated(self, generated: list[str]) -> None:
        drawn = () if self.lengths_from else ("prompt_tokens", "output_tokens")
        missing = [n for n in ("arrivals", *drawn) if n not in generated]
        if missing:
            raise ValueError(f"expected a trace, or arrivals, prompt_tokens and output_tokens; missing: {', '.join(missing)}")
        if self.lengths_from and (self.prompt_tokens is not None or self.output_tokens is not None):
            raise ValueError("lengths_from excludes prompt_tokens and output_tokens")
        if self.duration is None and self.requests is None:
            raise ValueError("generated arrivals need duration, requests or both")
        if self.arrivals is not None and self.arrivals.process == "closed_loop" and (self.requests is None or self.duration is not None):
            raise ValueError("closed_loop arrivals end by requests, not by duration")


_GENERATED: Final = ("arrivals", "prompt_tokens", "output_tokens", "lengths_from", "sessions", "priorities", "duration", "requests")
