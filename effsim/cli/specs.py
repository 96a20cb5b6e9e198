"""``effsim specs``: what the catalogs hold, whether it holds together, and models from Hugging Face."""

import sys
from collections import Counter
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from effsim.catalog import KINDS
from effsim.cli.output import AsJson, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="List, show and check accelerators, nodes, networks, models, engines, sites, storage and calibrations.")

Kind = Enum("Kind", {kind: kind for kind in KINDS}, type=str)  # type: ignore[misc]


@app.command("list")
def list_(kind: Annotated[Kind | None, typer.Argument(help="All kinds with their counts where absent.")] = None, as_json: AsJson = False) -> None:
    """List the names of a kind, with their aliases."""
    from effsim import catalog
    from effsim.documents import read_yaml

    if kind is None:
        counts = {name: len(catalog.files(name)) for name in KINDS}
        return print_json(counts) if as_json else print_table(("kind", "files"), counts.items())
    rows: list[dict[str, Any]] = []
    for name, path in catalog.files(kind.value).items():
        document = read_yaml(path)
        aliases = [str(alias) for alias in (document.get("hf_id"), *(document.get("aliases") or ())) if alias]
        rows.append({"name": name, "aliases": aliases, "note": document.get("note"), "file": str(path)})
    if as_json:
        return print_json(rows)
    return print_table(("name", "aliases", "note"), [(row["name"], ", ".join(row["aliases"]), row["note"]) for row in rows], f"{len(rows)} {kind.value}")


@app.command()
def show(
    kind: Annotated[Kind, typer.Argument()],
    name: Annotated[str, typer.Argument(help="Name, alias, driver name or path.")],
    as_json: AsJson = False,
) -> None:
    """Show one thing: each figure with its unit, kind of knowledge and source."""
    from effsim.documents import dump_yaml
    from effsim.specs.check import LOADERS
    from effsim.specs.figure import figures

    spec = LOADERS[kind.value](name)
    if as_json:
        return print_json(spec.model_dump(mode="json"))
    plain = spec.model_dump(mode="json", exclude_none=True, exclude={"sources", *(path.split(".")[0] for path, _ in figures(spec))})
    print(dump_yaml(plain).rstrip())
    rows = [(path, f"{figure.value:,.6g}", figure.unit, figure.kind, spec.sources[figure.source].title) for path, figure in figures(spec)]
    return print_table(("figure", "value", "unit (SI)", "kind", "source"), rows)


@app.command()
def check(
    place: Annotated[Path | None, typer.Argument(help="A folder or a file; everything shipped where absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that files validate, bear their own names and refer to things that exist; exit code 2 where one does not."""
    from effsim.specs.check import check as check_place

    checked = check_place(place)
    bad = [(str(one.path), one.mistake) for one in checked if one.mistake is not None]
    by_kind: dict[str, dict[str, Any]] = {}
    for kind in dict.fromkeys(one.kind for one in checked):
        ours = [one for one in checked if one.kind == kind]
        figures = sum((one.figures for one in ours), Counter())
        by_kind[kind] = {"files": len(ours), "mistakes": sum(one.mistake is not None for one in ours), "figures": dict(sorted(figures.items()))}
    if as_json:
        print_json({"kinds": by_kind, "mistakes": [{"file": file, "mistake": mistake} for file, mistake in bad]})
    else:
        rows = [
            (kind, of["files"], of["mistakes"], sum(of["figures"].values()), ", ".join(f"{count} {what}" for what, count in of["figures"].items()))
            for kind, of in by_kind.items()
        ]
        print_table(("kind", "files", "mistakes", "figures", "of which"), rows)
        for _, mistake in bad:
            typer.echo(f"effsim: {mistake}", err=True)
    if bad:
        raise typer.Exit(2)


@app.command("import-hf")
def import_hf(
    path: Annotated[Path, typer.Argument(help="A config.json of Hugging Face, a model's folder, or a folder of such files.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the model as YAML there, ready for a catalog.")] = None,
    as_json: AsJson = False,
) -> None:
    """Import a Hugging Face config, or list which of a folder's configs import, with their parameter counts."""
    if path.is_dir() and not (path / "config.json").is_file():
        return _import_table(path, output, as_json=as_json)
    from effsim.documents import dump_yaml, write_atomically
    from effsim.errors import SpecError
    from effsim.specs.hf.importer import read_hf_folder
    from effsim.workload.parameters import parameter_count

    imported = read_hf_folder(path)
    document = imported.model_dump(mode="json", exclude_none=True)
    if output is not None:
        try:
            write_atomically(output, dump_yaml({**document, "name": output.stem}))
        except OSError as error:
            raise SpecError(f"{output}: cannot be written: {error.strerror}") from None
    count = parameter_count(imported)
    if as_json:
        return print_json({"parameters": count.total, "model": document})
    if output is None:
        print(dump_yaml(document).rstrip())
    return print(f"{imported.name}: {count.total:,} parameters, {imported.num_layers} layers, {imported.native_precision}", file=sys.stderr)


def _import_table(folder: Path, output: Path | None, *, as_json: bool) -> None:
    from effsim.errors import SpecError
    from effsim.workload.hf_table import hf_table

    if output is not None:
        raise SpecError(f"{folder}: --output writes one model; give one config.json")
    table = hf_table(folder)
    if as_json:
        rows = [{**{name: getattr(row, name) for name in type(row).__slots__}, "error": row.error} for row in table]
        return print_json(rows)
    shown = [
        (row.file, row.status, row.parameters, row.published, None if row.error is None else f"{row.error:+.2%}", row.precision, row.message) for row in table
    ]
    columns = ("file", "status", "parameters", "published", "error", "precision", "message")
    return print_table(columns, shown, f"{sum(row.status == 'imported' for row in table)} of {len(table)} imported")
