"""From the fields of a config.json to a validated architecture."""

import functools
import importlib
import json
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from effsim import catalog
from effsim.documents import read_text
from effsim.errors import SpecError, shown
from effsim.specs import loading
from effsim.specs.hf import families, quantization
from effsim.specs.hf.assemble import Architecture
from effsim.specs.hf.fields import Fields
from effsim.specs.hf.vision import TOWERS
from effsim.specs.model import MoeFfn, Transformer

Reader = Callable[[Fields], Architecture]
_WRAPPERS = {
    "qwen3_vl": "qwen3_vl_text", "qwen3_vl_moe": "qwen3_vl_moe_text", "qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text",
    "kimi_k25": "deepseek_v3", "kimi_k3": "kimi_linear", "gemma3": "gemma3_text", "gemma4": "gemma4_text", "llama4": "llama4_text",
    "minimax_m3_vl": "minimax_m3_vl_text",
}  # fmt: skip
"""``model_type`` of a config that holds a ``text_config`` -> the family of that part where it does not name its own."""


MAX_JSON_BYTES: Final = 16_000_000  # quantisation configs list every module


@functools.cache
def readers() -> dict[str, Reader]:
    """Return ``model_type`` -> reader, collected from the modules in ``families``."""
    found: dict[str, Reader] = {}
    for module in pkgutil.iter_modules(families.__path__):
        found.update(importlib.import_module(f"{families.__name__}.{module.name}").FAMILIES)
    return found


def from_hf_config(config: dict[str, Any], name: str | None = None, hf_quant: dict[str, Any] | None = None) -> Transformer:
    """Return the architecture that a Hugging Face config describes.

    Token prediction heads (MTP) are left out: they are no part of the model as served. A vision tower is counted into
    ``other_parameters``. Precision and quantised part come from ``quantization_config`` or ``hf_quant``.

    Args:
        config: The parsed config.json.
        name: The Hub id or a name of one's own; the config's ``_name_or_path`` or ``model_type`` where absent.
        hf_quant: The parsed hf_quant_config.json, where there is one.

    Raises:
        SpecError: A family, field, value or quantisation that is not supported; it is named.

    >>> config = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    ...           "intermediate_size": 14336, "vocab_size": 128256, "torch_dtype": "bfloat16"}
    >>> from_hf_config(config).blocks[0].mixer.head_dim
    128
    """
    if not isinstance(config, dict):
        raise SpecError(f"expected the fields of a config.json, got {type(config).__name__}")
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise SpecError("a config.json names its model_type; this one does not")
    hf_id = name or config.get("_name_or_path") or model_type
    where = " ".join(f"{hf_id} ({model_type})".split())[:160]
    top = Fields(config, where)
    architecture, extra = _read(top, model_type, where)
    other = architecture.other_parameters + extra
    layers = sum(block.repeat for block in architecture.blocks)
    mixture = any(isinstance(block.ffn, MoeFfn) for block in architecture.blocks)
    precision, part = quantization.read(config, hf_quant, where, layers, mixture=mixture)
    document = {
        "name": slug(str(hf_id)),
        "hf_id": hf_id if "/" in str(hf_id) else None,
        "note": "Imported from a Hugging Face config.json.",
        "sources": {},
        "hidden_size": architecture.hidden_size,
        "vocab_size": architecture.vocab_size,
        "blocks": architecture.blocks,
        "other_parameters": other,
        "native_precision": precision,
        "quantized_part": part,
        **architecture.extra,
    }
    return loading.validate(Transformer, document, where)


def _read(top: Fields, model_type: str, where: str) -> tuple[Architecture, int]:
    """Return the text model's architecture and the parameters of what stands beside it."""
    text = top.part("text_config")
    family = model_type
    if model_type in _WRAPPERS:
        if text is None:
            raise top.refuse("this model_type without text_config")
        family = str(text.get("model_type") or _WRAPPERS[model_type])
        family = _WRAPPERS[model_type] if family in _WRAPPERS else family
        if "tie_word_embeddings" in top.document:
            text.document = {**text.document, "tie_word_embeddings": top.document["tie_word_embeddings"]}
    elif text is not None:
        raise top.refuse(f"text_config in a config of model_type {shown(model_type)}")
    reader = readers().get(family)
    if reader is None:
        hint = catalog.suggest(family, readers())
        raise SpecError(f"{where}: not supported: model_type {shown(family)}; {hint}known: {', '.join(sorted({*readers(), *_WRAPPERS}))}")
    source = top if text is None else text
    source.where = where
    architecture = _checked(reader, source)
    if text is None:
        return architecture, 0
    top.needs_off("audio_config")
    vision = top.part("vision_config")
    if vision is None:
        return architecture, 0
    tower = TOWERS.get(model_type)
    if tower is None:
        raise top.refuse("vision_config of this model_type")
    return architecture, tower(vision, architecture.hidden_size, top)


def _checked(reader: Reader, fields: Fields) -> Architecture:
    try:
        architecture = reader(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise SpecError(f"{fields.where}: {error.title}{f'.{field}' if field else ''}: {first['msg']}") from None
    fields.check_all_read()
    return architecture


def slug(text: str) -> str:
    """Return a catalog name for a Hub id.

    >>> slug("nvidia/Llama-3_3-Nemotron-Super-49B-v1")
    'llama-3-3-nemotron-super-49b-v1'
    """
    cleaned = re.sub(r"[^a-z0-9.]+", "-", text.rstrip("/").rsplit("/", 1)[-1].lower()).strip("-.")
    return cleaned or "imported"


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        SpecError: Missing, too large, not JSON, or not an object.
    """
    try:
        document = json.loads(read_text(path, MAX_JSON_BYTES))
    except json.JSONDecodeError as error:
        raise SpecError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise SpecError(f"{path}: nested too deep") from None
    if not isinstance(document, dict):
        raise SpecError(f"{path}: expected a JSON object, found {type(document).__name__}")
    return document


def read_hf_folder(path: Path, name: str | None = None) -> Transformer:
    """Return the architecture in a config.json, or in a folder that holds one; an hf_quant_config.json beside it is read too.

    Files named ``<org>--<model>_config.json`` have their companion at ``<org>--<model>_hf_quant_config.json``.
    """
    config = path / "config.json" if path.is_dir() else path
    companion = config.with_name(config.name.removesuffix("config.json") + "hf_quant_config.json")
    hf_quant = read_json(companion) if companion != config and companion.is_file() else None
    document = read_json(config)
    stem = config.name.removesuffix("config.json").rstrip("_").replace("--", "/", 1) or config.parent.name
    return from_hf_config(document, name or document.get("_name_or_path") or stem, hf_quant)
