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
def mlenergy(
    path: Annotated[Path, typer.Argument(metavar="CSV", help="Rows of the ML.ENERGY benchmark v3.")],
    calibration: Annotated[str, typer.Option(help="'none': data sheet and priors only; 'auto': the best of the catalog; or a path.")] = "none",
    as_json: AsJson = False,
) -> None:
    """Print the error of ITL, TPOT, power and energy per token by accelerator and model class."""
    from effsim.results import plain
    from effsim.validate.mlenergy import report

    rows = plain(report(path, calibration))
    if as_json:
        return print_json(rows)
    # One line per figure: the groups are few, the figures many.
    names = [" ".join(str(row[part]) for part in ("gpu", "kind")) for row in rows]
    figures = [name for name in rows[0] if name not in {"gpu", "kind"}]
    return print_table(("", *names), [(figure, *(row[figure] for row in rows)) for figure in figures], f"calibration: {calibration}")
