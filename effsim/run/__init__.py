"""Scenarios, run: one simulation (:func:`simulate`), or the base beside its what-ifs with intervals (:func:`run`)."""

from effsim.run.scenario import Settings, run
from effsim.run.serving import RunResult, simulate

__all__ = ["RunResult", "Settings", "run", "simulate"]
