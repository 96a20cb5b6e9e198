"""From a name, a path or a dict to a validated spec; mistakes are reported with file, line, field and nearest name."""

import functools
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from pydantic import BaseModel, ValidationError

from effsim import catalog
from effsim.documents import is_file, line_of, read_text, read_yaml
from effsim.errors import SpecError, shown
from effsim.specs.accelerator import Accelerator
from effsim.specs.calibration import Calibration
from effsim.specs.engine import Engine
from effsim.specs.figure import MISPLACED_TRUTH
from effsim.specs.machine import Network, Node
from effsim.specs.site import Site
from effsim.specs.storage import Storage

S = TypeVar("S", bound=BaseModel)


_LIMITS: Final = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}
"""Pydantic's name of a mistake -> how messages call it, and where the limit stands."""


def validate(spec: type[S], document: dict[str, Any], where: str) -> S:
    """Return a validated spec.

    Args:
        spec: The pydantic model.
        document: Parsed YAML or a caller's dict.
        where: The file, or what else the dict came from; names the place in messages.

    Raises:
        SpecError: One sentence on the first mistake, and how many more there are.
    """
    try:
        return spec.model_validate(document)
    except ValidationError as error:
        raise SpecError(explain(error, spec, document, where)) from None


def explain(error: ValidationError, spec: type[BaseModel], document: dict[str, Any], where: str) -> str:
    """Return one sentence for a pydantic error: file, line, field path, what was given, what is allowed, nearest name."""
    mistakes = error.errors(include_url=False)
    first = next((m for m in mistakes if m["type"] == "extra_forbidden"), mistakes[0])
    loc = (*first["loc"], first["ctx"]["field"]) if first["type"] == MISPLACED_TRUTH else first["loc"]
    location = tuple(part for part in loc if not _is_tag(part, document, loc)) or _named(first, document)
    field = ".".join(_label(part) for part in location) or "the document"
    line = _line(where, location)
    place = f"{where}{f', line {line}' if line else ''}: {field}"
    more = f" ({len(mistakes) - 1} more mistakes in this file)" if len(mistakes) > 1 else ""
    return f"{place}: {_reason(first, spec, document, location)}{more}"


def _named(mistake: Any, document: dict[str, Any]) -> tuple[str, ...]:
    """Return the field of the document that the message on the whole of it begins with, for its line."""
    word = str(mistake["ctx"]["error"]).split(maxsplit=1)[0].rstrip(":") if mistake["type"] == "value_error" else ""
    return (word,) if word in document else ()


def _label(part: str | int) -> str:
    text = str(part)[:60]
    return text if text.isprintable() else repr(text)


def _is_tag(part: str | int, document: Any, loc: tuple[str | int, ...]) -> bool:
    """Pydantic puts the tag of a discriminated union into the path; it is no field of the document."""
    value = document
    for step in loc[: loc.index(part)]:
        value = _child(value, step, otherwise=value)
    return isinstance(value, dict) and isinstance(part, str) and part not in value and value.get("kind", value.get("family")) == part


def _child(value: Any, step: str | int, otherwise: Any = None) -> Any:
    """Return what stands at a key of a mapping or an index of a list, or ``otherwise`` where nothing does."""
    in_mapping = isinstance(value, dict) and step in value
    in_list = isinstance(value, (list, tuple)) and isinstance(step, int) and step < len(value)
    return value[step] if in_mapping or in_list else otherwise


def _line(where: str, location: tuple[str | int, ...]) -> int | None:
    path = Path(where)
    try:
        return line_of(read_text(path), location) if is_file(path) else None
    except SpecError:
        return None


