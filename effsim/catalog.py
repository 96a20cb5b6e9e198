"""Folders of YAML files as catalogs: a folder is a kind, a file name is a name, aliases stand in the file.

Three places are searched, the first that has the name wins: the user's own folder (``EFFSIM_SPECS``), the data
packaged in the wheel, the checkout. An unknown name is an error with the nearest names, never a default.
"""

import difflib
import functools
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from effsim.documents import is_file, read_yaml
from effsim.errors import SpecError, UnknownNameError

KINDS: Final = ("accelerators", "nodes", "networks", "models", "engines", "sites", "storage", "calibrations")
SPECS_VARIABLE: Final = "EFFSIM_SPECS"
DATA_VARIABLE: Final = "EFFSIM_DATA"


@functools.cache
def data_root(name: str) -> Path:
    """Return the folder of shipped data (``hardware_specs`` or ``scenarios``): packaged first, then the checkout."""
    packaged = Path(__file__).parent / "_data" / name
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / name


def folders(kind: str) -> tuple[Path, ...]:
    """Return the folders that hold a kind, the user's own first.

    Raises:
        SpecError: ``EFFSIM_SPECS`` names something that is not a folder.
    """
    found = []
    for own in filter(None, os.environ.get(SPECS_VARIABLE, "").split(os.pathsep)):
        if not Path(own).is_dir():
            raise SpecError(f"{SPECS_VARIABLE} (--specs) names {own!r}, which is not a folder")
        found.append(Path(own) / kind)
    return (*found, data_root("hardware_specs") / kind)


def files(kind: str) -> Mapping[str, Path]:
    """Return every name of a kind and its file, sorted by name; folders are listed again when they have changed."""
    return _files(_state(kind))


State = tuple[tuple[Path, int], ...]


def _state(kind: str) -> State:
    """Return the folders of a kind with the times of their last change: files added, removed or replaced by renaming."""
    return tuple((folder, folder.stat().st_mtime_ns) for folder in folders(kind) if folder.is_dir())


@functools.lru_cache(maxsize=64)
def _files(state: State) -> Mapping[str, Path]:
    found: dict[str, Path] = {}
    for folder, _ in reversed(state):
        found.update({path.stem: path for path in folder.glob("*.yaml")})
    return MappingProxyType(dict(sorted(found.items())))


def canonical(name: str) -> str:
    """Return the form in which names are compared: lower case, separators alike.

    >>> canonical("NVIDIA H100 80GB HBM3") == canonical("nvidia-h100_80gb hbm3")
    True
    """
    return re.sub(r"[\s_\-]+", "-", name.strip().lower())


@functools.lru_cache(maxsize=64)
def _aliases(state: State) -> Mapping[str, Path]:
    index: dict[str, Path] = {}
    owner: dict[str, str] = {}
    for path in _files(state).values():
        document = read_yaml(path)
        given = document.get("aliases") or []
        names = [path.stem, document.get("hf_id"), *(given if isinstance(given, list) else [])]
        for name in {canonical(n) for n in names if isinstance(n, str)}:
            if owner.get(name, path.stem) != path.stem:
                raise SpecError(f"{path}: the alias {name!r} already belongs to {owner[name]!r}")
            index[name], owner[name] = path, path.stem
    return MappingProxyType(index)


def aliases(kind: str) -> Mapping[str, Path]:
    """Return every name and alias of a kind, in :func:`canonical` form, with its file."""
    return _aliases(_state(kind))


def find(kind: str, name: str) -> Path | None:
    """Return the file of a key or alias, or None."""
    direct = files(kind).get(name)
    return direct if direct is not None else aliases(kind).get(canonical(name))


def locate(kind: str, name: str) -> Path:
    """Return the file for a key, an alias or a path to a YAML file.

    Raises:
        UnknownNameError: Nothing goes by that name; the message has the nearest names.
    """
    if name.endswith((".yaml", ".yml")) or (os.sep in name and is_file(Path(name))):
        return Path(name)
    path = find(kind, name)
    if path is None:
        raise unknown(kind, name)
    return path


def unknown(kind: str, name: str) -> UnknownNameError:
    """Return the error for a name that a catalog does not have, with the nearest ones that it has."""
    hint = suggest(name, [*files(kind), *aliases(kind)])
    return UnknownNameError(f"unknown {kind.removesuffix('s')} {name[:80]!r}; {hint}`effsim specs list {kind}` lists all")


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Return ``"did you mean 'x' or 'y'? "``, or an empty text where nothing is near.

    >>> suggest("h100_smx", ["h100_sxm", "a100_sxm"])
    "did you mean 'h100_sxm' or 'a100_sxm'? "
    """
    by_form = {canonical(option): option for option in reversed(list(allowed))}
    near = difflib.get_close_matches(canonical(name), list(by_form), n=3, cutoff=0.6)
    if not near:
        near = sorted(form for form in by_form if canonical(name) in form or canonical(name).startswith(form))[:3]
    return f"did you mean {' or '.join(repr(by_form[form]) for form in near)}? " if near else ""


def read(kind: str, name: str) -> tuple[Path, dict[str, Any]]:
    """Return the file and the parsed document of a name, alias or path."""
    path = locate(kind, name)
    return path, read_yaml(path)
