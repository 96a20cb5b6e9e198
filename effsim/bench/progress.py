"""Progress with the time left: a Rich bar, a plain line without Rich, nothing where a program reads."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from effsim.bench.machine import installed
from effsim.bench.runner import Step, Watcher

WIDTH = 100


@contextmanager
def watching() -> Iterator[Watcher | None]:
    """Give a function that shows steps, or ``None`` where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
    elif installed("rich"):
        yield from _bar()
    else:
        yield _line
        sys.stderr.write(f"\r{'':{WIDTH}}\r")


def _bar() -> Iterator[Watcher]:
    progress, console = import_module("rich.progress"), import_module("rich.console").Console(stderr=True)
    columns = (progress.BarColumn(), progress.MofNCompleteColumn(), progress.TextColumn("{task.fields[left]} left"), progress.TextColumn("{task.description}"))
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None, left="")
        yield lambda step: bar.update(task, description=step.case, completed=step.done, total=step.total, left=clock(step.left_s))


def _line(step: Step) -> None:
    text = f"{step.done}/{step.total}  {clock(step.left_s)} left  {step.case}"
    sys.stderr.write(f"\r{text[:WIDTH]:{WIDTH}}")
    sys.stderr.flush()


def clock(time_s: float) -> str:
    """Return minutes and seconds.

    >>> clock(83.0)
    '1:23'
    """
    return f"{int(time_s) // 60}:{int(time_s) % 60:02d}"
