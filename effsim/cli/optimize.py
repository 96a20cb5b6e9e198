"""``effsim optimize``: searches over configurations."""

from typing import Annotated

import typer

from effsim.cli.output import AsJson, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Search for the best configuration.")


@app.callback()
def _group() -> None:
    """Keep ``parallelism`` a subcommand although it is the only one."""


@app.command()
def parallelism(
    model: Annotated[str, typer.Option(help="Catalog name, Hugging Face id or path to a config.json.")],
    accelerator: Annotated[str, typer.Option("--accelerator", "--system", help="Catalog name, alias or path to a YAML file.")],
    num_accelerators: Annotated[int, typer.Option("--num-accelerators", "--total-gpus", min=1)],
    global_batch_size: Annotated[int, typer.Option(min=1, help="Sequences per step.")],
    sequence_length: Annotated[int, typer.Option(min=1, help="Tokens.")] = 4096,
    precision: Annotated[str, typer.Option(help="bf16 fp16 fp8 ...")] = "bf16",
    engine: Annotated[str, typer.Option(help="megatron, fsdp, maxtext.")] = "megatron",
    objective: Annotated[str, typer.Option(help="step_time_s or energy_j_per_step.")] = "step_time_s",
    top_n: Annotated[int, typer.Option("--top-n", min=1, help="Rows to print.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Rank every feasible split of a training job: tensor, pipeline and data parallel, micro-batch, recomputation, ZeRO."""
    from effsim.cost.deployment import Settings
    from effsim.optimize.parallelism import Job, search_parallelism
    from effsim.results import plain

    settings = Settings(precision=precision, engine=engine, phase="train")
    found = search_parallelism(Job(model, accelerator, num_accelerators, global_batch_size, sequence_length, settings), objective)
    rows = plain(found.head(top_n))
    if as_json:
        return print_json({"feasible": len(found), "best": rows})
    columns = [name for name in found.columns if name != "global_batch_size"]
    print_table(columns, [[row[name] for name in columns] for row in rows], f"{len(found):,} feasible splits of {model} over {num_accelerators} x {accelerator}")
    return None
