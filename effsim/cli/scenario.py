"""``effsim run``: a scenario, its base beside its what-ifs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from effsim.cli.output import AsJson


def run(
    scenario: Annotated[str, typer.Argument(help="Path to a YAML file, or the name of a shipped scenario.")],
    as_json: AsJson = False,
    output: Annotated[
        Path | None, typer.Option("--output", "--out", "-o", metavar="DIR", help="Write config, summary, requests, time series, trace, plots there.")
    ] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the table as a picture.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N requests.")] = None,
    intervals: Annotated[bool, typer.Option("--intervals/--no-intervals", help="Simulate also the slow and the fast end of the 90 % interval.")] = True,
) -> None:
    """Run a scenario and show its base and its what-ifs side by side, each number with its 90 % interval."""
    from effsim.cli.progress import progress_bar
    from effsim.report import chrome_trace, plots, prometheus
    from effsim.report.table import print_report, save_svg
    from effsim.run import Settings
    from effsim.run import run as run_scenario
    from effsim.run.folder import require_writable

    if svg is not None:
        require_writable(svg, "--svg")
    exports = (chrome_trace.files, prometheus.files, plots.files)
    settings = Settings(output=output, exports=exports, most_legs=chrome_trace.MOST_LEGS, limit=limit, intervals=intervals)
    with progress_bar() as progress:
        report = run_scenario(scenario, progress, settings)
    if svg is not None:
        save_svg(report, svg)
    if as_json:
        print(report.to_json())
    else:
        print_report(report)
    for name, reason in report.metadata.get("not_written", {}).items():
        print(f"effsim: {name} is not written: {reason}", file=sys.stderr)
