"""What the command line does with meters, in words of the standard library; :mod:`effsim.cli.meters` adds Rich and Typer to it."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from effsim.errors import EffSimError
from effsim.meters.base import Meter
from effsim.meters.logs import load
from effsim.meters.logs.rows import LogOptions
from effsim.meters.measurement import as_dict, compared
from effsim.meters.record import PERIOD_S, WATCH_COLUMNS, record, watched
from effsim.meters.recording import Recording
from effsim.meters.registry import names, open_meters
from effsim.meters.survey import COLUMNS, LOOK_S, cells, plain_table, survey

BAD_INPUT = 2
ENERGY_COLUMNS = ("channel", "scope", "time (s)", "energy (J)", "90 % interval (J)", "power (W)", "what to know")


@contextlib.contextmanager
def opened(chosen: Sequence[str] = ()) -> Iterator[tuple[Meter, ...]]:
    """Open meters for a block and close them after it."""
    meters = open_meters(chosen)
    try:
        yield meters
    finally:
        for meter in meters:
            meter.close()


def energy_document(recording: Recording, begin_s: float | None = None, end_s: float | None = None) -> dict[str, Any]:
    """Return the energy of each channel of a recording and how the channels compare, as plain values.

    Args:
        recording: What was recorded.
        begin_s: After the first reading; none: from it.
        end_s: Likewise; none: to the last.
    """
    start_s, stop_s = (None if given is None else recording.begin_s + given for given in (begin_s, end_s))
    energies = recording.energies(start_s, stop_s)
    comparisons = compared(sorted(energies, key=lambda energy: next(one.preference for one in recording.channels if one.name == energy.channel)))
    return {
        "source": recording.source,
        "epoch_s": recording.epoch_s,
        "begin_s": recording.begin_s,
        "end_s": recording.end_s,
        "notes": list(recording.notes),
        "channels": [as_dict(energy) for energy in energies],
        "comparisons": [{"device": one.device, "difference_ratio": one.difference_ratio, "disagree": one.disagree, "text": str(one)} for one in comparisons],
    }


def energy_rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the channels of :func:`energy_document` as a table for people shows them; what is absent is blank."""
    return [
        (
            energy["channel"],
            energy["scope"],
            f"{energy['time_s']:.4g}",
            _shown(energy["value_j"]),
            "" if energy["low_j"] is None else f"{_shown(energy['low_j'])} to {_shown(energy['high_j'])}",
            _shown(energy["power_w"]),
            "; ".join(filter(None, (energy["reason"], *energy["flags"]))),
        )
        for energy in document["channels"]
    ]


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m effsim.meters`` and return its exit code; bad input is one line on stderr and code 2."""
    given = _parser().parse_args(arguments)
    try:
        return int(given.act(given) or 0)
    except EffSimError as error:
        sys.stderr.write(f"effsim: {' '.join(str(error).split())}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        return 0 if given.act is _watch else 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m effsim.meters", description="Meters of this machine: what they read, how often, and what is in the way.")
    parser.add_argument("--meter", action="append", default=[], metavar="NAME", help=f"only this one, may be repeated: {', '.join(names())}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--look", type=float, default=LOOK_S, metavar="S", help="seconds to watch each meter for")
    parser.add_argument("--watch", action="store_true", help="print energy and power once a second until interrupted")
    parser.set_defaults(act=_show)
    actions = parser.add_subparsers(title="further")
    keeping = actions.add_parser("record", help="record all counters to a file")
    keeping.add_argument("path", type=Path, metavar="FILE")
    keeping.add_argument("--duration", type=float, metavar="S", help="seconds; none: until interrupted")
    keeping.add_argument("--period", type=float, default=PERIOD_S, metavar="S", help="seconds between two looks")
    keeping.set_defaults(act=_record)
    summing = actions.add_parser("energy", help="joules in a recording or a log of another program")
    summing.add_argument("path", type=Path, metavar="FILE")
    summing.add_argument("--begin", type=float, metavar="S", help="seconds after its first reading")
    summing.add_argument("--end", type=float, metavar="S", help="likewise")
    summing.add_argument("--period", type=float, metavar="S", help="between rows that carry no time")
    summing.add_argument("--json", action="store_true")
    summing.set_defaults(act=_energy)
    return parser


def _show(given: argparse.Namespace) -> None:
    if given.watch:
        return _watch(given)
    with opened(given.meter) as meters:
        rows = survey(meters, given.look)
    text = json.dumps([row.to_dict() for row in rows], indent=2, allow_nan=False) if given.json else plain_table(COLUMNS, map(cells, rows))
    sys.stdout.write(f"{text}\n")
    return None


def _watch(given: argparse.Namespace) -> None:
    with contextlib.suppress(KeyboardInterrupt), opened(given.meter) as meters:
        for rows in watched(meters):
            sys.stdout.write(f"{plain_table(WATCH_COLUMNS, rows)}\n\n")
            sys.stdout.flush()


def _record(given: argparse.Namespace) -> None:
    with opened(given.meter) as meters:
        kept = record(given.path, meters, given.duration, given.period)
    sys.stdout.write(f"{kept} readings in {given.path}\n")


def _energy(given: argparse.Namespace) -> None:
    document = energy_document(load(given.path, LogOptions(period_s=given.period)), given.begin, given.end)
    if given.json:
        sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
        return
    sys.stdout.write(plain_table(ENERGY_COLUMNS, energy_rows(document)) + "\n")
    sys.stdout.writelines(f"{line}\n" for line in (*(one["text"] for one in document["comparisons"]), *document["notes"]))
