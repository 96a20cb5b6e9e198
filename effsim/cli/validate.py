"""``effsim validate``: predictions beside public measurements."""

from pathlib import Path
from typing import Annotated

import typer

from effsim.cli.output import AsJson, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Compare predictions with public measurements.")


@app.callback()
def _group() -> None:
    """Keep ``mlenergy`` a subcommand although it is the only one."""


@app.command()
def mlenergy(path: Annotated[Path, typer.Argument(metavar="CSV", help="Rows of the ML.ENERGY benchmark v3.")], as_json: AsJson = False) -> None:
    """Print the error of ITL, TPOT, power and energy per token by accelerator and model class."""
    from effsim.results import plain
    from effsim.validate.mlenergy import report

    frame = report(path)
    rows = plain(frame)
    if as_json:
        return print_json(rows)
    return print_table(list(frame.columns), [list(row.values()) for row in rows])
