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
from effsim.cli import bench, calibrate, capacity, convert, estimate, experiment, meters, optimize, scenario, specs, validate
from effsim.errors import EffSimError

BAD_INPUT = 2
INTERRUPTED = 130


USAGE_ERROR: Any = typer.BadParameter.__base__
"""What option parsing raises; typer brings its own click or uses the installed one."""


def _refuse(message: str) -> typer.Exit:
    print(f"effsim: {' '.join(message.split())}", file=sys.stderr)
    return typer.Exit(BAD_INPUT)


class _Group(TyperGroup):
    """Turns what a user caused into one line on stderr; a bug keeps its traceback."""

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        try:
            return super().make_context(*arguments, **settings)
        except USAGE_ERROR as error:
            raise _usage(error) from None

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EffSimError as error:
            raise _refuse(str(error)) from None
        except USAGE_ERROR as error:
            raise _usage(error) from None
        except KeyboardInterrupt:
            print("effsim: interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


def _usage(error: Any) -> Any:
    """Return the end of the program for a mistake in its options; a command without any shows its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return error
    said = error.format_message().replace("Value error, ", "").replace("Input should be ", "expected ").rstrip(".")
    return _refuse(f"{said}; see `{error.ctx.command_path} --help`" if error.ctx is not None else said)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Time, power, energy, carbon and cost of training and serving language models, before anything is bought or run.",
)
app.add_typer(estimate.app, name="estimate")
app.command("run")(scenario.run)
app.command("capacity")(capacity.capacity)
app.add_typer(specs.app, name="specs")
app.add_typer(optimize.app, name="optimize")
app.add_typer(meters.app, name="meters")
app.add_typer(calibrate.app, name="calibrate")
app.add_typer(validate.app, name="validate")
app.command("bench")(bench.bench)
app.command("convert")(convert.convert)
app.add_typer(experiment.app, name="experiment")


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
