"""What a suite is given, and small helpers that suites share."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

from effsim.catalog import DATA_VARIABLE

Simulate = Callable[[Path, int], Any]
"""From a scenario file and an end of the interval of time (0: median, -1: fast, 1: slow) to a run with ``requests`` and ``power``."""
Progress = Callable[[str, float], None]
_NARROWER: Final = NormalDist().inv_cdf(0.75) / NormalDist().inv_cdf(0.95)


@dataclass(frozen=True, slots=True)
class Context:
    """How suites are run.

    Args:
        data: Folder of the measurements; None: the folders of ``EFFSIM_DATA``.
        calibration: ``auto``: the best of the catalog where nothing of the suite was fitted, or the split of the suite; ``none``: priors only.
        simulate: Replays a scenario; None: suites that need it are skipped.
        progress: Called with what is being done and the share that is done.
    """

    data: Path | None = None
    calibration: str = "auto"
    simulate: Simulate | None = None
    progress: Progress | None = None

    def find(self, name: str) -> Path | None:
        """Return the path of a file or folder of measurements, or None where it is absent."""
        given = [str(self.data)] if self.data is not None else os.environ.get(DATA_VARIABLE, "").split(os.pathsep)
        return next((Path(folder) / name for folder in given if folder and (Path(folder) / name).exists()), None)


def half_as_sure(predicted: float, low_90: float, high_90: float) -> tuple[float, float]:
    """Return the 50 % interval of a log-normal whose median and 90 % interval are given.

    >>> [round(end, 1) for end in half_as_sure(100.0, 50.0, 200.0)]
    [75.3, 132.9]
    """
    return predicted * (low_90 / predicted) ** _NARROWER, predicted * (high_90 / predicted) ** _NARROWER


def inverse(low: float, high: float) -> tuple[float, float]:
    """Return the interval of the reciprocal; an infinite end is kept.

    >>> inverse(0.5, 4.0)
    (0.25, 2.0)
    """
    return 1.0 / high, 1.0 / low if low > 0.0 else math.inf
