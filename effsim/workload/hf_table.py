"""A folder of Hugging Face configs, each imported or refused, with its parameter count beside the published one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from effsim.errors import EffSimError, SpecError, UnknownNameError
from effsim.specs.hf.importer import read_hf_folder
from effsim.specs.models import model
from effsim.workload.parameters import parameter_count


@dataclass(frozen=True, slots=True)
class ImportRow:
    """One config file.

    Args:
        file: Its name.
        status: ``imported`` or ``refused``.
        parameters: Counted from the config; None where refused.
        published: Of the model card, through the catalog; None where the catalog has no such model.
        precision: As published.
        message: Why it was refused.
    """

    file: str
    status: Literal["imported", "refused"]
    parameters: int | None = None
    published: float | None = None
    precision: str | None = None
    message: str | None = None

    @property
    def error(self) -> float | None:
        """Counted over published, less one; None where either is missing."""
        if self.parameters is None or self.published is None:
            return None
        return self.parameters / self.published - 1.0


def hf_table(folder: str | Path) -> list[ImportRow]:
    """Return one row per ``*config.json`` in a folder, sorted by file name; ``*hf_quant_config.json`` are companions, not rows.

    Raises:
        SpecError: The folder is missing or holds no config.
    """
    place = Path(folder)
    if not place.is_dir():
        raise SpecError(f"{place}: no such folder")
    files = sorted(path for path in place.glob("*config.json") if not path.name.endswith("hf_quant_config.json"))
    if not files:
        raise SpecError(f"{place}: no *config.json in it")
    return [hf_row(path) for path in files]


def hf_row(path: Path) -> ImportRow:
    """Return the row of one config file."""
    try:
        imported = read_hf_folder(path)
        parameters = parameter_count(imported).total
    except EffSimError as error:
        return ImportRow(path.name, "refused", message=str(error))
    stem = path.name.removesuffix("config.json").rstrip("_").replace("--", "/", 1)
    published = published_parameters(imported.hf_id) or published_parameters(stem)
    return ImportRow(path.name, "imported", parameters, published, imported.native_precision)


def published_parameters(hf_id: str | None) -> float | None:
    """Return the published size of a model by its Hub id, None where the catalog does not have it."""
    try:
        found = model(hf_id) if hf_id else None
    except UnknownNameError:
        return None
    return found.published_parameters.value if found is not None and found.published_parameters is not None else None
