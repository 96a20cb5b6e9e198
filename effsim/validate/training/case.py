"""A published training run as the model is asked about it: arguments, the measured step time, and what the record leaves open."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from effsim.catalog import DATA_VARIABLE
from effsim.errors import SpecError
from effsim.workload.operations import Parallelism

THROUGHPUT_FILE: Final = "training_throughput.json"
ENERGY_FILE: Final = "training_energy.json"
Record = Mapping[str, Any]


class NotStatedError(Exception):
    """A record lacks what a configuration needs, or the model has no such thing; the text goes into the report."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One record, turned into a call of :func:`effsim.estimate_training`.

    Args:
        record: Its ``id``.
        family: The source that it comes from, as the report groups them.
        arguments: Of the call, without ``calibration``; empty where the record is skipped.
        measured_step_time_s: Of one optimizer step [s], as stated or from the stated throughput.
        assumed: What the record does not state, and where the value was taken from; empty where all is stated.
        unstated: Of that, what no document that was read states of this run, either: a guess.
        skipped: Why the record cannot be compared; None where it can.
        release: Of the software, where a source has runs of the same configuration under several; they sort by it.
    """

    record: str
    family: str
    arguments: Mapping[str, Any]
    measured_step_time_s: float
    assumed: str = ""
    skipped: str | None = None
    release: str = ""
    unstated: str = ""

    @property
    def accelerator(self) -> str:
        """Catalog key of the accelerator."""
        return str(self.arguments.get("accelerator", ""))

    @property
    def engine(self) -> str:
        """Catalog key of the engine."""
        engine = self.arguments.get("engine", "")
        return str(getattr(engine, "name", engine))

    @property
    def tokens_per_step(self) -> float:
        """Tokens of a step, all accelerators."""
        return float(self.arguments["global_batch_size"] * self.arguments["sequence_length"])


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """What a mapping finds out about a record: arguments of the call, measured step time, assumptions, and those that are guesses."""

    arguments: Mapping[str, Any]
    measured_step_time_s: float
    assumed: tuple[str, ...] = ()
    unstated: tuple[str, ...] = ()


Mapper = Callable[[Record], Setup]


def case(record: Record, family: str, mapper: Mapper) -> Case:
    """Return the case of a record; one that a mapping refuses says why."""
    try:
        setup = mapper(record)
    except NotStatedError as reason:
        return Case(record["id"], family, {}, 0.0, skipped=str(reason))
    release = str(record["inputs"].get("container", ""))
    assumed, unstated = "; ".join((*setup.assumed, *setup.unstated)), "; ".join(setup.unstated)
    return Case(record["id"], family, setup.arguments, setup.measured_step_time_s, assumed, None, release, unstated)


def configurations(cases: Sequence[Case]) -> list[list[Case]]:
    """Return cases grouped by configuration: runs of the same arguments (other releases, other submitters) stay together, oldest first."""
    groups: dict[str, list[Case]] = {}
    for one in sorted((c for c in cases if c.skipped is None), key=lambda c: (c.release, c.record)):
        arguments = {key: getattr(value, "name", value) for key, value in one.arguments.items()}
        groups.setdefault(repr(sorted(arguments.items())), []).append(one)
    return sorted(groups.values(), key=lambda group: group[0].record)


def superseded(cases: Sequence[Case]) -> frozenset[str]:
    """Return the records of runs whose configuration ran again under a later release."""
    return frozenset(one.record for group in configurations(cases) for one in group if one.release < group[-1].release)


def read(name: str, path: Path | str | None = None) -> list[Record]:
    """Return the records of a reference file.

    Args:
        name: File name.
        path: The file or its folder; None: the folders of ``EFFSIM_DATA``.

    Raises:
        SpecError: No such file, or it holds no list of records.
    """
    places = [Path(path)] if path is not None else [Path(folder) for folder in os.environ.get(DATA_VARIABLE, "").split(os.pathsep) if folder]
    found = next((file for file in (place / name if place.is_dir() else place for place in places) if file.is_file()), None)
    if found is None:
        raise SpecError(f"{name}: not found in {', '.join(map(str, places)) or 'the folders of ' + DATA_VARIABLE + ', which is not set'}")
    try:
        records = json.loads(found.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SpecError(f"{found}: no JSON: {error}") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) and {"id", "inputs", "measured"} <= set(record) for record in records):
        raise SpecError(f"{found}: expected a list of records with id, inputs and measured")
    return records


def stated(record: Record, *names: str) -> tuple[Any, ...]:
    """Return inputs of a record.

    Raises:
        NotStatedError: One is absent.
    """
    missing = [name for name in names if record["inputs"].get(name) is None]
    if missing:
        raise NotStatedError(f"not stated: {', '.join(missing)}")
    return tuple(record["inputs"][name] for name in names)


def data_parallel(inputs: Mapping[str, Any]) -> int:
    """Return the data-parallel ranks that the stated parallelism leaves."""
    ranks = Parallelism(int(inputs.get("tensor_parallel") or 1), int(inputs.get("pipeline_parallel") or 1), context=int(inputs.get("context_parallel") or 1))
    return int(inputs["num_accelerators"]) // ranks.accelerators
