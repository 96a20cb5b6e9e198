r"""The founding article's formulas, as it prints them and with units that agree.

The article's symbols: M model size (here: units of work), N nodes, P power of a node, T time, C a constant energy, and a
"performance", which the article also calls P. Its worked case is M = 1000, N = 10, T = 100 h, P = 100 W, C = 1000 J.

It prints :math:`E = N M P T + C = 10^9` and performance :math:`M / (N T) = 0.1`. With its numbers these are 100 001 000 and 1:

>>> article_energy(WORKED_CASE), article_performance(WORKED_CASE)
(100001000.0, 1.0)

The first adds watt-hours to joules. With 3600 s in the hour the energy is 360 GJ (100 MWh):

>>> energy_j(WORKED_CASE)
360000001000.0

The article uses T twice. In the energy it is the time that one unit of work keeps all nodes busy, since M multiplies it; in the
performance it is the time of the whole run. Where T is the whole run, M is no factor of the energy, which is then 360 MJ (100 kWh):

>>> run_energy_j(WORKED_CASE)
360001000.0

``docs/theory/founding-article.md`` says what became of each symbol in the full model.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

from effsim.errors import InfeasibleError, SpecError
from effsim.units import SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Case:
    """One point of the article's model.

    Args:
        work_units: M, the units of work; a real number above 0.
        nodes: N, at least 1.
        power_w: P, the power of one node [W], above 0.
        time_s: T [s], above 0; per unit of work in :func:`energy_j`, of the whole run in :func:`performance_per_s`.
        constant_j: C, what is spent once [J].

    Raises:
        SpecError: A value outside the ranges above, or not finite.
    """

    work_units: float
    nodes: int
    power_w: float
    time_s: float
    constant_j: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("work_units", "power_w", "time_s"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise SpecError(f"{name}: expected a finite number above 0, got {getattr(self, name)!r}")
        if self.nodes < 1:
            raise SpecError(f"nodes: expected at least 1, got {self.nodes!r}")
        if not 0.0 <= self.constant_j < math.inf:
            raise SpecError(f"constant_j: expected a finite number of at least 0, got {self.constant_j!r}")


WORKED_CASE: Final = Case(work_units=1000.0, nodes=10, power_w=100.0, time_s=100.0 * SECONDS_PER_HOUR, constant_j=1000.0)
"""The article's numbers."""

ROUNDING: Final = 1e-12
"""A bound on whole nodes that is met but for rounding counts as met."""


def article_energy(case: Case) -> float:
    """Return ``N M P T + C`` as the article adds it up: T in hours, the sum without a unit.

    It prints :math:`10^9` for its case; the sum is 10 × 1000 × 100 × 100 + 1000 = 100 001 000.
    """
    return case.nodes * case.work_units * case.power_w * (case.time_s / SECONDS_PER_HOUR) + case.constant_j


def article_performance(case: Case) -> float:
    """Return ``M / (N T)`` [units of work per node and hour].

    The article prints 0.1 for its case; it is 1000 / (10 × 100) = 1.
    """
    return case.work_units / (case.nodes * (case.time_s / SECONDS_PER_HOUR))


def energy_j(case: Case) -> float:
    """Return ``N M P T + C`` [J], T being the time [s] for which one unit of work keeps all N nodes busy."""
    return case.nodes * case.work_units * case.power_w * case.time_s + case.constant_j


def run_energy_j(case: Case) -> float:
    """Return ``N P T + C`` [J], T being the time [s] of the whole run."""
    return case.nodes * case.power_w * case.time_s + case.constant_j


def performance_per_s(case: Case) -> float:
    """Return ``M / (N T)`` [units of work per node and second].

    >>> round(performance_per_s(WORKED_CASE) * SECONDS_PER_HOUR, 12)
    1.0
    """
    return case.work_units / (case.nodes * case.time_s)


