"""YAML documents from strangers: read safely, with size, depth and duplicate-key limits and line numbers.

Nothing is executed or unpickled. What is refused is refused with the file, the line and the reason.
"""

import os
import re
import tempfile
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import yaml

from effsim.errors import SpecError

MAX_DOCUMENT_BYTES: Final = 1_000_000
MAX_NODES: Final = 50_000
MAX_DEPTH: Final = 30

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FLOAT: Final = re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?(?:[eE][-+]?\d+)$|^[-+]?\.\d+(?:[eE][-+]?\d+)?$|^[-+]?\d[\d_]*\.\d*$")


class _Loader(_Base):  # type: ignore[misc]
    """PyYAML's safe loader, which also refuses duplicate keys and reads ``3.35e12`` as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def read_text(path: Path, max_bytes: int = MAX_DOCUMENT_BYTES) -> str:
    """Return the text of a user's file, or say why it cannot be read.

    Raises:
        SpecError: Missing, a folder, larger than ``max_bytes``, or not UTF-8 text.
    """
    if not path.exists():
        raise SpecError(f"{path}: no such file")
    if not path.is_file():
        raise SpecError(f"{path}: expected a file, found a folder or device")
    size = path.stat().st_size
    if size > max_bytes:
        raise SpecError(f"{path}: {size:,} bytes; a file of this kind may have at most {max_bytes:,}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    if "\0" in text:
        raise SpecError(f"{path}: not a text file (it contains zero bytes)")
    return text


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML (or JSON) file.

    Raises:
        SpecError: Whatever :func:`read_text` refuses; not YAML; a duplicate key; nested or expanded too far; not a mapping.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Return the mapping that a YAML text holds; ``where`` names it in messages.

    >>> parse_yaml("power: 700 W", "note")
    {'power': '700 W'}
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
        _check_extent(root, where)
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 -- _Loader is a safe loader
    except yaml.YAMLError as error:
        raise SpecError(_explain(error, where)) from None
    except RecursionError:
        raise SpecError(f"{where}: nested deeper than {MAX_DEPTH} levels") from None
    except (ValueError, OverflowError) as error:  # e.g. the date 2024-13-45
        raise SpecError(f"{where}: {error}") from None
    if not isinstance(document, dict):
        found = "an empty file" if document is None else type(document).__name__
        raise SpecError(f"{where}: expected a mapping of field names to values, found {found}")
    bad = next((key for key in document if not isinstance(key, str)), None)
    if bad is not None:
        raise SpecError(f"{where}: field names are text; found {bad!r}")
    return document


def _explain(error: yaml.YAMLError, where: str) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{where}, line {error.problem_mark.line + 1}: {error.problem or error.context}"
    return f"{where}: not YAML: {' '.join(str(error).split())[:200]}"


def _check_extent(root: yaml.Node | None, where: str) -> None:
    """Refuse documents that expand, through aliases, beyond :data:`MAX_NODES`, nest too deep or contain themselves."""
    if root is not None:
        _extent(root, {}, 0, where)


def _extent(node: yaml.Node, known: dict[int, int], depth: int, where: str) -> int:
    line = node.start_mark.line + 1
    if depth > MAX_DEPTH:
        raise SpecError(f"{where}, line {line}: nested deeper than {MAX_DEPTH} levels")
    if known.get(id(node)) == 0:
        raise SpecError(f"{where}, line {line}: an alias refers to a value that contains it")
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = 0  # under way
    total = 1
    for child in _children(node):
        total += _extent(child, known, depth + 1, where)
        if total > MAX_NODES:
            raise SpecError(f"{where}, line {line}: expands to more than {MAX_NODES:,} values")
    known[id(node)] = total
    return total


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def line_of(text: str, field_path: tuple[str | int, ...]) -> int | None:
    r"""Return the 1-based line of the deepest part of a field path that the document has.

    >>> line_of("a: 1\nfleet:\n  - {power: 3}\n", ("fleet", 0, "power"))
    3
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError:
        return None
    line = None
    for part in field_path:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def dump_yaml(document: dict[str, Any]) -> str:
    """Return a mapping as YAML in the order given."""
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=140))


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all: to a temporary file beside it, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
