"""``python -m effsim.bench``: the same as ``effsim bench``, on a machine that has little more than Python and NumPy."""

import argparse
import signal
import sys
from pathlib import Path
from typing import NoReturn

from effsim.bench.case import NAMES
from effsim.bench.command import LIBRARIES, Options, execute, listed
from effsim.bench.run_file import Run, read_run
from effsim.bench.summary import COLUMNS, closing, plain_table, table
from effsim.errors import EffSimError

BAD_INPUT, INTERRUPTED = 2, 130


def parser() -> argparse.ArgumentParser:
    """Return the options, named as those of ``effsim bench``."""
    made = argparse.ArgumentParser(prog="python -m effsim.bench", description="Measure time and energy of the kernels of language models on this machine.")
    made.add_argument("--quick", action="store_true", help="the most telling shapes only, in less than two minutes")
    made.add_argument("--output", "-o", type=Path, metavar="FILE", help="run file; an interrupted one is continued")
    made.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps")
    made.add_argument("--library", default="auto", choices=LIBRARIES)
    made.add_argument("--only", action="append", default=[], metavar="KERNEL", help=f"may be repeated: {', '.join(NAMES)}")
    made.add_argument("--overwrite", action="store_true", help="begin anew over the run file")
    made.add_argument("--power-limit", action="append", default=[], type=float, metavar="W", help="set this limit for a few kernels; may be repeated")
    made.add_argument("--lock-clock", type=float, metavar="MHz", help="hold the GPU's clock")
    made.add_argument("--time-limit", type=float, metavar="S", help="of the whole run")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--list", action="store_true", help="print what would be measured")
    made.add_argument("--show", type=Path, metavar="FILE", help="print a run file")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = parser().parse_args(arguments)
    options = Options(
        quick=given.quick,
        output=given.output,
        device=given.device,
        library=given.library,
        only=tuple(given.only),
        overwrite=given.overwrite,
        power_limits_w=tuple(given.power_limit),
        lock_clock_hz=None if given.lock_clock is None else given.lock_clock * 1e6,
        limit_s=given.time_limit,
        seed=given.seed,
    )
    signal.signal(signal.SIGTERM, stop)
    try:
        if given.list:
            print("\n".join(listed(options)))
        elif given.show is not None:
            show(read_run(given.show))
        else:
            run, path = execute(options)
            show(run)
            print(f"written: {path}")
    except EffSimError as error:
        print(f"effsim: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("effsim: interrupted; the same command continues the run", file=sys.stderr)
        return INTERRUPTED
    return 0


def stop(number: int, frame: object) -> NoReturn:
    """Treat a request to end like Ctrl-C: the run file is closed in order."""
    del number, frame
    raise KeyboardInterrupt


def show(run: Run) -> None:
    """Print a run."""
    print(plain_table(COLUMNS, table(run)))
    print(closing(run))


if __name__ == "__main__":
    sys.exit(main())
