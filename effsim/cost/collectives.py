"""Collectives by the alpha-beta model, flat or hierarchical over two levels of network.

Time of a pattern on n ranks with a buffer of S bytes is ``alpha + beta S``; where two algorithms compete (latency- and
bandwidth-optimal all-reduce), both are returned and the faster is taken per size. Sources: Thakur, Rabenseifner, Gropp,
IJHPCA 19(1), 2005; NCCL documentation, tuning (2025).
"""

import dataclasses
import math

from effsim.errors import SpecError
from effsim.workload.operations import Axis, Collective, Parallelism


@dataclasses.dataclass(frozen=True, slots=True)
class Level:
    """One level of the network: latency of a step [s], bandwidth per rank and direction [bytes/s], energy outside the accelerator [J/byte]."""

    latency_s: float
    bytes_per_s: float
    in_network_reduction: bool = False
    energy_per_byte_j: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Fabric:
    """Accelerators joined by ``inner`` in domains of ``domain``, and by ``outer`` (None: not at all) beyond.

    ``host``: the link to the host. ``once_per_domain``: routed tokens cross to another domain once, not once per expert there.
    """

    domain: int
    inner: Level | None
    outer: Level | None
    host: Level | None = None
    once_per_domain: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class LinearCost:
    """Two competing straight lines of time over payload, and the bytes that each rank puts on the wire, and beyond its domain, per payload byte."""

    alpha_s: tuple[float, float]
    beta_s_per_byte: tuple[float, float]
    wire_per_byte: float
    outer_per_byte: float = 0.0


ZERO = LinearCost((0.0, 0.0), (0.0, 0.0), 0.0)
_ORDER: tuple[Axis, ...] = ("tensor", "context", "data", "pipeline")


def ranks_of(axis: Axis, parallelism: Parallelism) -> int:
    """Return how many ranks an axis has."""
    sizes = {
        "tensor": parallelism.tensor,
        "context": parallelism.context,
        "data": parallelism.data,
        "pipeline": parallelism.pipeline,
        "expert": parallelism.expert,
    }
    return sizes.get(axis, 1)


