"""``effsim validate``: predictions beside public measurements."""

from pathlib import Path
from typing import Annotated

import typer

from effsim.cli.output import AsJson, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Compare predictions with public measurements.")


@app.callback()
def _group() -> None:
    """Keep the subcommands together."""


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
    """Print the error of step times of published training runs: by source, or by run where one source is asked for."""
    from effsim.results import plain
    from effsim.validate.training import report, skipped, summary

    rows = report(family, calibration, path)
    if as_json:
        return print_json({"summary": plain(summary(rows)), "skipped": plain(skipped(rows)), "rows": plain(rows)})
    if family is not None:
        each = ("record", "measured_step_time_s", "predicted_step_time_s", "error_pct", "low_s", "high_s")
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
    from effsim.validate.training.energy import power_report, reported_trainings

    metered, hours = plain(power_report(calibration, path)), plain(reported_trainings(calibration=calibration, path=path))
    if as_json:
        return print_json({"metered": metered, "reported": hours})
    for rows, columns in (
        (metered, ("record", "measured_node_power_w", "predicted_node_power_w", "power_error_pct", "energy_error_pct", "skipped")),
        (hours, ("record", "reported_accelerator_hours", "implied_accelerator_hours", "error_pct", "goodput", "skipped")),
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
    """Fit coefficients to published training runs, some to calibrate and others to validate, and write them as calibrations."""
    from effsim.calibrate.training_fit import write_calibration
    from effsim.results import plain
    from effsim.validate.training.calibrated import calibrate, calibration_errors

    documents, table = calibrate(path, name or ())
    for key, document in documents.items():
        write_calibration(folder / f"{key}.yaml", document)
    rows = plain(calibration_errors(table))
    if as_json:
        return print_json({"summary": rows, "rows": plain(table)})
    columns = ("calibration", "quantity", "role", "rows", "median_ape_pct", "mape_pct", "median_error_pct")
    return print_table(columns, [tuple(row[column] for column in columns) for row in rows])
