"""Every choice beside the job as it is: what a step costs, how many tokens, the energy to the same loss."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from types import ModuleType
from typing import Any

import pandas as pd

from effsim.cost.uncertainty import log_sd
from effsim.errors import EffSimError, InfeasibleError
from effsim.strategies import registry
from effsim.strategies.effect import StepsEffect, combined_range
from effsim.strategies.job import EnergyPerToken, StepCost, TrainingJob, memory_bytes, step_cost

LEVEL = 0.9
COLUMNS = (
    "choice", "setting", "feasible", "step_time_s", "energy_j_per_step", "server_energy_j_per_step", "energy_per_token_j", "memory_bytes",
    "tokens_factor", "tokens_factor_low", "tokens_factor_high", "energy_j", "server_energy_j",
    "energy_ratio", "energy_ratio_low", "energy_ratio_high", "server_energy_ratio", "reason", "source", "date", "note", "quality",
)  # fmt: skip


def choices(job: TrainingJob, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return one row per choice and value, the job as it is first.

    What a step costs is the cost model's, of the changed job. ``tokens_factor`` is the published multiple of tokens to the same loss,
    with its range. ``energy_j`` is that of the accelerators to the same loss, ``energy_ratio`` relative to the job as it is, with a
    90 % interval: the doubt about the coefficients, which mostly cancels in the ratio, and the range of the tokens in quadrature on the
    logarithm. What does not fit or is malformed stays in the table with its reason. Absent: no figure is published; infinite: no
    number of tokens reaches the loss.

    Args:
        job: The base.
        names: Of the choices; None: all.

    Raises:
        UnknownNameError: No choice has such a name.
        SpecError: The job as it is is malformed; one that only does not fit is a row like the others.
    """
    base = _Base(job)
    modules = [(name, registry.choice(name)) for name in (registry.names() if names is None else names)]
    rows = [base.row()]
    for name, module in modules:
        rows.extend(_row(base, name, module, knobs) for knobs in settings(module) if knobs != module.neutral(job))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def settings(module: ModuleType) -> Iterator[dict[str, Any]]:
    """Yield every combination of a choice's knobs."""
    for values in itertools.product(*module.KNOBS.values()):
        yield dict(zip(module.KNOBS, values, strict=True))


class _Base:
    """The job as it is: its cost once, or why it cannot run."""

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        size = memory_bytes(job)
        try:
            self.found = _Found(step_cost(job), size, "")
        except InfeasibleError as error:
            self.found = _Found(None, size, str(error))
        self.energy = EnergyPerToken(job) if self.found.cost else None

    def row(self) -> dict[str, Any]:
        effect = StepsEffect(1.0, 1.0, 1.0, "the job itself", "as given", "nothing is changed")
        return {"choice": "base", "setting": "as given", **_columns(self, self.found, effect, 0.0)}


@dataclass(frozen=True, slots=True)
class _Found:
    """Cost and memory of a job, each where there is one, and the reason where it cannot run."""

    cost: StepCost | None
    memory_bytes: float | None
    reason: str


def _cost(job: TrainingJob) -> _Found:
    try:
        size = memory_bytes(job)
    except EffSimError as error:
        return _Found(None, None, str(error))
    try:
        return _Found(step_cost(job), size, "")
    except EffSimError as error:
        return _Found(None, size, str(error))


def _row(base: _Base, name: str, module: ModuleType, knobs: dict[str, Any]) -> dict[str, Any]:
    label = {"choice": name, "setting": ", ".join(f"{knob} {value:g}" if isinstance(value, float) else f"{knob} {value}" for knob, value in knobs.items())}
    try:
        changed = module.apply(base.job, **knobs)
        effect = module.steps(base.job, changed)
        quality = module.quality(base.job, changed)
    except EffSimError as error:
        return {**label, "feasible": False, "reason": str(error)}
    found = _cost(changed)
    sd = _ratio_log_sd(base, changed) if found.cost and base.energy else 0.0
    return {**label, **_columns(base, found, effect, sd), "quality": quality}


def _ratio_log_sd(base: _Base, changed: TrainingJob) -> float:
    """Return the doubt about the ratio of energies per token: both under the same coefficients."""
    energy, own = base.energy, EnergyPerToken(changed)
    if energy is None:
        return 0.0
    return float(log_sd(lambda coefficients: {"ratio": own(coefficients) / energy(coefficients)}, energy.prior, {})["ratio"])


def _columns(base: _Base, found: _Found, effect: StepsEffect, sd: float) -> dict[str, Any]:
    cost = found.cost
    row: dict[str, Any] = {
        "feasible": cost is not None,
        "memory_bytes": found.memory_bytes,
        "tokens_factor": effect.median,
        "tokens_factor_low": effect.low,
        "tokens_factor_high": effect.high,
        "reason": found.reason,
        "source": effect.source,
        "date": effect.date,
        "note": effect.note,
        "quality": "",
    }
    if cost is None:
        return row
    tokens = base.job.target_tokens
    server = None if cost.server_energy_j is None else cost.server_energy_j * cost.steps / tokens
    row |= {
        "step_time_s": cost.step_time_s,
        "energy_j_per_step": cost.energy_j,
        "server_energy_j_per_step": cost.server_energy_j,
        "energy_per_token_j": cost.energy_per_token_j,
        "energy_j": _times(tokens * cost.energy_per_token_j, effect.median),
        "server_energy_j": None if server is None else _times(tokens * server, effect.median),
    }
    before = base.found.cost
    if before is None:
        return row
    ratio = cost.energy_per_token_j / before.energy_per_token_j
    low, high = combined_range(effect, ratio, sd, NormalDist().inv_cdf(0.5 + LEVEL / 2.0))
    row |= {"energy_ratio": _times(ratio, effect.median), "energy_ratio_low": low, "energy_ratio_high": high}
    if server is not None and before.server_energy_j is not None:
        row["server_energy_ratio"] = _times(server * tokens / (before.server_energy_j * before.steps), effect.median)
    return row


def _times(value: float, factor: float | None) -> float | None:
    return None if factor is None else value * factor
