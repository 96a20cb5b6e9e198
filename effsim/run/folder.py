"""The folder that a run leaves: what was asked, what came out, and with which versions."""

import platform
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Final

from effsim.documents import dump_yaml, write_atomically
from effsim.errors import SpecError
from effsim.results import ScenarioReport, to_json
from effsim.run.outcome import Outcome
from effsim.specs.scenario import Scenario

LIBRARIES: Final = ("numpy", "scipy", "pandas", "simpy", "pydantic")


def require_writable(path: Path, option: str) -> None:
    """Check before a run that its outcome can be written: a file can be put where ``path`` or its folders would be made.

    Raises:
        SpecError: It cannot, or something of another kind is in the way.
    """
    try:
        if option == "--svg" and path.is_dir():
            raise SpecError(f"{option}: {path} is a folder; expected the name of a file")
        place = path.absolute() if option == "--output" else path.absolute().parent
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise SpecError(f"{option}: {path} cannot be written: {place} is not a folder")
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise SpecError(f"{option}: {path} cannot be written: {error.strerror}") from None


def write_folder(folder: Path, scenario: Scenario, report: ScenarioReport, base: Outcome) -> None:
    """Write config.yaml, summary.json, metadata.json and, for serving, requests.csv and timeseries.csv; each file whole or not at all.

    Raises:
        SpecError: The folder cannot be written.
    """
    libraries = {name: metadata.version(name) for name in LIBRARIES}
    texts = {
        "config.yaml": dump_yaml(scenario.model_dump(mode="json", exclude_none=True)),
        "summary.json": report.to_json() + "\n",
        "metadata.json": to_json({**report.metadata, "python": platform.python_version(), "libraries": libraries}) + "\n",
    }
    if base.requests is not None:
        texts["requests.csv"] = base.requests.to_csv(index=False)
    if base.power is not None:
        texts["timeseries.csv"] = base.power.to_csv(index=False)
    try:
        for name, text in texts.items():
            write_atomically(folder / name, text)
    except OSError as error:
        raise SpecError(f"{folder}: the run's folder cannot be written: {error.strerror}") from None