def _reason(mistake: Any, spec: type[BaseModel], document: dict[str, Any], location: tuple[str | int, ...]) -> str:
    given = _child(mistake.get("input"), location[-1]) if mistake["type"] == MISPLACED_TRUTH else mistake.get("input")
    if mistake["type"] == "extra_forbidden":
        allowed = _fields_at(spec, location[:-1], document)
        return f"no such field; {catalog.suggest(str(location[-1]), allowed)}allowed: {', '.join(allowed)}"
    if mistake["type"] == "missing":
        return "this field is missing"
    if mistake["type"] == "value_error":
        return str(mistake["ctx"]["error"]).removeprefix(f"{location[0]}: " if len(location) == 1 else "")
    if mistake["type"] in _LIMITS:
        word, key = _LIMITS[mistake["type"]]
        limit = mistake["ctx"][key]
        return f"must be {word} {limit:,g}, got {shown(given)}" if limit < 1e6 else f"must be {word} {limit:,}, got {shown(given)}"  # noqa: PLR2004
    if mistake["type"] == "union_tag_invalid":
        return f"expected {mistake['ctx']['discriminator']}: one of {mistake['ctx']['expected_tags']}, got {shown(mistake['ctx']['tag'])}"
    message = (mistake["msg"][0].lower() + mistake["msg"][1:]).replace("input should be ", "expected ").replace(" should match pattern", " must match")
    return f"{message}, got {shown(given)}"


def _fields_at(spec: type[BaseModel], location: tuple[str | int, ...], document: Any) -> list[str]:
    """Return the field names that are allowed at a place, following annotations as far as they are models."""
    models: list[Any] = [spec]
    for part in location:
        document = _child(document, part)
        if isinstance(part, str):
            models = [m for model in models if part in model.model_fields for m in _models_in(model.model_fields[part].annotation)]
        kind = document.get("kind") if isinstance(document, dict) else None
        tagged = [m for m in models if isinstance(kind, str) and "kind" in m.model_fields and kind in str(m.model_fields["kind"].annotation)]
        models = tagged or models
    return list(dict.fromkeys(field for model in models for field in model.model_fields))


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


@functools.lru_cache(maxsize=512)
def _load(spec: type[S], path: str, _modified_ns: int) -> BaseModel:
    return validate(spec, read_yaml(Path(path)), path)


def load_file(spec: type[S], path: Path) -> S:
    """Return the spec in a YAML file; a file is read again only when it has changed."""
    return cast(S, _load(spec, str(path), path.stat().st_mtime_ns if is_file(path) else 0))


def load(kind: str, spec: type[S], name: str | S | dict[str, Any]) -> S:
    """Return a spec given by key, alias, path, dict, or already as a spec."""
    if isinstance(name, spec):
        return name
    if isinstance(name, dict):
        return validate(spec, name, f"{kind.removesuffix('s')} given as a dict")
    if not isinstance(name, (str, Path)):
        raise SpecError(f"expected the name of one of the {kind}, a path or a dict, got {shown(name)}")
    return load_file(spec, catalog.locate(kind, str(name)))


def accelerator(name: str | Accelerator | dict[str, Any]) -> Accelerator:
    """Return an accelerator by catalog key, alias, driver name, path to a YAML file, or dict.

    Raises:
        UnknownNameError: Not in the catalog; the message has the nearest names.
        SpecError: The file or dict is malformed.
    """
    return load("accelerators", Accelerator, name)


def node(name: str | Node | dict[str, Any]) -> Node:
    """Return a node; arguments and errors as for :func:`accelerator`."""
    return load("nodes", Node, name)


def network(name: str | Network | dict[str, Any]) -> Network:
    """Return a network; arguments and errors as for :func:`accelerator`."""
    return load("networks", Network, name)


def engine(name: str | Engine | dict[str, Any]) -> Engine:
    """Return an engine; arguments and errors as for :func:`accelerator`."""
    return load("engines", Engine, name)


def site(name: str | Site | dict[str, Any]) -> Site:
    """Return a site; arguments and errors as for :func:`accelerator`."""
    return load("sites", Site, name)


def storage(name: str | Storage | dict[str, Any]) -> Storage:
    """Return a storage; arguments and errors as for :func:`accelerator`."""
    return load("storage", Storage, name)


def calibration(name: str | Calibration | dict[str, Any]) -> Calibration:
    """Return a calibration; arguments and errors as for :func:`accelerator`."""
    return load("calibrations", Calibration, name)