def minimum_energy(case: Case, min_performance_per_s: float, min_work_units: float, min_nodes: int = 1) -> Case:
    """Return the (M, N) of least :func:`energy_j`, with P, T and C as they are.

    Minimise ``N M P T + C`` over ``M >= min_work_units`` and whole ``N >= min_nodes``, subject to ``M / (N T) >= p``, p being
    ``min_performance_per_s``. The energy grows with both, and the constraint ``M >= p T N`` asks for more work the more nodes there are: so
    ``N = min_nodes`` and ``M = max(min_work_units, p T min_nodes)``. In the article's model nothing is gained by more nodes; it has no
    time that they would save.

    Raises:
        SpecError: ``min_work_units`` or ``min_nodes`` is outside the range of :class:`Case`.

    >>> best = minimum_energy(WORKED_CASE, performance_per_s(WORKED_CASE), min_work_units=500.0, min_nodes=8)
    >>> best.nodes, round(best.work_units, 9), round(energy_j(best) / energy_j(WORKED_CASE), 6)
    (8, 800.0, 0.64)
    """
    return replace(case, nodes=min_nodes, work_units=max(min_work_units, min_performance_per_s * case.time_s * min_nodes))


def nearest_to_target(case: Case, energy_ratio: float = 0.9, min_performance_per_s: float | None = None) -> Case:
    r"""Return the (M, N) nearest to a case's own whose :func:`energy_j` is ``energy_ratio`` times its energy.

    Nearest: least :math:`\ln^2(M'/M) + \ln^2(N'/N)`, N' whole. Let :math:`A = (r E - C) / (P T)`, the product N' M' that the target allows.
    On the curve M' = A / N' the distance is a parabola in :math:`\ln N'` about :math:`N_0 = \sqrt{A N / M}`, and the performance
    :math:`A / (N'^2 T)` reaches p up to :math:`N_p = \sqrt{A / (p T)}`. So N' is whichever whole number beside :math:`\min(N_0, N_p)` is
    nearer to :math:`N_0` by ratio and not above :math:`N_p`. With p the case's own performance, :math:`N_p = N_0`.

    Args:
        case: Where one stands.
        energy_ratio: r; the article's target is 0.9.
        min_performance_per_s: p [units of work per node and second]; None: the case's own performance is kept.

    Raises:
        InfeasibleError: The constant energy alone reaches the target, or one node alone is below the performance.

    >>> plan = nearest_to_target(WORKED_CASE)
    >>> plan.nodes, round(plan.work_units, 3), round(energy_j(plan) / energy_j(WORKED_CASE), 9), round(article_performance(plan), 4)
    (9, 1000.0, 0.9, 1.1111)
    """
    kept_per_s = performance_per_s(case) if min_performance_per_s is None else min_performance_per_s
    product = (energy_ratio * energy_j(case) - case.constant_j) / (case.power_w * case.time_s)
    if product <= 0.0:
        raise InfeasibleError(
            f"the target of {energy_ratio:g} times {energy_j(case):g} J is not above the constant energy of {case.constant_j:g} J",
            constraint="constant energy",
            remedies=(f"a target above {case.constant_j / energy_j(case):g} of today's energy", "a smaller constant energy"),
        )
    nearest = math.sqrt(product * case.nodes / case.work_units)
    most = math.sqrt(product / (kept_per_s * case.time_s)) if kept_per_s > 0.0 else math.inf
    most *= 1.0 + ROUNDING
    if most < 1.0:
        raise InfeasibleError(
            f"with the target's energy one node reaches {product / case.time_s:g} units of work per second, below the {kept_per_s:g} asked for",
            constraint="performance",
            remedies=("a lower performance", "a higher energy target"),
        )
    below = max(1, math.floor(min(nearest * (1.0 + ROUNDING), most)))
    above = below + 1
    nodes = above if above <= most and above / nearest < nearest / below else below
    return replace(case, nodes=nodes, work_units=product / nodes)
