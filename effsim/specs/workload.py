"""The load of a serving scenario: a recorded trace, or arrival process and length distributions; no I/O, no sampling."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from effsim.specs.figure import RateValue, RatioValue, SecondsValue, Spec, quantity


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


def _distribution(given: Any) -> Any:
    if isinstance(given, (int, float, str)):
        return {"kind": "fixed", "tokens": given}
    if isinstance(given, dict) and "kind" not in given:
        raise ValueError("expected a number of tokens, or {kind: fixed | lognormal | uniform | empirical, ...}")
    return given


Distribution = Fixed | Lognormal | Uniform | Empirical
Lengths = Annotated[Annotated[Distribution, Field(discriminator="kind")], BeforeValidator(_distribution)]


class Arrivals(Spec):
    """When requests come.

    ``poisson``, ``gamma`` (``burstiness`` is the shape of the gaps: 1 is Poisson, below 1 burstier, as in vLLM's benchmark)
    and ``deterministic`` need ``rate``; ``closed_loop`` keeps ``concurrency`` requests under way.
    """

    process: Literal["poisson", "gamma", "deterministic", "closed_loop"]
    rate: Annotated[RateValue, Field(gt=0.0)] | None = None
    burstiness: Annotated[float, Field(gt=0.0)] | None = None
    concurrency: Annotated[int, BeforeValidator(_whole), Field(ge=1, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _determined(self) -> "Arrivals":
        needed = {"poisson": {"rate"}, "gamma": {"rate", "burstiness"}, "deterministic": {"rate"}, "closed_loop": {"concurrency"}}[self.process]
        given = {name for name in ("rate", "burstiness", "concurrency") if getattr(self, name) is not None}
        if given != needed:
            raise ValueError(f"{self.process} arrivals take exactly {' and '.join(sorted(needed))}; given: {', '.join(sorted(given)) or 'nothing'}")
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

    ``rate_scale`` divides the gaps of a trace; ``limit`` keeps its first requests. ``duration`` and ``requests`` end
    generated arrivals, whichever comes first.
    """

    trace: Name | None = None
    rate_scale: Annotated[RatioValue, Field(gt=0.0)] = 1.0
    limit: Requests | None = None
    window: Window | None = None
    arrivals: Arrivals | None = None
    prompt_tokens: Lengths | None = None
    output_tokens: Lengths | None = None
    duration: Annotated[SecondsValue, Field(gt=0.0)] | None = None
    requests: Requests | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "Workload":
        generated = [n for n in ("arrivals", "prompt_tokens", "output_tokens", "duration", "requests") if getattr(self, n) is not None]
        recorded = [n for n in ("limit", "window") if getattr(self, n) is not None] + (["rate_scale"] if self.rate_scale != 1.0 else [])
        if self.trace is not None and generated:
            raise ValueError(f"a trace excludes {', '.join(generated)}")
        if self.trace is None:
            missing = [n for n in ("arrivals", "prompt_tokens", "output_tokens") if n not in generated]
            if missing:
                raise ValueError(f"expected a trace, or arrivals, prompt_tokens and output_tokens; missing: {', '.join(missing)}")
            if self.duration is None and self.requests is None:
                raise ValueError("generated arrivals need duration, requests or both")
            if self.arrivals is not None and self.arrivals.process == "closed_loop" and (self.requests is None or self.duration is not None):
                raise ValueError("closed_loop arrivals end by requests, not by duration")
            if recorded:
                raise ValueError(f"{', '.join(recorded)} apply to a trace only")
        return self
