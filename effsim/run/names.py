"""Every name and split of every variant, resolved before anything is simulated; a mistake is said with file, line and field."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from effsim import catalog
from effsim.cost.deployment import Deployment, Settings, deploy
from effsim.errors import InfeasibleError, SpecError
from effsim.sim.registry import policy
from effsim.sim.training.queueing import queue_policy
from effsim.specs import loading
from effsim.specs.models import model
from effsim.specs.scenario import Machines, Scenario, find_trace, trace_folders
from effsim.workload.operations import Parallelism
from effsim.workload.optimizers import optimizer
from effsim.workload.synthetic import TRACES

SERVING_ENGINE, TRAINING_ENGINE = "vllm", "megatron"
OF_KIND: Final = {"serving": "vllm, sglang, tensorrt-llm or llama.cpp", "training": "megatron, fsdp or maxtext"}
Check = tuple[str, Callable[[], Any]]


def check_names(whole: Scenario, named: Sequence[tuple[str, Scenario]]) -> None:
    """Resolve what the base and each what-if refer to, and how each model is split.

    Args:
        whole: The scenario as it was read.
        named: Its base and its what-ifs, by name.

    Raises:
        SpecError: The first mistake. What does not fit its machines is not one: the report shows it.
    """
    for index, (name, variant) in enumerate(named):
        for field, check in _checks(variant):
            try:
                check()
            except InfeasibleError:
                continue
            except SpecError as error:
                said = str(error).removeprefix(f"{field}: ").removeprefix(f"{field.rsplit('.', 1)[-1]}: ")
                raise SpecError(f"{_place(whole, index, name, field)}{field}: {said}") from None


def _place(whole: Scenario, index: int, name: str, field: str) -> str:
    parts = tuple(int(part) if part.isdecimal() else part for part in field.split("."))
    if index == 0:
        return whole.place(parts)
    changed = whole.what_if[index - 1].set
    key = next((key for key in changed if key == field or key.startswith(f"{field}.") or field.startswith(f"{key}.")), next(iter(changed)))
    return f"{whole.place(('what_if', index - 1, 'set', key))}what-if {name!r}: "


def _checks(scenario: Scenario) -> Iterator[Check]:
    """Yield field path and resolution of all that a scenario names, single names before what joins them."""
    yield "model", lambda: model(scenario.model)
    yield "engine.name", lambda: engine_of(scenario)
    if scenario.site is not None:
        yield "site", lambda: loading.site(scenario.site or "")
    if scenario.storage is not None:
        yield "storage", lambda: loading.storage(scenario.storage or "")
    if scenario.calibration not in {"auto", "none"}:
        yield "calibration", lambda: loading.calibration(scenario.calibration)
    if scenario.training is not None:
        chosen = scenario.training.optimizer
        yield "training.optimizer", lambda: optimizer(chosen)
    if scenario.kind == "serving":
        yield "engine.scheduler", lambda: policy("pick", scenario.engine.scheduler)
        yield "router", lambda: policy("route", scenario.router)
        yield "workload.trace", lambda: _require_trace(scenario)
        drafts = scenario.engine.speculation
        if drafts is not None and drafts.draft_model is not None:
            yield "engine.speculation.draft_model", partial(model, drafts.draft_model)
        yield from _of_operation(scenario)
    if scenario.cluster is not None:
        queue = scenario.cluster.queue
        yield "cluster.queue", lambda: queue_policy(queue)
    for index, entry in enumerate(scenario.jobs):
        if entry.model is not None:
            yield f"jobs.{index}.model", partial(model, entry.model)
    for index, machines in enumerate(scenario.fleet):
        yield from _of_machines(scenario, f"fleet.{index}", machines)


def _of_operation(scenario: Scenario) -> Iterator[Check]:
    scaling, failures = scenario.operation.autoscaling, scenario.operation.failures
    for name in () if scaling is None else ("minimum", "initial"):
        yield f"operation.autoscaling.{name}", partial(_require_pool, scenario, getattr(scaling, name) or 0)
    for index, at in enumerate(() if failures is None else failures.at):
        yield f"operation.failures.at.{index}.replica", partial(_require_replica, scenario, at.replica)


def _require_pool(scenario: Scenario, wanted: int) -> None:
    """Check that some pool, the replicas of one role, has as many as are to be on.

    Raises:
        SpecError: None has.
    """
    pools: Counter[str] = Counter()
    for machines in scenario.fleet:
        pools[machines.role] += machines.replicas
    most = max(pools.values())
    if wanted > most:
        raise SpecError(f"{wanted} given; the fleet has {most} replicas{' in its largest pool' if len(pools) > 1 else ''}; expected at most that")


def _require_replica(scenario: Scenario, number: int) -> None:
    """Check that the fleet has a replica of a number.

    Raises:
        SpecError: It has not.
    """
    last = sum(machines.replicas for machines in scenario.fleet) - 1
    if number > last:
        raise SpecError(f"replica {number} given; the fleet has replicas 0 to {last}")


def _limit(machines: Machines, limit_w: float) -> None:
    loading.accelerator(machines.accelerator).check_power_limit(limit_w)


def _of_machines(scenario: Scenario, field: str, machines: Machines) -> Iterator[Check]:
    yield f"{field}.accelerator", lambda: loading.accelerator(machines.accelerator)
    if machines.node is not None:
        yield f"{field}.node", lambda: loading.node(machines.node or "")
    yield f"{field}.power_limit", lambda: loading.accelerator(machines.accelerator).check_power_limit(machines.power_limit)
    for index, at in enumerate(machines.power_schedule):
        yield f"{field}.power_schedule.{index}.power_limit", partial(_limit, machines, at.power_limit)
    yield f"{field}.parallelism", lambda: deployment_of(scenario, machines, scenario.precision or model(scenario.model).native_precision)


def deployment_of(scenario: Scenario, machines: Machines, precision: str | None) -> Deployment:
    """Return a scenario's model on one entry of its fleet; ``precision`` None: the model's own.

    Raises:
        SpecError: A name or a split that does not go together.
    """
    settings = Settings(
        precision=precision,
        kv_precision=scenario.kv_precision,
        engine=engine_of(scenario),
        node=machines.node,
        power_limit_w=machines.power_limit,
        memory_utilization=scenario.engine.gpu_memory_utilization,
        calibration=scenario.calibration,
        phase="train" if scenario.kind == "training" else "serve",
    )
    return deploy(scenario.model, machines.accelerator, Parallelism(**machines.parallelism.model_dump()), settings)


def engine_of(scenario: Scenario) -> Any:
    """Return the scenario's engine, or that of its kind where it names none.

    Raises:
        SpecError: It is unknown, or of the other kind.
    """
    engine = loading.engine(scenario.engine.name or (SERVING_ENGINE if scenario.kind == "serving" else TRAINING_ENGINE))
    if engine.kind != scenario.kind:
        raise SpecError(f"engine.name: {engine.name} is an engine for {engine.kind}; a {scenario.kind} scenario needs {OF_KIND[scenario.kind]}")
    return engine


def _require_trace(scenario: Scenario) -> None:
    """Find the file of a trace, or its published statistics.

    Raises:
        SpecError: Neither is there; the message has the nearest names of the folders that were searched.
    """
    name = None if scenario.workload is None else scenario.workload.trace
    if name is None or name in TRACES or find_trace(scenario) is not None:
        return
    beside = [path.name for folder in trace_folders(scenario) if folder.is_dir() for path in sorted((*folder.glob("*.csv"), *folder.glob("*.jsonl")))[:1_000]]
    hint = catalog.suggest(name, dict.fromkeys((*beside, *TRACES)))
    raise SpecError(f"no file {name!r} beside the scenario, in the working folder or in a folder of {catalog.DATA_VARIABLE}; {hint}".rstrip("; "))
