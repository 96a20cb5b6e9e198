"""Runs of variants in processes of their own: results in the order asked for, progress, and an end when the user says so."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from typing import Any, Final, NamedTuple

from effsim.errors import EffSimError
from effsim.run.outcome import Outcome, evaluate
from effsim.run.serving import Keep
from effsim.specs.scenario import Scenario

POLL_S: Final = 0.2
Progress = Callable[[str, float], None]
_shared: dict[str, Any] = {}
"""In a worker: the shares done of all jobs, and the event that says to stop."""


class Job(NamedTuple):
    """One run: the variant's name, its scenario, which end of the interval of time, and what is to be kept beside the values."""

    name: str
    scenario: Scenario
    end: int
    keep: Keep | None = None


class _Stopped(Exception):  # noqa: N818 -- no error: the user has interrupted the run
    """Ends a worker's run."""


def run_jobs(jobs: Sequence[Job], workers: int | None, progress: Progress | None) -> list[Outcome]:
    """Return the outcome of each job, in their order; the number of processes does not change any.

    Raises:
        SpecError: As the first failing job raises it, with the variant's name.
    """
    count = min(len(jobs), workers or os.cpu_count() or 1)
    if count == 1:
        return [_in_place(jobs, index, progress) for index in range(len(jobs))]
    # Not fork: the progress bar runs in a thread, and a forked child would inherit its locks.
    context = multiprocessing.get_context("spawn")
    shares, stop = context.Array("d", len(jobs), lock=False), context.Event()
    pool = ProcessPoolExecutor(count, context, _start, (shares, stop))
    try:
        futures = [pool.submit(_in_worker, job, index) for index, job in enumerate(jobs)]
        _watch(futures, shares, jobs, progress)
        return [future.result() for future in futures]
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _watch(futures: Sequence[Future[Outcome]], shares: Any, jobs: Sequence[Job], progress: Progress | None) -> None:
    """Report progress until all is done or one has failed; then raise the first failure in the order of the jobs."""
    open_futures: Any = set(futures)
    while open_futures:
        done, open_futures = wait(open_futures, timeout=POLL_S, return_when=FIRST_EXCEPTION)
        if progress is not None:
            under_way = [job.name for job, share, future in zip(jobs, shares, futures, strict=True) if share > 0.0 and not future.done()]
            progress(", ".join(dict.fromkeys(under_way)) or "starting", sum(shares) / len(jobs))
        for future in done:
            future.result()


def _start(shares: Any, stop: Any) -> None:
    """Set up a worker: Ctrl-C reaches it through ``stop``, from the process that the user sees."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _shared.update(shares=shares, stop=stop)


def _in_worker(job: Job, index: int) -> Outcome:
    def report(done: int, total: int) -> None:
        if _shared["stop"].is_set():
            raise _Stopped
        _shared["shares"][index] = max(done / total, 1e-9)

    _shared["shares"][index] = 1e-9
    outcome = _run(job, report)
    _shared["shares"][index] = 1.0
    return outcome


def _in_place(jobs: Sequence[Job], index: int, progress: Progress | None) -> Outcome:
    job = jobs[index]

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(job.name, (index + done / total) / len(jobs))

    report(0, 1)
    outcome = _run(job, report)
    report(1, 1)
    return outcome


def _run(job: Job, report: Callable[[int, int], None]) -> Outcome:
    try:
        return evaluate(job.scenario, job.end, report, job.keep)
    except EffSimError as error:
        # A plain message travels between processes; the classes with more arguments do not.
        raise EffSimError(str(error) if job.name == "base" else f"what-if {job.name!r}: {error}") from None
