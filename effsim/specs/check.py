"""Whether files of the world hold together: each validates, bears its own name, and the names it refers to exist."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from effsim import catalog
from effsim.documents import read_yaml
from effsim.errors import EffSimError, SpecError
from effsim.specs import loading
from effsim.specs.accelerator import Accelerator
from effsim.specs.calibration import Calibration
from effsim.specs.engine import Engine
from effsim.specs.figure import figures
from effsim.specs.machine import Network, Node
from effsim.specs.model import Mlp, Transformer
from effsim.specs.models import model
from effsim.specs.scenario import Scenario, load_scenario
from effsim.specs.site import Site
from effsim.specs.storage import Storage

SCENARIOS: Final = "scenarios"
LOADERS: Final[dict[str, Callable[[str], Any]]] = {
    "accelerators": loading.accelerator,
    "nodes": loading.node,
    "networks": loading.network,
    "models": model,
    "engines": loading.engine,
    "sites": loading.site,
    "storage": loading.storage,
    "calibrations": loading.calibration,
    SCENARIOS: load_scenario,
}
_CLASSES: Final[dict[str, tuple[type[BaseModel], ...]]] = {
    "accelerators": (Accelerator,),
    "nodes": (Node,),
    "networks": (Network,),
    "models": (Transformer, Mlp),
    "engines": (Engine,),
    "sites": (Site,),
    "storage": (Storage,),
    "calibrations": (Calibration,),
    SCENARIOS: (Scenario,),
}
_REFERENCES: Final = {
    "default_node": "nodes",
    "scale_up.network": "networks",
    "accelerator": "accelerators",
    "scale_up_network": "networks",
    "scale_out_network": "networks",
    "engine": "engines",
}
"""Field path -> the kind of thing that it names."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One file: what it is, what is wrong with it (``None``: nothing), how many figures it holds by kind of knowledge."""

    kind: str
    path: Path
    mistake: str | None
    figures: Counter[str]


def check(place: Path | None = None) -> list[Checked]:
    """Return the state of every file of the catalogs and scenarios, of a folder, or of one file.

    Args:
        place: None for all catalogs; a folder is searched for YAML files at any depth.

    Raises:
        SpecError: The place does not exist, or holds no YAML file.
    """
    if place is None:
        shipped = [(SCENARIOS, path) for path in sorted(catalog.data_root(SCENARIOS).glob("*.yaml"))]
        found = [(kind, path) for kind in catalog.KINDS for path in catalog.files(kind).values()] + shipped
        return [check_file(path, kind) for kind, path in found] + _clashes()
    if not place.exists():
        raise SpecError(f"{place}: no such file or folder")
    paths = sorted(path for pattern in ("*.yaml", "*.yml") for path in place.rglob(pattern)) if place.is_dir() else [place]
    if not paths:
        raise SpecError(f"{place}: no YAML file in this folder")
    return [check_file(path, path.parent.name if path.parent.name in LOADERS else None) for path in paths]


def check_file(path: Path, kind: str | None = None) -> Checked:
    """Return the state of one file; ``kind`` None: the kind whose fields it has most of."""
    try:
        known = kind or kind_of(read_yaml(path))
    except EffSimError as error:
        return Checked("unknown", path, str(error), Counter())
    try:
        spec = LOADERS[known](path if known == SCENARIOS else str(path))  # type: ignore[arg-type]
        if known != SCENARIOS and spec.name != path.stem:
            raise SpecError(f"{path}: name: {spec.name!r} must be the file's own name, {path.stem!r}")
        for field_path, of_kind, name in references(spec):
            if catalog.find(of_kind, name) is None:
                raise SpecError(f"{path}: {field_path}: {catalog.unknown(of_kind, name)}")
    except EffSimError as error:
        return Checked(known, path, str(error), Counter())
    return Checked(known, path, None, Counter(figure.kind for _, figure in figures(spec)))


def kind_of(document: dict[str, Any]) -> str:
    """Return the kind of thing that a document describes: the one of which it has the most fields.

    >>> kind_of({"name": "x", "pue": 1.2, "place": "Paris"})
    'sites'
    """
    shared = {kind: max(len(set(document) & set(spec.model_fields)) for spec in specs) for kind, specs in _CLASSES.items()}
    return max(shared, key=lambda kind: shared[kind])


def references(spec: BaseModel) -> Iterator[tuple[str, str, str]]:
    """Yield (field path, kind, name) of what a spec refers to; a scenario's model may be a file and is left to its loader."""
    for path, kind in _REFERENCES.items():
        value: Any = spec
        for part in path.split("."):
            value = getattr(value, part, None)
        if isinstance(value, str):
            yield path, kind, value
    if isinstance(spec, Scenario):
        yield from _of_scenario(spec)


def _of_scenario(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    for index, machines in enumerate(scenario.fleet):
        yield f"fleet.{index}.accelerator", "accelerators", machines.accelerator
        if machines.node is not None:
            yield f"fleet.{index}.node", "nodes", machines.node
    if scenario.engine.name is not None:
        yield "engine.name", "engines", scenario.engine.name
    if scenario.site is not None:
        yield "site", "sites", scenario.site
    if scenario.storage is not None:
        yield "storage", "storage", scenario.storage


def _clashes() -> list[Checked]:
    """Return one entry per kind in which two files claim the same alias."""
    found = []
    for kind in catalog.KINDS:
        try:
            catalog.aliases(kind)
        except SpecError as error:
            found.append(Checked(kind, catalog.data_root("hardware_specs") / kind, str(error), Counter()))
    return found
