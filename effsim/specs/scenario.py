"""A scenario: one question about serving or training, with the machines, the load and the place that it is asked of."""

import copy
import os
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from effsim import catalog
from effsim.documents import is_file, line_of, read_text, read_yaml
from effsim.errors import SpecError, UnknownNameError
from effsim.specs.cluster import Cluster
from effsim.specs.figure import JoulesValue, RatioValue, SecondsValue, Spec, WattsValue
from effsim.specs.job import Parallelism, Precision, QueuedJob, Size, Training
from effsim.specs.loading import validate
from effsim.specs.operation import MAX_EVENTS, LimitAt, Operation
from effsim.specs.workload import Name, PolicyName, Positive, WholeValue, Workload
from effsim.units import SECONDS_PER_YEAR

BASE: Final = "base"
MAX_EXTENDS: Final = 8
MAX_REPLICAS: Final = 10_000
DEFAULT_LIFETIME_S: Final = 4 * SECONDS_PER_YEAR


class Machines(Spec):
    """Equal replicas on equal machines.

    Args:
        node: None: the accelerator's default node.
        power_limit: Per accelerator [W].
        power_schedule: Other limits from given times on.
        role: ``prefill`` reads prompts and sends the cache to one of role ``decode``; ``both`` does all in one place.
    """

    accelerator: Name
    node: Name | None = None
    replicas: Annotated[Positive, Field(le=MAX_REPLICAS)] = 1
    parallelism: Parallelism = Parallelism()
    power_limit: Annotated[WattsValue, Field(gt=0.0)] | None = None
    power_schedule: tuple[LimitAt, ...] = Field(default=(), max_length=MAX_EVENTS)
    role: Literal["both", "prefill", "decode"] = "both"

    @property
    def num_accelerators(self) -> int:
        """Accelerators of all replicas."""
        return self.replicas * self.parallelism.accelerators


class SpeculationOptions(Spec):
    """Drafts: ``draft_tokens`` are drafted in each iteration, each accepted with probability ``acceptance``.

    Their cost is that of ``draft_model``, or ``draft_share`` of the time and energy of the iteration that checks them.
    """

    draft_tokens: Annotated[Positive, Field(le=64)]
    acceptance: Annotated[RatioValue, Field(ge=0.0, le=1.0)]
    draft_model: Name | None = None
    draft_share: Annotated[RatioValue, Field(ge=0.0)] | None = None

    @model_validator(mode="after")
    def _one_cost(self) -> "SpeculationOptions":
        if (self.draft_model is None) == (self.draft_share is None):
            raise ValueError("expected either draft_model or draft_share")
        return self


class EngineOptions(Spec):
    """Settings of the engine; None is the engine's own default (``hardware_specs/engines``)."""

    name: Name | None = Field(default=None, description="None: vllm for serving, megatron for training")
    max_num_seqs: Annotated[Positive, Field(le=65_536)] | None = None
    max_num_batched_tokens: Annotated[Positive, Field(le=1_000_000)] | None = None
    block_size: Annotated[Positive, Field(le=65_536)] | None = None
    num_gpu_blocks: Size | None = Field(default=None, description="KV blocks per replica; None: from the memory left")
    gpu_memory_utilization: Annotated[RatioValue, Field(gt=0.0, le=1.0)] | None = None
    scheduler: PolicyName = "fcfs"
    chunked_prefill: bool | None = None
    batching: Literal["continuous", "prefill_first", "static"] = "continuous"
    long_prefill_tokens: Size | None = Field(default=None, description="most tokens of one prompt in an iteration; None: no such limit")
    prefix_caching: bool | None = None
    prefix_hit_ratio: Annotated[RatioValue, Field(ge=0.0, le=1.0)] = Field(
        default=0.0, description="share of each prompt that is in the cache, where the trace does not tell contents; none with prefix_caching: false"
    )
    async_scheduling: bool | None = Field(default=None, description="the host prepares the next iteration meanwhile")
    speculation: SpeculationOptions | None = None


class Slo(Spec):
    """Latency objectives [s]: the named percentile over requests must not exceed the value."""

    ttft_p50: SecondsValue | None = None
    ttft_p90: SecondsValue | None = None
    ttft_p95: SecondsValue | None = None
    ttft_p99: SecondsValue | None = None
    tpot_p50: SecondsValue | None = None
    tpot_p90: SecondsValue | None = None
    tpot_p95: SecondsValue | None = None
    tpot_p99: SecondsValue | None = None
    itl_p50: SecondsValue | None = None
    itl_p90: SecondsValue | None = None
    itl_p95: SecondsValue | None = None
    itl_p99: SecondsValue | None = None
    e2e_p50: SecondsValue | None = None
    e2e_p90: SecondsValue | None = None
    e2e_p95: SecondsValue | None = None
    e2e_p99: SecondsValue | None = None


class Device(Spec):
    """A battery-powered device: ``battery`` is its usable charge [J], ``other_power`` what screen and radio draw meanwhile [W]."""

    battery: Annotated[JoulesValue, Field(gt=0.0)]
    other_power: WattsValue = 0.0


