"""Whether predictions choose well: among measured configurations, the one of least energy that keeps a latency limit."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.validate.comparison import Comparison

ENERGY: Final = "energy_per_output_token_j"
LATENCY: Final = "itl_s"
LIMITS_S: Final = (0.01, 0.02, 0.05, 0.1, math.inf)
"""On inter-token latency [s]; infinite: none."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice among the measured configurations of a group under a limit.

    Args:
        suite: Of the rows.
        group: Of the rows.
        limit_s: On the latency [s].
        candidates: Configurations of the group.
        picked: Row of least predicted energy among those predicted to keep the limit; None: none is predicted to.
        best: Row of least measured energy among those measured to keep the limit.
        keeps_limit: Whether the picked row was measured to keep the limit; None: nothing was picked.
        regret: Measured energy of the pick over that of the best, less 1; None where nothing was picked or the pick misses the limit.
    """

    suite: str
    group: str
    limit_s: float
    candidates: int
    picked: str | None
    best: str
    keeps_limit: bool | None
    regret: float | None

    @property
    def top_1(self) -> bool:
        """Whether the pick is the best."""
        return self.picked == self.best


def choices(comparisons: Iterable[Comparison], limits_s: Sequence[float] = LIMITS_S, names: tuple[str, str] = (ENERGY, LATENCY)) -> list[Choice]:
    """Return the choices that the predictions make, for every group with at least two configurations and each limit that one of them keeps.

    A limit that all configurations of the group were measured to keep is left out unless it is the largest: the same choice counts once.

    Args:
        comparisons: Those without a ``group`` take no part; a row needs both quantities.
        limits_s: Latency limits [s].
        names: Quantities to minimise and to limit.
    """
    found = []
    for (suite, group), rows in _groups(comparisons, names):
        for limit_s in limits_s:
            keeping = [row for row, (_, latency) in rows.items() if latency.measured <= limit_s]
            if keeping and (len(keeping) < len(rows) or limit_s == max(limits_s)):
                found.append(_choice((suite, group), limit_s, rows, keeping))
    return found


_Pair = tuple[Comparison, Comparison]


def _groups(comparisons: Iterable[Comparison], names: tuple[str, str]) -> Iterator[tuple[tuple[str, str], dict[str, _Pair]]]:
    groups: dict[tuple[str, str], dict[str, dict[str, Comparison]]] = {}
    for one in comparisons:
        if one.group and one.quantity in names:
            groups.setdefault((one.suite, one.group), {}).setdefault(one.row, {})[one.quantity] = one
    for key, rows in groups.items():
        whole = {row: (pair[names[0]], pair[names[1]]) for row, pair in rows.items() if len(pair) == len(names)}
        if len(whole) > 1:
            yield key, whole


def _choice(key: tuple[str, str], limit_s: float, rows: dict[str, _Pair], keeping: list[str]) -> Choice:
    best = min(keeping, key=lambda row: rows[row][0].measured)
    allowed = [row for row, (_, latency) in rows.items() if latency.predicted <= limit_s]
    if not allowed:
        return Choice(*key, limit_s, len(rows), None, best, None, None)
    picked = min(allowed, key=lambda row: rows[row][0].predicted)
    keeps = rows[picked][1].measured <= limit_s
    regret = rows[picked][0].measured / rows[best][0].measured - 1.0 if keeps else None
    return Choice(*key, limit_s, len(rows), picked, best, keeps, regret)


def quality(found: Sequence[Choice]) -> dict[str, Any]:
    """Return the figures of a set of choices, in percent.

    ``top_1_pct`` counts every choice, also those in which the pick misses the limit or nothing is picked; ``regret`` is over picks that keep it.

    >>> quality([Choice("s", "g", 0.1, 3, "a", "a", True, 0.0), Choice("s", "h", 0.1, 2, "b", "a", True, 0.1)])["mean_regret_pct"]
    5.0
    """
    kept = [100.0 * one.regret for one in found if one.regret is not None]
    return {
        "choices": len(found),
        "top_1_pct": _percent([one.top_1 for one in found]),
        "misses_limit_pct": _percent([one.keeps_limit is False for one in found]),
        "picks_none_pct": _percent([one.picked is None for one in found]),
        "mean_regret_pct": float(np.mean(kept)) if kept else None,
        "max_regret_pct": max(kept) if kept else None,
    }


def quality_table(found: Sequence[Choice]) -> pd.DataFrame:
    """Return :func:`quality` by suite and limit, and over all limits (``limit_s`` None)."""
    lines = []
    for suite in dict.fromkeys(one.suite for one in found):
        own = [one for one in found if one.suite == suite]
        limits = sorted({one.limit_s for one in own})
        lines += [{"suite": suite, "limit_s": limit_s, **quality([one for one in own if one.limit_s == limit_s])} for limit_s in limits]
        lines.append({"suite": suite, "limit_s": None, **quality(own)})
    return pd.DataFrame(lines)


def _percent(flags: Sequence[bool]) -> float | None:
    return 100.0 * float(np.mean(flags)) if flags else None
