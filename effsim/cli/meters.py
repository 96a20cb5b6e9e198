"""``effsim meters``: what can be metered here, recordings of it, joules of recordings and logs."""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from effsim.cli.output import AsJson, print_json, print_table
from effsim.cli.progress import progress_bar

app = typer.Typer(help="Meters of this machine: what they read, how often, and what is in the way.")

Chosen = Annotated[list[str] | None, typer.Option("--meter", metavar="NAME", help="Only this meter: nvml, rapl, zeus, replay; may be repeated.")]


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    meter: Chosen = None,
    look: Annotated[float, typer.Option(min=0.0, max=3600.0, help="Seconds to watch each meter for, to see how often it moves.")] = 1.0,
    watch: Annotated[bool, typer.Option("--watch", help="Print energy and power once a second until interrupted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the meters found with scope, period, resolution and permission, and the remedy where one is missing."""
    if context.invoked_subcommand is not None:
        return None
    if watch:
        return _watch(meter or [])
    from effsim.meters.command import opened
    from effsim.meters.survey import COLUMNS, cells, survey

    with opened(meter or []) as meters:
        rows = survey(meters, look)
    return print_json([row.to_dict() for row in rows]) if as_json else _print_plain(COLUMNS, map(cells, rows))


def _print_plain(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose cells may hold square brackets, which Rich would take for styles."""
    from rich.markup import escape

    print_table(columns, [[escape(cell) for cell in row] for row in rows])


def _watch(chosen: list[str]) -> None:
    from effsim.meters.command import opened
    from effsim.meters.record import WATCH_COLUMNS, watched

    with contextlib.suppress(KeyboardInterrupt), opened(chosen) as meters:
        for rows in watched(meters):
            _print_plain(WATCH_COLUMNS, rows)


@app.command()
def record(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where the recording goes: JSON lines, which --meter replay plays.")],
    duration: Annotated[float | None, typer.Option(help="Seconds; none: until interrupted.")] = None,
    period: Annotated[float, typer.Option(help="Seconds between two looks.")] = 0.1,
    meter: Chosen = None,
    as_json: AsJson = False,
) -> None:
    """Record all counters to a file; what is there when you interrupt is kept."""
    from effsim.meters.command import opened
    from effsim.meters.record import record

    with opened(meter or []) as meters, progress_bar() as progress:
        kept = record(path, meters, duration, period, progress)
    if as_json:
        return print_json({"path": str(path), "readings": kept})
    return print(f"{kept} readings in {path}")


@app.command()
def energy(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A recording, a CSV of nvidia-smi or of a wall meter, a log of dcgmi dmon or PTDaemon.")],
    begin: Annotated[float | None, typer.Option(help="Seconds after its first reading.")] = None,
    end: Annotated[float | None, typer.Option(help="Seconds after its first reading.")] = None,
    period: Annotated[float | None, typer.Option(help="Seconds between rows that carry no time (dcgmi dmon).")] = None,
    utc_offset: Annotated[float | None, typer.Option(help="Hours from UTC of times without a zone; none: this machine's zone.")] = None,
    accuracy: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Of a wall meter by its data sheet, as a share of the reading.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the joules in a recording, or in a log that another program made."""
    from effsim.meters import load
    from effsim.meters.command import ENERGY_COLUMNS, energy_document, energy_rows
    from effsim.meters.logs.rows import LogOptions
    from effsim.units import SECONDS_PER_HOUR

    offset_s = None if utc_offset is None else utc_offset * SECONDS_PER_HOUR
    document = energy_document(load(path, LogOptions(offset_s, period, accuracy)), begin, end)
    if as_json:
        return print_json(document)
    _print_plain(ENERGY_COLUMNS, energy_rows(document))
    for line in (*(one["text"] for one in document["comparisons"]), *document["notes"]):
        print(line)
    return None
