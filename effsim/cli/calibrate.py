"""``effsim calibrate``: measurements to calibration files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from effsim.cli.output import AsJson, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Fit the cost model's coefficients to measurements, with their uncertainty.")


@app.command()
def serving(
    runs: Annotated[Path, typer.Argument(help="CSV of the ML.ENERGY benchmark (steady state).")],
    accelerator: Annotated[str, typer.Option(help="As the file names it: H100, B200.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Calibration file to write, such as h100_sxm_vllm.yaml.")],
) -> None:
    """Fit to steady-state serving runs; what the fit does not explain is taken from models left out."""
    from effsim.calibrate.training_fit import write_calibration
    from effsim.cli.progress import progress_bar
    from effsim.validate import serving_fit

    with progress_bar() as step:
        found = serving_fit.document(runs, accelerator, step)
    write_calibration(out, found)
    print(f"{out}: {found['note']}")


@app.command()
def kernels(
    tables: Annotated[str, typer.Argument(help="Folder of kernel tables of one system, or the name of a system of the installed aiconfigurator-core.")],
    accelerator: Annotated[str, typer.Option(help="Catalog key, such as h200_sxm.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Calibration file to write, such as h200_sxm_vllm_kernels.yaml.")],
) -> None:
    """Fit to measured kernels: latencies, and power where the tables have it."""
    from effsim.calibrate import kernel_fit, kernel_tables
    from effsim.calibrate.training_fit import write_calibration
    from effsim.cost.deployment import fabric_of
    from effsim.specs import loading
    from effsim.validate.serving_fit import start_of

    folder = Path(tables) if Path(tables).is_dir() or "/" in tables else kernel_tables.installed(tables)
    acc = loading.accelerator(accelerator)
    node = loading.node(acc.default_node) if acc.default_node else None
    found = kernel_tables.read(folder)
    measured = [one for table in found.values() for one in kernel_fit.lowered(table, acc, fabric_of(acc, node))]
    fitted, errors = kernel_fit.fit(measured, start_of(acc.name, kernels=False))
    document = kernel_fit.calibration_document(fitted, errors, out.stem, acc, found)
    write_calibration(out, document)
    print(f"{out}: {document['note']}")


Model = Annotated[str | None, typer.Option(help="Catalog key, Hugging Face id or path to a config.json.")]
Ranks = Annotated[int, typer.Option(min=1, help="Ranks that split each layer.")]
Experts = Annotated[int, typer.Option(min=1, help="Groups over which experts are spread.")]
Replicas = Annotated[int, typer.Option(min=1, help="Replicas of the attention.")]
Precision = Annotated[str | None, typer.Option(help="Of the weights; none: the model's own.")]
Budget = Annotated[int | None, typer.Option(min=1, help="Tokens per iteration; none: the engine's default.")]
From = Annotated[str | None, typer.Option("--from", metavar="CALIBRATION", help="Go on from this calibration: a name of the catalog or a file.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Calibration file to write; its name without .yaml is the calibration's.")]


@app.command("run")
def run_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Run files of `effsim bench`, of one device.")],
    out: Out,
    accelerator: Annotated[str | None, typer.Option(help="What was measured: catalog key or YAML file; none: by the driver's name.")] = None,
    engine: Annotated[str | None, typer.Option(help="Whose kernels it shall stand for; none: vllm where known on the device class.")] = None,
    start: From = None,
    logs: Annotated[list[Path] | None, typer.Option("--with", metavar="LOG", help="Serving log to fit as well, with --model; may be repeated.")] = None,
    model: Model = None,
    tp: Ranks = 1,
    ep: Experts = 1,
    dp: Replicas = 1,
    precision: Precision = None,
    max_num_batched_tokens: Budget = None,
    as_json: AsJson = False,
) -> None:
    """Fit to microbenchmarks of this or another machine, and to serving logs besides."""
    from effsim.calibrate import run_file
    from effsim.calibrate.combined import joined, story
    from effsim.calibrate.training_fit import write_calibration
    from effsim.errors import SpecError
    from effsim.specs import loading

    if logs and model is None:
        raise SpecError("--with: say with --model what the logs are of")
    given = run_file.read_files(files)
    measured = run_file.accelerator_of(given, accelerator)
    used = run_file.engine_of(measured, engine or (run_file.USUAL_ENGINE if logs else None))
    prior, layers = run_file.start_of(measured, used, start)
    document = run_file.calibration_document(run_file.fit(given, measured, prior), out.stem, measured, layers, given, used)
    if logs:
        found, _ = _fitted_logs(logs, (model, measured), (tp, ep, dp), (precision, used, document), (out.stem, max_num_batched_tokens))
        document = joined(document, found.document)
    write_calibration(out, document)
    told = story(loading.calibration(document))
    return print_json({"file": str(out), **told}) if as_json else _tell(told, f"written: {out}")


def _fitted_logs(files: list[Path], of: tuple[Any, Any], split: tuple[int, int, int], how: tuple[Any, ...], named: tuple[str, int | None]) -> tuple[Any, Any]:
    """Return the fit to logs, with its files in the account, and the deployment.

    Args:
        files: Logs.
        of: Model and accelerator.
        split: Tensor, expert and data ranks.
        how: Precision, engine and calibration to start from.
        named: Name of the calibration, and tokens per iteration.
    """
    from datetime import UTC, datetime

    from effsim.calibrate.logs import read_logs
    from effsim.calibrate.logs_fit import fit_logs
    from effsim.calibrate.run_file import sha256_of
    from effsim.cost.deployment import Settings, deploy
    from effsim.workload.operations import Parallelism

    precision, engine, calibration = how
    settings = Settings(precision=precision, engine=engine, calibration=calibration)
    deployment = deploy(*of, Parallelism(tensor=split[0], expert=split[1], data=split[2]), settings)
    date = datetime.now(tz=UTC).date().isoformat()
    found = fit_logs(read_logs(files), deployment, named[0], date, named[1])
    device = deployment.accelerator.name
    found.document["account"]["files"] = [{"name": path.name, "sha256": sha256_of(path), "date": date, "device": device} for path in files]
    return found, deployment


@app.command()
def logs(
    files: Annotated[list[Path], typer.Argument(help="Logs of vLLM bench, AIPerf, GuideLLM or ML.ENERGY, or a plain CSV; recognised by their content.")],
    accelerator: Annotated[str, typer.Option(help="Catalog key, such as h100_sxm.")],
    model: Annotated[str, typer.Option(help="Catalog key, Hugging Face id or path to a config.json.")],
    out: Out,
    tp: Ranks = 1,
    ep: Experts = 1,
    dp: Replicas = 1,
    engine: Annotated[str, typer.Option(help="What served.")] = "vllm",
    precision: Precision = None,
    max_num_batched_tokens: Budget = None,
    start: From = None,
    as_json: AsJson = False,
) -> None:
    """Fit to logs of one deployment, starting from the best calibration of the catalog."""
    from effsim.calibrate.training_fit import write_calibration
    from effsim.results import plain

    found, _ = _fitted_logs(files, (model, accelerator), (tp, ep, dp), (precision, engine, start or "auto"), (out.stem, max_num_batched_tokens))
    write_calibration(out, found.document)
    rows = plain(found.table)
    if as_json:
        return print_json({"file": str(out), "loads": rows, "left_out": plain(found.left_out)})
    print_table(tuple(rows[0]), [tuple(row.values()) for row in rows], f"{out}: {found.document['note']}")
    return print_table(("left out", "because"), found.left_out) if found.left_out else None


@app.command()
def show(
    calibration: Annotated[str, typer.Argument(metavar="FILE", help="Calibration file, or a name of the catalog.")],
    as_json: AsJson = False,
) -> None:
    """Print what a calibration changed, how well it fits and what it covers."""
    from effsim.calibrate.combined import story
    from effsim.specs import loading

    told = story(loading.calibration(calibration))
    return print_json(told) if as_json else _tell(told)


def _tell(told: dict[str, Any], closing: str = "") -> None:
    """Print a calibration's story: parameters, worst residuals, checks, region and provenance."""
    columns = ("coefficient", "unit", "prior", "sd of log", "posterior", "sd of log", "sd less by")
    keys = ("name", "unit", "prior", "prior_log_sd", "value", "log_sd")
    shrunk = ["" if one["shrinkage"] is None else f"{one['shrinkage']:.0%}" for one in told["parameters"]]
    title = f"{told['name']}: {told['accelerator'] or 'a class of accelerators'}, {told['engine'] or 'any engine'}"
    print_table(columns, [(*(one[key] for key in keys), less) for one, less in zip(told["parameters"], shrunk, strict=True)], title)
    for name, rows in (("worst residuals", told["worst_residuals"]), ("rows not fitted, predicted", told["checks"])):
        if rows:
            print_table((name, "", "measured", "", "error"), [(*list(row.values())[:4], f"{row['error_ratio']:+.1%}") for row in rows])
    covers = "; ".join(f"{key}: {', '.join(values) or 'none'}" for key, values in told["covers"].items())
    print(f"covers {covers or 'all that its accelerator and engine run'}; outside, intervals are wider and the provenance says transferred")
    if told["rows"] is not None:
        counts = told["rows"]
        print(f"rows used: {counts['used']}; of these with less weight: {counts['throttled']} throttled, {counts['wide']} with a wide interval")
        print("".join(f"not used: {count} ({reason})\n" for reason, count in counts["not_used"].items()), end="")
        print(f"left at the prior: {', '.join(told['unidentified']) or 'none'}")
    for one in told["files"]:
        print(f"from {one['name']} of {one['date'][:10]}: {one['device']}, sha256 {one['sha256'][:12]}")
    note = (told["note"] or "").split(" At their prior: ")[0]
    print("\n".join(filter(None, (note, *told["remarks"], closing))))