class CostAssumptions(Spec):
    """How purchase cost is spread: ``lifetime`` of the machines [s], ``utilization`` the share of it in which they serve."""

    lifetime: Annotated[SecondsValue, Field(gt=0.0)] = DEFAULT_LIFETIME_S
    utilization: Annotated[RatioValue, Field(gt=0.0, le=1.0)] = 1.0


class WhatIf(Spec):
    """A variant: dotted field paths and the values to put there."""

    name: str = Field(min_length=1, max_length=80)
    set: dict[str, Any] = Field(min_length=1)


def _kind(given: Any) -> Any:
    if given == "mixed":
        raise ValueError("mixed is not run as one; write two scenarios, one of kind serving and one of kind training")
    return given


class Scenario(Spec):
    """One question to the simulator; see the class of each block for its fields."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    question: str | None = Field(default=None, description="one sentence: what it answers")
    kind: Annotated[Literal["serving", "training"], BeforeValidator(_kind)]
    model: Name
    precision: Precision | None = Field(default=None, description="None: the model's native precision")
    kv_precision: Precision | None = None
    fleet: tuple[Machines, ...] = Field(max_length=100)
    workload: Workload | None = None
    engine: EngineOptions = EngineOptions()
    router: PolicyName = "round_robin"
    operation: Operation = Field(default_factory=Operation, description="of a serving cluster: admission, autoscaling, failures, power")
    slo: Slo = Slo()
    training: Training | None = None
    cluster: Cluster | None = Field(default=None, description="training on machines that fail; None: one undisturbed run")
    jobs: tuple[QueuedJob, ...] = Field(default=(), max_length=1000, description="further training jobs in the queue of the cluster")
    storage: Name | None = Field(default=None, description="of training data and checkpoints; None: parallel_flash")
    device: Device | None = None
    site: Name | None = None
    cost: CostAssumptions = CostAssumptions()
    calibration: Name = "auto"
    seed: Annotated[WholeValue, Field(ge=0, le=2**63 - 1)] = 0
    what_if: tuple[WhatIf, ...] = Field(default=(), max_length=200)
    extends: str | None = Field(default=None, description="another file of the same folder, whose fields stand where this one has none")
    _file: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path | None:
        """The folder of the file that it was read from; None for a dict."""
        return None if self._file is None else self._file.parent.resolve()

    def place(self, field_path: tuple[str | int, ...]) -> str:
        """Return ``"file, line N: "`` of a field for messages, or an empty text for a dict."""
        if self._file is None:
            return ""
        line = line_of(read_text(self._file), field_path)
        return f"{self._file}{f', line {line}' if line else ''}: "

    @model_validator(mode="after")
    def _complete(self) -> "Scenario":
        if not self.fleet:
            raise ValueError("fleet is empty: expected at least one entry {accelerator, replicas, ...}")
        needed = "workload" if self.kind == "serving" else "training"
        if getattr(self, needed) is None:
            raise ValueError(f"{needed} is missing: a {self.kind} scenario needs it")
        for name, without in _FOREIGN[self.kind].items():
            if getattr(self, name) != without:
                raise ValueError(f"{name} belongs to a {'training' if self.kind == 'serving' else 'serving'} scenario; this one is of kind {self.kind}")
        if self.kind == "training" and self.engine != EngineOptions(name=self.engine.name):
            raise ValueError("engine: only its name applies to training")
        if self.kind == "training" and any(machines.role != "both" or machines.power_schedule for machines in self.fleet):
            raise ValueError("fleet: role and power_schedule belong to a serving scenario")
        if self.jobs and self.cluster is None:
            raise ValueError("jobs need a cluster block, in whose queue they stand")
        if sum(machines.replicas for machines in self.fleet) > MAX_REPLICAS:
            raise ValueError(f"fleet has {sum(machines.replicas for machines in self.fleet):,} replicas; at most {MAX_REPLICAS:,} are simulated")
        names = [BASE, *(variant.name for variant in self.what_if)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"what_if: the name {twice!r} is taken; names must differ from each other and from {BASE!r}")
        return self


_FOREIGN: Final[dict[str, dict[str, Any]]] = {
    "serving": {"training": None, "cluster": None, "jobs": (), "storage": None},
    "training": {"slo": Slo(), "kv_precision": None, "workload": None, "router": "round_robin", "operation": Operation()},
}
"""Kind -> fields that mean nothing to it, with what they hold where they are not given."""


def load_scenario(given: str | Path | dict[str, Any] | Scenario) -> Scenario:
    """Return a scenario by the name of a shipped one, by path, or from a dict; every what-if is checked too.

    Raises:
        UnknownNameError: No shipped scenario goes by that name.
        SpecError: The first mistake with file, line and field path; an ``extends`` that is cyclic or leads outside.
    """
    if isinstance(given, Scenario):
        return given
    if isinstance(given, dict):
        if given.get("extends") is not None:
            raise SpecError("scenario given as a dict: extends: only a scenario file can extend another of its folder")
        scenario, where = validate(Scenario, given, "scenario given as a dict"), "scenario given as a dict"
    else:
        path = _locate(given)
        document = _merged(path, path.parent.resolve(), ())
        where = str(path)
        scenario = validate(Scenario, document, where)
        scenario._file = path
    for index, variant in enumerate(scenario.what_if):
        try:
            with_changes(scenario, variant.set)
        except SpecError as error:
            place = scenario.place(("what_if", index, "set")) or f"{where}: "
            raise SpecError(f"{place}what_if.{index}.set ({variant.name}): {error}") from None
    return scenario


def _locate(given: str | Path) -> Path:
    shipped = catalog.data_root("scenarios")
    path = Path(given)
    if path.suffix in {".yaml", ".yml"} or is_file(path):
        packaged = shipped / path.name
        return packaged if not is_file(path) and path.parent == Path("scenarios") and packaged.is_file() else path
    names = {found.stem: found for found in sorted(shipped.glob("*.yaml"))}
    if str(given) not in names:
        hint = catalog.suggest(str(given), names)
        raise UnknownNameError(f"unknown scenario {str(given)[:80]!r}; {hint}expected a path to a YAML file or one of: {', '.join(names)}")
    return names[str(given)]


def _merged(path: Path, folder: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """Return a document with what it extends below it."""
    document = read_yaml(path)
    extends = document.get("extends")
    if extends is None:
        return document
    line = line_of(read_text(path), ("extends",))
    place = f"{path}, line {line}: extends"
    if not isinstance(extends, str):
        raise SpecError(f"{place}: expected the name of another scenario file, got {extends!r}")
    target = (path.parent / extends).resolve()
    if PurePosixPath(extends).is_absolute() or not target.is_relative_to(folder):
        raise SpecError(f"{place}: path outside: {extends!r} does not lie in the scenario's own folder")
    chain = (*seen, path.resolve())
    if target in chain:
        raise SpecError(f"{place}: cyclic: {' -> '.join(step.name for step in (*chain, target))}")
    if len(chain) >= MAX_EXTENDS:
        raise SpecError(f"{place}: more than {MAX_EXTENDS} files extend each other")
    return _overlaid(_merged(target, folder, chain), document)


def _overlaid(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _overlaid(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def with_changes(scenario: Scenario, changes: dict[str, Any]) -> Scenario:
    """Return the scenario with values put at dotted paths, validated again and without its what-ifs.

    ``{"fleet.0.power_limit": "500 W"}``; None takes an optional field away.

    Raises:
        SpecError: A path that leads nowhere (with the nearest name), or a value that is refused there.
    """
    document = scenario.model_dump(mode="json", exclude={"what_if", "extends"})
    for path, value in changes.items():
        if path.split(".")[0] in {"what_if", "extends", "kind"}:
            raise SpecError(f"{path}: this field cannot be changed by a what-if")
        _put(document, path, value)
    changed = validate(Scenario, document, "changed scenario")
    changed._file = scenario._file
    return changed


def _put(document: dict[str, Any], path: str, value: Any) -> None:
    parts = path.split(".")
    place: Any = document
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        step: str | int = part
        if isinstance(place, list):
            if not part.isdecimal() or int(part) >= len(place):
                entries = "1 entry: 0" if len(place) == 1 else f"{len(place)} entries: 0 to {len(place) - 1}"
                raise SpecError(f"{path}: {'.'.join(parts[:index])} has {entries}; got {part!r}")
            step = int(part)
        elif not isinstance(place, dict):
            raise SpecError(f"{path}: {'.'.join(parts[:index])} is a single value and has no field {part!r}")
        if last:
            place[step] = copy.deepcopy(value)
        elif isinstance(place, dict) and place.get(part) is None:
            place[part] = {}
        if not last:
            place = place[step]


def variants(scenario: Scenario) -> tuple[tuple[str, Scenario], ...]:
    """Return (name, scenario) of the base, called ``"base"``, and then of each what-if."""
    base = with_changes(scenario, {})
    return ((BASE, base), *((variant.name, with_changes(scenario, variant.set)) for variant in scenario.what_if))


def trace_folders(scenario: Scenario) -> tuple[Path, ...]:
    """Return where traces are looked up: beside the scenario, in the working folder, then in the folders of ``EFFSIM_DATA``."""
    own = () if scenario.folder is None else (scenario.folder,)
    return (*own, Path.cwd(), *(Path(folder) for folder in os.environ.get(catalog.DATA_VARIABLE, "").split(os.pathsep) if folder))


def find_trace(scenario: Scenario) -> Path | None:
    """Return the file of the scenario's trace, or None where it is absent.

    Looked up beside the scenario, in the working folder, then in the folders of ``EFFSIM_DATA``; only below those folders.
    """
    if scenario.workload is None or scenario.workload.trace is None:
        return None
    for folder in trace_folders(scenario):
        path: Path = folder / scenario.workload.trace
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            return path
    return None
