"""From a name to an architecture: catalog keys, aliases, Hub ids of variants, files, dicts."""

import functools
import re
from pathlib import Path
from typing import Any, Final

from effsim import catalog
from effsim.documents import read_yaml
from effsim.errors import SpecError, shown
from effsim.specs import loading
from effsim.specs.hf.importer import from_hf_config, read_hf_folder
from effsim.specs.model import Mlp, Model, MoeFfn, Transformer

PRECISION_SUFFIXES: Final = {
    "fp8": "fp8", "fp8-dynamic": "fp8", "fp8-kv": "fp8", "fp8-static-pertensor": "fp8", "fp8-block": "fp8",
    "nvfp4": "nvfp4", "fp4": "nvfp4", "mxfp4": "mxfp4", "awq": "int4", "awq-int4": "int4", "awq-4bit": "int4", "int4": "int4",
    "gptq": "int4", "gptq-int4": "int4", "gptq-int8": "int8", "int8": "int8", "w4a16": "int4", "w8a16": "int8", "w8a8": "int8",
    "quantized.w4a16": "int4", "quantized.w8a16": "int8", "quantized.w8a8": "int8", "bf16": "bf16", "fp16": "fp16", "f16": "fp16",
}  # fmt: skip
"""Endings of a repository's name that say how its weights are stored."""

SAME_ARCHITECTURE_SUFFIXES: Final = ("instruct", "it", "pt", "base", "chat", "hf", "thinking", "2507", "0528", "0324", "v0.1")
"""Endings that name a fine-tune or a date: the architecture is that of the name without them."""

_SUFFIX: Final = re.compile(
    "[-.](?P<suffix>" + "|".join(re.escape(s) for s in sorted([*PRECISION_SUFFIXES, *SAME_ARCHITECTURE_SUFFIXES], key=len, reverse=True)) + ")$"
)


def model(name: str | Path | dict[str, Any] | Model) -> Model:
    """Return the architecture of a model.

    A name is looked up in the catalog as it is, then without its organisation, then without the endings of variants
    (``-Instruct``, ``-it``, ``-2507``, ``-FP8`` ...), one after the other. What remains must be a name in the catalog: a
    size or generation is never guessed. A precision among the endings replaces ``native_precision``.

    Args:
        name: Catalog key, alias, Hub id, path to a YAML file or to a config.json or the folder that holds one, dict of
            config.json fields or of a catalog entry, or a model.

    Raises:
        UnknownNameError: Nothing goes by that name; the message has the nearest names.
        SpecError: The file or dict is malformed, or a config has parts that are not supported.

    >>> model("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8").native_precision
    'fp8'
    >>> model("Qwen/Qwen3-235B-A22B-Thinking-2507").name
    'qwen3-235b-a22b'
    """
    if isinstance(name, (Transformer, Mlp)):
        return name
    if isinstance(name, dict):
        return from_hf_config(name) if "model_type" in name else _validated(name, "model given as a dict")
    if not isinstance(name, (str, Path)):
        raise SpecError(f"expected the name of a model, a path or a dict, got {shown(name)}")
    text = str(name)
    if not text.strip():
        raise catalog.unknown("models", text)
    found = _named(text)
    return found if found is not None else _from_path(text)


def _named(text: str) -> Model | None:
    """Return the catalog's model for a name or the name of a variant."""
    precision = None
    candidate = catalog.canonical(text)
    while True:
        path = catalog.find("models", candidate) or _of_any_organisation(candidate.rsplit("/", 1)[-1])
        if path is not None:
            return _at_precision(_load(str(path), path.stat().st_mtime_ns), precision)
        match = _SUFFIX.search(candidate)
        if match is None:
            return None
        precision = precision or PRECISION_SUFFIXES.get(match["suffix"])
        candidate = candidate[: match.start()]


def _of_any_organisation(name: str) -> Path | None:
    """Return the file of a name without its organisation, or None.

    A Hub id counts only if it states a number (not ``bloom``), and no precision: how one organisation stored its weights says
    nothing on another's.
    """
    found = catalog.find("models", name)
    suffix = _SUFFIX.search(name)
    if found is not None or not any(letter.isdigit() for letter in name) or (suffix and suffix["suffix"] in PRECISION_SUFFIXES):
        return found
    matches = {path for alias, path in catalog.aliases("models").items() if alias.endswith(f"/{name}")}
    return matches.pop() if len(matches) == 1 else None


def _at_precision(found: Model, precision: str | None) -> Model:
    """Return the model stored at another precision: mxfp4 as gpt-oss has it, on the experts; the others on all matrices."""
    if precision is None or precision == found.native_precision:
        return found
    if isinstance(found, Mlp):
        return found.model_copy(update={"native_precision": precision})
    mixture = any(isinstance(block.ffn, MoeFfn) for block in found.blocks)
    part = "experts" if precision == "mxfp4" and mixture else "linear"
    return found.model_copy(update={"native_precision": precision, "quantized_part": part})


def _from_path(text: str) -> Model:
    path = Path(text)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise SpecError(f"{path}: no such file")
        return _load(text, path.stat().st_mtime_ns)
    if path.suffix == ".json" or (path / "config.json").is_file():
        return read_hf_folder(path)
    if path.is_dir():
        raise SpecError(f"{path}: a folder without config.json")
    raise catalog.unknown("models", text)


@functools.lru_cache(maxsize=512)
def _load(path: str, _modified_ns: int) -> Model:
    return _validated(read_yaml(Path(path)), path)


def _validated(document: dict[str, Any], where: str) -> Model:
    """Return a catalog entry, by its ``family``: ``transformer`` where absent, or ``mlp``."""
    family = document.get("family", "transformer")
    if family == "mlp":
        return loading.validate(Mlp, document, where)
    if family != "transformer":
        raise SpecError(f"{where}: family: expected transformer or mlp, got {str(family)[:40]!r}")
    return loading.validate(Transformer, document, where)
