"""YAML documents from strangers: read safely, with size, depth and duplicate-key limits and line numbers.

Nothing is executed or unpickled. What is refused is refused with the file, the line and the reason.
"""

import os
import re
import tempfile
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, Final

import yaml

from effsim.errors import SpecError, shown

MAX_DOCUMENT_BYTES: Final = 1_000_000
MAX_NODES: Final = 50_000
MAX_DEPTH: Final = 30
UNDER_WAY: Final = (0, 0)

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE: Final = "tag:yaml.org,2002:merge"
_FLOAT: Final = re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?(?:[eE][-+]?\d+)$|^[-+]?\.\d+(?:[eE][-+]?\d+)?$|^[-+]?\d[\d_]*\.\d*$")
_INTEGER: Final = re.compile(r"^[-+]?(?:0|[1-9][\d_]*)$")
_DROPPED: Final = {f"tag:yaml.org,2002:{name}" for name in ("timestamp", "int", "value")}


class _Loader(_Base):  # type: ignore[misc]
    """PyYAML's safe loader, less the surprises of YAML 1.1.

    Duplicate keys are refused. ``3.35e12`` is a number; ``2024-01-05``, ``010`` and ``1:30`` are text, neither a date nor the
    numbers 8 and 90.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = "<<" if key_node.tag == _MERGE else self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {shown(key)} is given twice", key_node.start_mark)
            seen.add(key)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _DROPPED] for first, resolvers in _Base.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def is_file(path: Path) -> bool:
    """Return whether a path leads to a file; a text that cannot be a path does not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def check_file(path: Path, max_bytes: int, kind: str = "a file of this kind") -> None:
    """Refuse what is no file, or too large to be read.

    Raises:
        SpecError: Missing, a folder, or larger than ``max_bytes``.
        OSError: The folder cannot be looked into.
    """
    if not path.exists():
        raise SpecError(f"{path}: no such file")
    if not path.is_file():
        raise SpecError(f"{path}: expected a file, found a folder or device")
    size = path.stat().st_size
    if size > max_bytes:
        raise SpecError(f"{path}: {size:,} bytes; {kind} may have at most {max_bytes:,}")


def read_text(path: Path, max_bytes: int = MAX_DOCUMENT_BYTES) -> str:
    """Return the text of a user's file, or say why it cannot be read.

    Raises:
        SpecError: Missing, a folder, larger than ``max_bytes``, or not UTF-8 text.
    """
    try:
        check_file(path, max_bytes)
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise SpecError(f"{shown(str(path))}: cannot be read: {error.strerror}") from None
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
        document = _construct(text, where)
    except yaml.YAMLError as error:
        raise SpecError(_explain(error, where)) from None
    except (ValueError, OverflowError) as error:  # e.g. more digits than Python reads
        raise SpecError(f"{where}: {error}") from None
    if not isinstance(document, dict):
        found = "an empty file" if document is None else type(document).__name__
        raise SpecError(f"{where}: expected a mapping of field names to values, found {found}")
    bad = [key for key in document if not isinstance(key, str)]
    if bad:
        raise SpecError(f"{where}: field names are text; found {shown(bad[0])}")
    return document


def _explain(error: yaml.YAMLError, where: str) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{where}, line {error.problem_mark.line + 1}: {error.problem or error.context}"
    return f"{where}: not YAML: {' '.join(str(error).split())[:200]}"


def _construct(text: str, where: str) -> Any:
    """Return what a YAML text stands for, composed once, after its nesting and its expansion are found in bounds."""
    _check_events(text, where)
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _extent(root, {}, where)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _check_events(text: str, where: str) -> None:
    """Refuse deep nesting, before composing recurses (in C without a limit of its own), and tags, which nothing here needs."""
    depth = 0
    event: Any
    for event in yaml.parse(text, Loader=_Loader):
        place = f"{where}, line {event.start_mark.line + 1}"
        if getattr(event, "tag", None) is not None:
            raise SpecError(f"{place}: tags such as {shown(event.tag)} are not accepted; write the plain value")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise SpecError(f"{place}: nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _extent(node: yaml.Node, known: dict[int, tuple[int, int]], where: str) -> tuple[int, int]:
    """Return how many values a node expands to, through aliases, and over how many levels.

    Raises:
        SpecError: Beyond :data:`MAX_NODES` or :data:`MAX_DEPTH`, or a node that contains itself.
    """
    line = 0 if node.start_mark is None else node.start_mark.line + 1
    if id(node) in known:
        if known[id(node)] == UNDER_WAY:
            raise SpecError(f"{where}, line {line}: an alias refers to a value that contains it")
        return known[id(node)]
    known[id(node)] = UNDER_WAY
    values, levels = 1, 0
    for child in _children(node):
        more, below = _extent(child, known, where)
        values, levels = values + more, max(levels, below)
        if values > MAX_NODES:
            raise SpecError(f"{where}, line {line}: expands to more than {MAX_NODES:,} values")
    levels += isinstance(node, yaml.CollectionNode)
    if levels > MAX_DEPTH:
        raise SpecError(f"{where}, line {line}: nested deeper than {MAX_DEPTH} levels")
    known[id(node)] = values, levels
    return values, levels


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
    write_blocks_atomically(path, (text,))


def write_blocks_atomically(path: Path, blocks: Iterable[str]) -> None:
    """Write a text file, given in parts, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(blocks)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
