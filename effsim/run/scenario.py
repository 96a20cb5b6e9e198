"""A scenario's base beside its what-ifs: every variant under the same requests, at the median and at the ends of what is not known."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from effsim._version import __version__
from effsim.results import ScenarioReport, Variant, weakest
from effsim.run.folder import REQUESTS_PARQUET, Export, require_writable, write_folder
from effsim.run.machines import resolve_node
from effsim.run.metrics import Ends, Words, differences, labels, quantities
from effsim.run.names import check_names, engine_of
from effsim.run.outcome import Outcome
from effsim.run.pool import Job, run_jobs
from effsim.run.serving import Keep, limited
from effsim.specs import loading
from effsim.specs.model import Mlp
from effsim.specs.models import model
from effsim.specs.scenario import Scenario, load_scenario, variants
from effsim.specs.site import Site
from effsim.units import JOULES_PER_KWH

Progress = Callable[[str, float], None]
MEDIAN, FAST, SLOW = 0, -1, 1
HANDY: Final = {"phone", "edge", "apple_silicon", "workstation_gpu", "cpu"}
"""Classes of accelerators of which one makes a device, not a server."""


class Settings(NamedTuple):
    """How a scenario is run.

    Args:
        output: Folder for the resolved scenario, summary, requests, time series and metadata of the base.
        exports: What else is written there of a serving run.
        most_legs: Legs of replicas that an export may show.
        limit: Only the first requests.
        intervals: Simulate also the fast and the slow end of the interval of time.
        workers: Processes; None: one per core.
    """

    output: Path | None = None
    exports: tuple[Export, ...] = ()
    most_legs: int = 0
    limit: int | None = None
    intervals: bool = True
    workers: int | None = None


def run(scenario: str | Path | dict[str, Any] | Scenario, progress: Progress | None = None, settings: Settings | None = None) -> ScenarioReport:
    """Return a scenario's base beside its what-ifs.

    All variants see the same requests. Variants run in processes of their own, so a script that calls this needs the usual
    ``if __name__ == "__main__":``, or one worker.

    Args:
        scenario: Name of a shipped scenario, path, dict, or Scenario.
        progress: Called with what is being done and the share that is done.
        settings: See :class:`Settings`.

    Raises:
        SpecError: The scenario or a what-if is malformed. A variant that cannot run is reported, not raised.
    """
    settings = settings or Settings()
    whole = limited(load_scenario(scenario), settings.limit)
    named = variants(whole)
    check_names(whole, named)
    if settings.output is not None:
        require_writable(settings.output, "--output")
    ends = (MEDIAN, FAST, SLOW) if settings.intervals and whole.kind == "serving" else (MEDIAN,)
    keep = None if settings.output is None else Keep(settings.most_legs, settings.output / REQUESTS_PARQUET)
    jobs = [Job(name, variant, end, keep if not place and end == MEDIAN else None) for place, (name, variant) in enumerate(named) for end in ends]
    outcomes = run_jobs(jobs, settings.workers, progress)
    runs = [outcomes[index * len(ends) : (index + 1) * len(ends)] for index in range(len(named))]
    columns = [_column(whole, index, runs, settings) for index in range(len(named))]
    base = outcomes[0]
    report = ScenarioReport(
        name=whole.name,
        kind=whole.kind,
        variants=tuple(columns),
        labels=labels({key for column in columns for key in column.metrics}, words_of(whole)),
        summary=base.summary,
        metadata=_metadata(whole, base, outcomes),
    )
    if settings.output is not None:
        report = write_folder(settings.output, whole, report, base, settings.exports)
    return report


def _column(whole: Scenario, index: int, runs: Sequence[Sequence[Outcome]], settings: Settings) -> Variant:
    """Return a column from the runs of each variant, the median first."""
    name = "base" if index == 0 else whole.what_if[index - 1].name
    changes = {} if index == 0 else dict(whole.what_if[index - 1].set)
    median, base = runs[index][0], runs[0][0]
    if median.infeasible is not None:
        return Variant(name, {}, changes, infeasible=median.infeasible)
    ends = _ends(runs[index]) if settings.intervals else {}
    apart = differences(median.values, ends, base.values, _ends(runs[0])) if index and ends else {}
    return Variant(name, quantities(median.values, ends, median.provenance, words_of(whole)), changes, notes=median.notes, difference_intervals=apart)


def words_of(scenario: Scenario) -> Words:
    """Return what a scenario calls its machines and what they process."""
    single = True
    for machines in scenario.fleet:
        accelerator = loading.accelerator(machines.accelerator)
        single &= accelerator.device_class in HANDY and resolve_node(machines, accelerator).accelerators_per_node == 1
    groups = (scenario.name, *(job.name for job in scenario.jobs)) if scenario.jobs else ()
    return Words(device=single, samples=isinstance(model(scenario.model), Mlp), jobs=groups)


def _ends(runs: Sequence[Outcome]) -> Ends:
    """Return the ends of each cause: those of time from the fast and the slow run, the others from the median's."""
    median, *others = runs
    return {**({"time": (others[0].values, others[1].values)} if others else {}), **median.ends}


def _metadata(whole: Scenario, base: Outcome, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    feasible = [outcome.provenance for outcome in outcomes if outcome.infeasible is None]
    provenance = weakest(feasible) if feasible else None
    return {
        "question": whole.question,
        "workload": _workload_words(whole, base),
        "engine": _engine_words(whole),
        "provenance": None if provenance is None else f"{provenance} (calibration: {whole.calibration}); intervals hold 90 %",
        "site": None if whole.site is None else _site_words(loading.site(whole.site)),
        "seed": whole.seed,
        "calibration": whole.calibration,
        "effsim": __version__,
    }


def _site_words(site: Site) -> str:
    grams = site.carbon_intensity.value * JOULES_PER_KWH * 1e3
    price = site.electricity_price.value * JOULES_PER_KWH
    return f"{site.place}: {grams:.0f} g CO2e/kWh, {price:.3f} USD/kWh, PUE {site.pue.value:.2f}"


def _workload_words(whole: Scenario, base: Outcome) -> str | None:
    if whole.training is not None and words_of(whole).samples:
        return f"global batch {whole.training.global_batch_size} samples"
    if whole.training is not None:
        return f"global batch {whole.training.global_batch_size} x {whole.training.sequence_length} tokens"
    assumed = base.summary.get("assumptions")
    if not assumed:
        return None
    requests = base.summary["requests"]["arrived"]
    return "; ".join([f"{requests:,} requests, {assumed['trace_origin']}", *assumed["trace_notes"]])


def _engine_words(whole: Scenario) -> str:
    engine = engine_of(whole)
    return f"{engine.name}, imitating {engine.version}"
