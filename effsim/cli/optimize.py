"""``effsim optimize``: searches over configurations."""

from typing import Annotated, Any, cast

import typer

from effsim.cli.output import AsJson, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Search for the best configuration.")


@app.callback()
def _group() -> None:
    """Group the searches."""


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


@app.command()
def choices(
    model: Annotated[str, typer.Option(help="Catalog name, Hugging Face id or path to a config.json.")],
    accelerator: Annotated[str, typer.Option("--accelerator", "--system", help="Catalog name, alias or path to a YAML file.")],
    num_accelerators: Annotated[int, typer.Option("--num-accelerators", "--total-gpus", min=1)],
    global_batch_size: Annotated[int, typer.Option(min=1, help="Sequences per step.")],
    sequence_length: Annotated[int, typer.Option(min=1, help="Tokens.")] = 4096,
    micro_batch_size: Annotated[int, typer.Option(min=1, help="Sequences per device and pass.")] = 1,
    tp: Annotated[int, typer.Option("--tp", min=1, help="Tensor parallel.")] = 1,
    pp: Annotated[int, typer.Option("--pp", min=1, help="Pipeline parallel.")] = 1,
    zero_stage: Annotated[int, typer.Option(min=0, max=3)] = 1,
    recompute: Annotated[str, typer.Option(help="none, selective or full.")] = "none",
    precision: Annotated[str, typer.Option(help="bf16 fp16 fp8 ...")] = "bf16",
    optimizer: Annotated[str, typer.Option(help="sgd momentum rmsprop adam adafactor adam_8bit muon.")] = "adam",
    engine: Annotated[str, typer.Option(help="megatron, fsdp, maxtext.")] = "megatron",
    tokens: Annotated[float | None, typer.Option(help="Of the whole training; 20 per parameter where absent.")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="A choice to show; may be repeated. All where absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what changes the energy of a training: each choice with its step cost, its tokens to the same loss, and their product."""
    from effsim.cli.choices import print_choices
    from effsim.strategies.job import TrainingJob

    job = TrainingJob(
        model,
        accelerator,
        num_accelerators=num_accelerators,
        global_batch_size=global_batch_size,
        micro_batch_size=micro_batch_size,
        sequence_length=sequence_length,
        tensor_parallel=tp,
        pipeline_parallel=pp,
        zero_stage=zero_stage,
        recompute=cast(Any, recompute),  # the library says what is allowed
        precision=precision,
        optimizer=optimizer,
        engine=engine,
        tokens=tokens,
    )
    print_choices(job, only, as_json=as_json)
