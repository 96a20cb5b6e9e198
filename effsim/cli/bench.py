"""``effsim bench``: microbenchmarks of this machine."""

from pathlib import Path
from typing import Annotated

import typer

from effsim.cli.output import AsJson, print_json, print_table


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="The most telling shapes only, in less than two minutes.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Run file; an interrupted one is continued.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps; the fastest that there is where absent.")] = "auto",
    library: Annotated[str, typer.Option(help="numpy or torch; PyTorch where it is installed.")] = "auto",
    only: Annotated[list[str] | None, typer.Option("--only", metavar="KERNEL", help="May be repeated; see --list.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew over the run file.")] = False,
    power_limit: Annotated[list[float] | None, typer.Option("--power-limit", metavar="W", help="Set this limit for a few kernels; may be repeated.")] = None,
    lock_clock: Annotated[float | None, typer.Option("--lock-clock", metavar="MHz", help="Hold the GPU's clock.")] = None,
    time_limit: Annotated[float | None, typer.Option("--time-limit", metavar="S", help="Of the whole run.")] = None,
    seed: Annotated[int, typer.Option(help="Of the operands.")] = 0,
    list_cases: Annotated[bool, typer.Option("--list", help="Print what would be measured.")] = False,
    show: Annotated[Path | None, typer.Option("--show", metavar="FILE", help="Print a run file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure time and, where there is a meter, energy of the kernels that language models are made of, and write a run file.

    Clocks and power limits are left alone unless --power-limit or --lock-clock asks for a change, which is undone afterwards.
    """
    import signal

    from effsim.bench.__main__ import stop
    from effsim.bench.command import Options, execute, listed
    from effsim.bench.run_file import read_run, to_document
    from effsim.bench.summary import COLUMNS, closing, table

    clock_hz = None if lock_clock is None else lock_clock * 1e6
    limits_w = tuple(power_limit or ())
    options = Options(quick, output, device, library, tuple(only or ()), overwrite, limits_w, clock_hz, time_limit, seed)
    if list_cases:
        keys = listed(options)
        return print_json(keys) if as_json else print("\n".join(keys))
    signal.signal(signal.SIGTERM, stop)
    run, path = (read_run(show), show) if show is not None else execute(options)
    if as_json:
        return print_json(to_document(run))
    print_table(COLUMNS, table(run))
    print(closing(run))
    return None if show is not None else print(f"written: {path}")
