"""From the folder ``validate/suites`` to what its suites find."""

import importlib
import pkgutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from types import ModuleType

from effsim.catalog import suggest
from effsim.errors import SpecError, UnknownNameError
from effsim.validate import suites
from effsim.validate.comparison import Skipped, SuiteResult
from effsim.validate.context import Context


def names() -> tuple[str, ...]:
    """Return the suites in the order of the report.

    >>> "mlenergy" in names()
    True
    """
    files = [module.name for module in pkgutil.iter_modules(suites.__path__)]
    return tuple(sorted(files, key=lambda name: (_module(name).ORDER, name)))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{suites.__name__}.{name}")


def run_suites(context: Context, chosen: Sequence[str] = (), workers: int = 2) -> list[SuiteResult]:
    """Return what each suite finds; one whose measurements are not there is there too, with the reason.

    Args:
        context: Data, calibration and what suites need of other layers.
        chosen: Names; empty: all.
        workers: Processes; a script that calls this needs the usual ``if __name__ == "__main__":``.

    Raises:
        UnknownNameError: No such suite.
    """
    known = names()
    strange = next((name for name in chosen if name not in known), None)
    if strange is not None:
        raise UnknownNameError(f"suite: unknown {strange!r}; {suggest(strange, known)}allowed: {', '.join(known)}")
    wanted = [name for name in known if not chosen or name in chosen]
    quiet, found = replace(context, progress=None), dict[str, SuiteResult]()
    with ProcessPoolExecutor(max(1, min(workers, len(wanted))), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_run, name, quiet): name for name in wanted}
        try:
            for future in as_completed(futures):
                found[futures[future]] = future.result()
                if context.progress is not None:
                    context.progress(f"{len(found)} of {len(wanted)} suites", len(found) / len(wanted))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [found[name] for name in wanted]


def _run(name: str, context: Context) -> SuiteResult:
    module = _module(name)
    try:
        result: SuiteResult = module.run(context)
    except SpecError as error:
        return SuiteResult(name, module.TITLE, module.SOURCE, "not run", (), (Skipped(name, "all", str(error)),))
    return result
