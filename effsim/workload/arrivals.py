"""Requests for a scenario: its trace, or arrivals and lengths drawn from its distributions."""

import math
import zlib
from typing import Final

import numpy as np

from effsim.catalog import DATA_VARIABLE
from effsim.errors import SpecError
from effsim.specs.scenario import Scenario, find_trace
from effsim.specs.workload import Arrivals, Distribution, Empirical, Fixed, Lognormal, Uniform, Workload
from effsim.workload.synthetic import TRACES, synthetic_trace
from effsim.workload.trace_files import read_trace
from effsim.workload.traces import FloatArray, IntArray, Trace, select

MAX_REQUESTS: Final = 20_000_000
_P90_OF_NORMAL: Final = 1.2815515655446004


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the random stream of one name; streams of other names do not move it.

    >>> stream(1, "arrivals").random() == stream(1, "arrivals").random() != stream(1, "prompts").random()
    True
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()),)))


def requests_of(scenario: Scenario) -> Trace:
    """Return the requests of a serving scenario.

    Where a published trace of :data:`~effsim.workload.synthetic.TRACES` is absent, requests drawn from its statistics stand in, and
    ``origin`` says so.

    Raises:
        SpecError: No workload; a trace that is nowhere or malformed; more than 20 million requests.
    """
    load = scenario.workload
    if load is None:
        raise SpecError(f"{scenario.name}: a {scenario.kind} scenario without a workload has no requests")
    if load.trace is None:
        return generated(load, scenario.seed)
    path = find_trace(scenario)
    if path is not None:
        trace = read_trace(path)
    elif load.trace in TRACES:
        trace = synthetic_trace(load.trace, scenario.seed)
    else:
        raise SpecError(f"workload.trace: {load.trace!r} is neither beside the scenario, nor in the working folder, nor in a folder of {DATA_VARIABLE}")
    window_s = (load.window.start, load.window.end) if load.window else None
    return select(trace, load.rate_scale, load.limit, window_s)


def generated(load: Workload, seed: int) -> Trace:
    """Return requests drawn from arrivals and lengths; each of the three has a stream of its own."""
    arrivals, prompts, outputs = load.arrivals, load.prompt_tokens, load.output_tokens
    if arrivals is None or prompts is None or outputs is None:
        raise SpecError("workload: expected arrivals, prompt_tokens and output_tokens")
    arrival_s = arrival_times_s(arrivals, stream(seed, "arrivals"), load.requests, load.duration)
    count = arrival_s.size
    if count == 0:
        raise SpecError(f"workload: no request arrives within {load.duration:g} s at {arrivals.rate:g} per second")
    name = f"{arrivals.process} arrivals"
    return Trace(
        name, f"generated with seed {seed}", arrival_s, lengths(prompts, stream(seed, "prompts"), count), lengths(outputs, stream(seed, "outputs"), count)
    )


def arrival_times_s(arrivals: Arrivals, random: np.random.Generator, requests: int | None, duration_s: float | None) -> FloatArray:
    """Return arrival times [s], shape (request,), ended by ``requests`` or ``duration_s``, whichever comes first.

    Gaps are exponential (``poisson``), gamma of shape ``burstiness`` (``gamma``), or equal from time 0 on
    (``deterministic``), with mean 1 / rate. ``closed_loop``: all zero, as the simulator sets each when its turn comes.
    """
    if arrivals.rate is None:
        return np.zeros(requests or 0)
    limit_s = math.inf if duration_s is None else duration_s
    expected = limit_s * arrivals.rate
    count = expected + 10.0 * math.sqrt(expected / min(arrivals.burstiness or 1.0, 1.0)) + 10.0 if requests is None else float(requests)
    if count > MAX_REQUESTS:
        raise SpecError(f"workload: about {count:,.0f} requests; at most {MAX_REQUESTS:,} are simulated in one run")
    times_s = _cumulated(arrivals, random, int(count))
    while requests is None and times_s[-1] < limit_s:
        times_s = np.concatenate((times_s, times_s[-1] + _cumulated(arrivals, random, int(count))))
    return times_s[times_s < limit_s]


def _cumulated(arrivals: Arrivals, random: np.random.Generator, count: int) -> FloatArray:
    rate = arrivals.rate or math.nan
    if arrivals.process == "deterministic":
        return np.arange(count) / rate
    shape = arrivals.burstiness or 1.0
    return np.cumsum(random.gamma(shape, 1.0 / (rate * shape), size=count))


def lengths(distribution: Distribution, random: np.random.Generator, count: int) -> IntArray:
    """Return token counts of a distribution, shape (count,), each at least 1.

    >>> lengths(Fixed(kind="fixed", tokens=512), stream(0, "prompts"), 3).tolist()
    [512, 512, 512]
    """
    match distribution:
        case Fixed():
            return np.full(count, distribution.tokens, dtype=np.int64)
        case Uniform():
            return random.integers(distribution.low, distribution.high, size=count, endpoint=True)
        case Empirical():
            weights = None if distribution.weights is None else np.array(distribution.weights) / sum(distribution.weights)
            return random.choice(np.array(distribution.values, dtype=np.int64), size=count, p=weights)
        case Lognormal():
            mu, sigma = lognormal_parameters(distribution)
            drawn = np.rint(random.lognormal(mu, sigma, size=count))
            return np.clip(drawn, distribution.minimum, distribution.maximum or 10**8).astype(np.int64)


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
