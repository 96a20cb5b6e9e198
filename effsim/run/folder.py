"""The folder that a run leaves: what was asked, what came out, and with which versions."""

import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import pandas as pd

from effsim.documents import dump_yaml, write_atomically
from effsim.errors import MissingExtraError, SpecError
from effsim.results import ScenarioReport, to_json
from effsim.run.outcome import Outcome
from effsim.sim.result import SimulationResult
from effsim.specs.scenario import Scenario

LIBRARIES: Final = ("numpy", "scipy", "pandas", "simpy", "pydantic")
REQUESTS_PARQUET: Final = "requests.parquet"
Export = Callable[[SimulationResult, Mapping[str, Any], pd.DataFrame], Mapping[str, str]]
"""From a serving run, its summary and its time series to texts by the name of their file."""


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


def write_folder(folder: Path, scenario: Scenario, report: ScenarioReport, base: Outcome, exports: Sequence[Export] = ()) -> ScenarioReport:
    """Write what a run leaves, each file whole or not at all.

    Always config.yaml, summary.json, metadata.json; requests and time series, as CSV and as Parquet, where there are any; of a serving
    run also what the exports make. A file that needs a package which is not installed is left out; the report returned names it with the
    reason under ``not_written`` of its metadata.

    Raises:
        SpecError: The folder cannot be written.
    """
    libraries = {name: metadata.version(name) for name in LIBRARIES}
    tables = {"requests": base.requests, "timeseries": base.power}
    left_out: dict[str, str] = {}
    try:
        write_atomically(folder / "config.yaml", dump_yaml(scenario.model_dump(mode="json", exclude_none=True)))
        for name, table in tables.items():
            if table is None:
                continue
            if not len(table):
                left_out[f"{name}.csv"] = "more rows than are kept in memory; they are in the Parquet file"
                continue
            write_atomically(folder / f"{name}.csv", table.to_csv(index=False))
            try:
                write_parquet(folder / f"{name}.parquet", table)
            except MissingExtraError as error:
                left_out[f"{name}.parquet"] = str(error)
        if base.simulation is not None and base.power is not None:
            for export in exports:
                left_out |= _export(folder, export, base.simulation, base.summary, base.power)
        if left_out:
            report = replace(report, metadata={**report.metadata, "not_written": left_out})
        about = {**report.metadata, "python": platform.python_version(), "libraries": libraries}
        write_atomically(folder / "summary.json", report.to_json() + "\n")
        write_atomically(folder / "metadata.json", to_json(about) + "\n")
    except OSError as error:
        raise SpecError(f"{folder}: the run's folder cannot be written: {error.strerror}") from None
    return report


def _export(folder: Path, export: Export, result: SimulationResult, summary: Mapping[str, Any], power: pd.DataFrame) -> dict[str, str]:
    try:
        for name, text in export(result, summary, power).items():
            write_atomically(folder / name, text)
    except MissingExtraError as error:
        return {export.__module__.rpartition(".")[2]: str(error)}
    return {}


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, whole or not at all.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 -- an extra
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", path.name) from None
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), name, compression="zstd")
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
