"""``effsim validate``: predictions beside public measurements."""

from pathlib import Path
from typing import Annotated, Any

import typer

from effsim.cli.output import AsJson, print_json, print_table

app = typer.Typer(help="Compare predictions with public measurements.")


def _replay(scenario: Path, end: int) -> Any:
    """Return the run of a scenario file at an end of the interval of time; suites run in processes that import it from here."""
    from effsim.run.serving import simulate_at
    from effsim.specs.scenario import load_scenario

    return simulate_at(load_scenario(scenario), end)


@app.callback(invoke_without_command=True)
def everything(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where report.html, report.md and the plots go.")] = Path("docs/validation"),
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the measurements; none: looked up in EFFSIM_DATA.")] = None,
    suite: Annotated[list[str] | None, typer.Option(help="Only this suite; may be repeated.")] = None,
    calibration: Annotated[str, typer.Option(help="'auto': the best of the catalog; 'none': data sheets and priors only.")] = "auto",
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw predicted against measured; needs matplotlib.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Suites that run at once.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Run all suites and write the report; the subcommands print one comparison each."""
    if context.invoked_subcommand is not None:
        return
    from datetime import UTC, datetime

    from effsim._version import __version__
    from effsim.cli.progress import progress_bar
    from effsim.report.validation import write_report
    from effsim.results import plain
    from effsim.run.folder import require_writable
    from effsim.validate.context import Context
    from effsim.validate.registry import run_suites
    from effsim.validate.summary import section

    if not as_json:
        require_writable(output, "--output")
    with progress_bar() as progress:
        found = run_suites(Context(data, calibration, _replay, progress), suite or (), workers)
        sections = [section(one) for one in found]
        if as_json:
            print_json(plain({one["name"]: {key: value for key, value in one.items() if key != "rows"} for one in sections}))
            return
        stamp = {"version": __version__, "date": datetime.now(tz=UTC).date().isoformat(), "command": "effsim validate"}
        paths = write_report(sections, output, stamp, plots=plots, progress=progress)
    for one in sections:
        whole = one["errors"]
        shown = whole[whole.cell == "all"] if len(whole) and (whole.cell == "all").any() else whole
        columns = ("split", "quantity", "cell", "rows", "median_ape_pct", "mape_pct", "inside_90_pct")
        print_table(columns, [tuple(row[name] for name in columns) for row in plain(shown)], one["title"])
    print(f"written: {', '.join(path.as_posix() for path in paths)}")


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


@app.command()
def training(
    family: Annotated[str | None, typer.Option(help="One source of runs; none: all.")] = None,
    calibration: Annotated[str, typer.Option(help="'none': data sheet and priors only; 'auto': the best of the catalog; or a path.")] = "none",
    path: Annotated[Path | None, typer.Option(help="training_throughput.json or its folder; none: looked up in EFFSIM_DATA.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the error of step times of published training runs: by source and role, or by run where one source is asked for."""
    from effsim.results import plain
    from effsim.validate.training import chosen_cases, family_counts, predictions, role_errors, skipped, summary, with_roles

    rows = with_roles(predictions(chosen_cases(family, path), calibration), chosen_cases(None, path))
    counts, errors = plain(family_counts(rows)), plain(role_errors(rows, ("family", "accelerator", "kind", "configuration")))
    if as_json:
        return print_json({"families": counts, "roles": errors, "summary": plain(summary(rows)), "skipped": plain(skipped(rows)), "rows": plain(rows)})
    if family is not None:
        each = ("record", "role", "measured_step_time_s", "predicted_step_time_s", "error_pct", "low_s", "high_s")
        print_table(each, [tuple(row[name] for name in each) for row in plain(rows[rows.skipped.isna()])], f"calibration: {calibration}")
    columns = (
        "family",
        "accelerator",
        "kind",
        "older_release",
        "records",
        "assumed",
        "does_not_fit",
        "median_ape_pct",
        "mape_pct",
        "median_error_pct",
        "inside_90_pct",
    )
    print_table(columns, [tuple(row[name] for name in columns) for row in plain(summary(rows))], f"calibration: {calibration}")
    for lines, title in ((counts, "records and roles"), (plain(role_errors(rows)) + errors, f"calibration: {calibration}; errors of step times by role")):
        names = list(dict.fromkeys(name for line in (lines[-1], *lines) for name in line))
        print_table(names, [tuple(line.get(name) for name in names) for line in lines], title)
    left = plain(skipped(rows))
    return print_table(("family", "skipped because", "records"), [(row["family"], row["skipped"], row["records"]) for row in left]) if left else None


@app.command()
def power(
    calibration: Annotated[str, typer.Option(help="'none': data sheet and priors only; 'auto': the best of the catalog; or a path.")] = "none",
    path: Annotated[Path | None, typer.Option(help="training_energy.json or its folder; none: looked up in EFFSIM_DATA.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print metered power of nodes and energy per token of MLPerf Training beside predictions, and hours of reported trainings."""
    from effsim.results import plain
    from effsim.validate.training.energy import extrapolated_trainings, power_report, reported_trainings

    metered, hours = plain(power_report(calibration, path)), plain(reported_trainings(calibration=calibration, path=path))
    if path is None or path.is_dir():
        hours += plain(extrapolated_trainings(calibration, path))
    if as_json:
        return print_json({"metered": metered, "reported": hours})
    for rows, columns in (
        (metered, ("record", "measured_node_power_w", "predicted_node_power_w", "power_error_pct", "skipped")),
        (metered, ("record", "measured_energy_per_token_j", "predicted_energy_per_token_j", "energy_error_pct")),
        (hours, ("record", "reported_accelerator_hours", "implied_accelerator_hours", "error_pct", "mfu", "goodput", "skipped")),
        (hours, ("record", "basis")),
    ):
        print_table(columns, [tuple(row[name] for name in columns) for row in rows], f"calibration: {calibration}")
    return None


@app.command("training-fit")
def training_fit(
    folder: Annotated[Path, typer.Argument(help="Where the calibration files go, one per accelerator and engine.")],
    name: Annotated[list[str] | None, typer.Option(help="Only this calibration, such as gb200_megatron; may be repeated.")] = None,
    path: Annotated[Path | None, typer.Option(help="Folder of the reference files; none: looked up in EFFSIM_DATA.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit coefficients to published training runs, some to calibrate and others to validate, and write them as calibrations.

    What calibrations of several accelerators under one engine have in common is written as the prior of that engine for others of the class.
    """
    from effsim.calibrate.training_fit import write_calibration
    from effsim.results import plain
    from effsim.validate.training.calibrated import calibrate, calibration_errors, engine_priors

    documents, table = calibrate(path, name or ())
    for key, document in documents.items():
        write_calibration(folder / f"{key}.yaml", document)
    for key, document in engine_priors(folder).items():
        write_calibration(folder / f"{key}.yaml", document)
    rows = plain(calibration_errors(table))
    if as_json:
        return print_json({"summary": rows, "rows": plain(table)})
    columns = ("calibration", "quantity", "role", "rows", "median_ape_pct", "mape_pct", "median_error_pct")
    return print_table(columns, [tuple(row[column] for column in columns) for row in rows])