def split_levels(axis: Axis, parallelism: Parallelism, domain: int) -> tuple[int, int]:
    """Return the ranks of an axis inside one domain and the number of domains, tensor ranks lying closest together.

    >>> split_levels("data", Parallelism(tensor=4, data=16), 8)
    (2, 8)
    """
    ranks = ranks_of(axis, parallelism)
    stride = 1
    for inner in _ORDER:
        if axis in {inner, "expert"}:
            break
        stride *= ranks_of(inner, parallelism)
    inside = max(1, min(ranks, domain // stride)) if stride <= domain else 1
    while ranks % inside:
        inside -= 1
    return inside, ranks // inside


def collective_cost(pattern: Collective, axis: Axis, parallelism: Parallelism, fabric: Fabric, copies: int = 1) -> LinearCost:
    """Return the cost of a collective on an axis; ``copies`` of each token make up the payload of an all-to-all.

    Raises:
        SpecError: The ranks reach beyond the fast network and there is no other.
    """
    if pattern == "send":
        return _send(axis, parallelism, fabric)
    inside, across = split_levels(axis, parallelism, fabric.domain)
    if (inside > 1 and fabric.inner is None) or (across > 1 and fabric.outer is None):
        ranks = ranks_of(axis, parallelism)
        raise SpecError(f"{axis}_parallel: {ranks} ranks reach beyond the {fabric.domain} accelerators that are joined; give a node with a network (node=)")
    one = _flat(pattern, inside, fabric.inner)
    if across == 1:
        return one
    two = _flat(pattern, across, fabric.outer)
    if inside == 1:
        return dataclasses.replace(two, outer_per_byte=two.wire_per_byte)
    if pattern == "all_to_all":
        return _routed((inside, across), one.alpha_s[1] + two.alpha_s[1], fabric, copies)
    return _hierarchical(pattern, (inside, across), (one, two), fabric)


def _routed(ranks: tuple[int, int], alpha_s: float, fabric: Fabric, copies: int) -> LinearCost:
    """Return an all-to-all over two levels: what stays in the domain, and what leaves it.

    Where the fabric's software sends a token once to each other domain, however many of its k experts lie there, and forwards it
    inside, ``(n - 1)(1 - (1 - 1/n)^k)`` copies leave instead of ``k (n - 1) / n``, for n domains and experts chosen evenly. Source:
    DeepSeek-V3 report, arXiv:2412.19437, section 3.2.2.
    """
    inside, across = ranks
    inner, outer = fabric.inner, fabric.outer
    if inner is None or outer is None:
        return ZERO
    size = inside * across
    leaving, staying = (size - inside) / size, (inside - 1) / size
    if fabric.once_per_domain:
        distinct = (across - 1) * (1.0 - (1.0 - 1.0 / across) ** copies)
        forwarded = leaving * (inside - 1) / inside
        beyond = distinct / copies
        beta = (staying + forwarded) / inner.bytes_per_s + beyond / outer.bytes_per_s
    else:
        beyond = leaving
        beta = staying / inner.bytes_per_s + beyond / outer.bytes_per_s
    return LinearCost((alpha_s, alpha_s), (beta, beta), (size - 1) / size, beyond)


def _send(axis: Axis, parallelism: Parallelism, fabric: Fabric) -> LinearCost:
    within = parallelism.accelerators <= fabric.domain and fabric.inner is not None
    level = {"host": fabric.host, "pool": fabric.outer or fabric.inner}.get(axis, fabric.inner if within else fabric.outer)
    if level is None:
        raise SpecError(f"{axis}: no link is known for it (domain of {fabric.domain} accelerators); give a node with a network (node=)")
    return LinearCost((level.latency_s, level.latency_s), (1.0 / level.bytes_per_s, 1.0 / level.bytes_per_s), 1.0, 0.0 if level is fabric.inner else 1.0)


def _flat(pattern: Collective, n: int, level: Level | None) -> LinearCost:
    """Ring for large buffers; for small all-reduces every rank reads every other's buffer in one step."""
    if n == 1 or level is None:
        return ZERO
    a, b = level.latency_s, 1.0 / level.bytes_per_s
    share = (n - 1) / n
    if pattern == "all_reduce":
        if level.in_network_reduction:  # the switch adds: each rank sends its buffer once and receives it once, in two halves
            return LinearCost((a, 2 * a), ((n - 1) * b, b * (1 + 1 / n)), 2 * share)
        return LinearCost((a, 2 * (n - 1) * a), ((n - 1) * b, 2 * share * b), 2 * share)
    steps = math.log2(n) if pattern == "all_to_all" else float(n - 1)
    fast = min(steps, 2.0 * math.log2(n))
    return LinearCost((fast * a, fast * a), (share * b, share * b), share)


def _hierarchical(pattern: Collective, ranks: tuple[int, int], parts: tuple[LinearCost, LinearCost], fabric: Fabric) -> LinearCost:
    """Reduce-scatter inside, the pattern across on 1/m of the buffer, all-gather inside; or its half."""
    inside, _ = ranks
    _, two = parts
    first = _flat("reduce_scatter", inside, fabric.inner)
    passes = 2.0 if pattern == "all_reduce" else 1.0
    alpha = passes * first.alpha_s[1] + two.alpha_s[1]
    beta = passes * first.beta_s_per_byte[1] + two.beta_s_per_byte[1] / inside
    small = passes * first.alpha_s[0] + two.alpha_s[0], passes * first.beta_s_per_byte[0] + two.beta_s_per_byte[0] / inside
    beyond = two.wire_per_byte / inside
    return LinearCost((small[0], alpha), (small[1], beta), passes * first.wire_per_byte + beyond, beyond)
