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
    from effsim.units import BYTES_PER_GIB

    settings = Settings(precision=precision, engine=engine, phase="train")
    found = search_parallelism(Job(model, accelerator, num_accelerators, global_batch_size, sequence_length, settings), objective)
    rows = plain(found.head(top_n))
    if as_json:
        return print_json({"feasible": len(found), "best": rows})
    columns = ("TP", "PP", "DP", "VPP", "recompute", "ZeRO", "micro-batch", "step s", "MFU", "tokens/s", "kW", "kJ/step", "bubble s", "exchange s", "GiB")
    fields = ("tensor_parallel", "pipeline_parallel", "data_parallel", "virtual_pipeline_stages", "recompute", "zero_stage", "micro_batch_size")
    listed = [
        [
            *(row[name] for name in fields),
            *(row[name] for name in ("step_time_s", "mfu", "tokens_per_s")),
            row["power_w"] / 1e3,
            row["energy_j_per_step"] / 1e3,
            *(row[name] for name in ("bubble_s", "exchange_s")),
            row["memory_bytes"] / BYTES_PER_GIB,
        ]
        for row in rows
    ]
    print_table(columns, listed, f"{len(found):,} feasible splits of {model} over {num_accelerators} x {accelerator}")
    return None
