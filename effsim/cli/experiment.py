"""``effsim experiment``: measured on this machine, beside the prediction."""

from typing import Annotated

import typer

from effsim.cli.output import AsJson, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Experiments that measure on this machine and stand beside the prediction.")


@app.callback()
def _group() -> None:
    """Keep the subcommands together."""


@app.command()
def pruning(
    sparsity: Annotated[list[float] | None, typer.Option("--sparsity", help="Share of weights to set to zero; may be repeated.")] = None,
    neurons: Annotated[list[float] | None, typer.Option("--neurons", help="Share of hidden neurons to remove; may be repeated.")] = None,
    batch: Annotated[list[int] | None, typer.Option("--batch", min=1, help="Samples per pass; may be repeated.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of the training.")] = 5,
    retraining_epochs: Annotated[int, typer.Option(min=1, help="After pruning.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="In which all networks are measured; the one of the median time counts.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the weights and the order of the samples.")] = 0,
    calibration: Annotated[str, typer.Option(help="Of the prediction: 'auto', 'none' or a path.")] = "auto",
    template: Annotated[str, typer.Option("--accelerator", help="Processor of the catalog that the prediction starts from.")] = "xeon_8480_plus",
    as_json: AsJson = False,
) -> None:
    """Train the 784-128-10 classifier, prune and quantise it, and show time, energy, size and accuracy beside the prediction."""
    from effsim.bench.command import Options, instruments
    from effsim.cli.progress import progress_bar
    from effsim.experiments.classifier import Recipe, digits
    from effsim.experiments.pruning import Settings, closing, run, table

    default = Settings()
    settings = Settings(
        recipe=Recipe(epochs=epochs, seed=seed),
        retraining_epochs=retraining_epochs,
        sparsities=tuple(sparsity or default.sparsities),
        neurons=tuple(neurons or default.neurons),
        batches=tuple(batch or default.batches),
        rounds=rounds,
        calibration=calibration,
        template=template,
    )
    data = digits(seed)
    with instruments(Options(device="cpu", library="numpy", seed=seed)) as opened, progress_bar() as watcher:
        found = run(opened, data, settings, watcher)
    if as_json:
        return print_json(found.to_dict())
    print_table(*table(found), title="784-128-10 classifier")
    return print(closing(found))
