"""``effsim calibrate``: measurements to calibration files."""

from pathlib import Path
from typing import Annotated

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


@app.command()
def logs(
    files: Annotated[list[Path], typer.Argument(help="Logs of vLLM bench, AIPerf, GuideLLM or ML.ENERGY, or a plain CSV; recognised by their content.")],
    accelerator: Annotated[str, typer.Option(help="Catalog key, such as h100_sxm.")],
    model: Annotated[str, typer.Option(help="Catalog key, Hugging Face id or path to a config.json.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Calibration file to write; its name without .yaml is the calibration's.")],
    tp: Annotated[int, typer.Option(min=1, help="Ranks that split each layer.")] = 1,
    ep: Annotated[int, typer.Option(min=1, help="Groups over which experts are spread.")] = 1,
    dp: Annotated[int, typer.Option(min=1, help="Replicas of the attention.")] = 1,
    engine: Annotated[str, typer.Option(help="What served.")] = "vllm",
    precision: Annotated[str | None, typer.Option(help="Of the weights; none: the model's own.")] = None,
    max_num_batched_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens per iteration; none: the engine's default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit to logs of one deployment, starting from the best calibration of the catalog."""
    from datetime import UTC, datetime

    from effsim.calibrate.logs import read_logs
    from effsim.calibrate.logs_fit import fit_logs
    from effsim.calibrate.training_fit import write_calibration
    from effsim.cost.deployment import Settings, deploy
    from effsim.results import plain
    from effsim.workload.operations import Parallelism

    deployment = deploy(model, accelerator, Parallelism(tensor=tp, expert=ep, data=dp), Settings(precision=precision, engine=engine))
    date = datetime.now(tz=UTC).date().isoformat()
    found = fit_logs(read_logs(files), deployment, out.stem, date, max_num_batched_tokens)
    write_calibration(out, found.document)
    rows = plain(found.table)
    if as_json:
        return print_json({"file": str(out), "loads": rows, "left_out": plain(found.left_out)})
    print_table(tuple(rows[0]), [tuple(row.values()) for row in rows], f"{out}: {found.document['note']}")
    return print_table(("left out", "because"), found.left_out) if found.left_out else None
