"""The command line: each command is a few lines over the library.

Heavy modules (NumPy, pandas, pydantic, the cost model) are imported inside the commands that need them, so that
``effsim --help`` and completion answer at once.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from effsim._version import __version__
from effsim.cli import estimate, optimize, scenario, specs, validate
from effsim.errors import EffSimError

BAD_INPUT = 2
INTERRUPTED = 130


class _Group(TyperGroup):
    """Turns what a user caused into one line on stderr; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EffSimError as error:
            print(f"effsim: {' '.join(str(error).split())}", file=sys.stderr)
            raise typer.Exit(BAD_INPUT) from None
        except KeyboardInterrupt:
            print("effsim: interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Time, power, energy, carbon and cost of training and serving language models, before anything is bought or run.",
)
app.add_typer(estimate.app, name="estimate")
app.command("run")(scenario.run)
app.add_typer(specs.app, name="specs")
app.add_typer(optimize.app, name="optimize")
app.add_typer(validate.app, name="validate")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"effsim {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    specs_folder: Annotated[
        Path | None,
        typer.Option("--specs", metavar="DIR", exists=True, file_okay=False, help="Your own folder of accelerators/, models/ ...; wins over what is shipped."),
    ] = None,
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")] = False,
) -> None:
    if specs_folder is not None:
        from effsim.catalog import SPECS_VARIABLE

        os.environ[SPECS_VARIABLE] = os.pathsep.join(filter(None, (str(specs_folder.resolve()), os.environ.get(SPECS_VARIABLE))))


def main() -> None:
    """Run the command line."""
    app()
