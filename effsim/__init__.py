"""EffSim plans the energy of large language models: time, power, energy, carbon and cost, before anything is bought or run.

The public names are imported when they are first used (PEP 562), so that ``import effsim`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from effsim._version import __version__
from effsim.errors import CalibrationError, EffSimError, InfeasibleError, MeterUnavailableError, MissingExtraError, SpecError, UnknownNameError

if TYPE_CHECKING:
    from effsim.cost.serving import estimate_serving
    from effsim.cost.training import estimate_training
    from effsim.meters import measure
    from effsim.optimize.parallelism import optimize_training
    from effsim.run import simulate
    from effsim.specs.loading import accelerator, calibration, engine, network, node
    from effsim.specs.models import model
    from effsim.specs.scenario import load_scenario

_HOME = {
    "accelerator": "effsim.specs.loading",
    "calibration": "effsim.specs.loading",
    "engine": "effsim.specs.loading",
    "network": "effsim.specs.loading",
    "node": "effsim.specs.loading",
    "model": "effsim.specs.models",
    "load_scenario": "effsim.specs.scenario",
    "estimate_serving": "effsim.cost.serving",
    "estimate_training": "effsim.cost.training",
    "measure": "effsim.meters",
    "optimize_training": "effsim.optimize.parallelism",
    "simulate": "effsim.run",
}

__all__ = [
    "CalibrationError",
    "EffSimError",
    "InfeasibleError",
    "MeterUnavailableError",
    "MissingExtraError",
    "SpecError",
    "UnknownNameError",
    "__version__",
    "accelerator",
    "calibration",
    "engine",
    "estimate_serving",
    "estimate_training",
    "load_scenario",
    "measure",
    "model",
    "network",
    "node",
    "optimize_training",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'effsim' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
