"""``effsim optimize``: searches over configurations."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from effsim.cli.output import AsJson

app = typer.Typer(no_args_is_help=True, help="Search for the best configuration.")


@app.callback()
def _group() -> None:
    """Group the searches."""


SEVERAL = "one value, or several: 2,4,8"


@app.command()
def parallelism(
    *,
    model: Annotated[str, typer.Option(help="Catalog name, Hugging Face id or path to a config.json.")],
    accelerator: Annotated[str, typer.Option("--accelerator", "--system", help="Catalog name, alias or path to a YAML file.")],
    num_accelerators: Annotated[int, typer.Option("--num-accelerators", "--total-gpus", min=1)],
    global_batch_size: Annotated[str, typer.Option(help=f"Sequences per step; {SEVERAL}.")],
    sequence_length: Annotated[int, typer.Option(min=1, help="Tokens.")] = 4096,
    tp: Annotated[str | None, typer.Option("--tp", help=f"Tensor parallel; {SEVERAL}.")] = None,
    pp: Annotated[str | None, typer.Option("--pp", help="Pipeline parallel, likewise.")] = None,
    vpp: Annotated[str | None, typer.Option("--vpp", help="Virtual pipeline stages per device, likewise.")] = None,
    cp: Annotated[str | None, typer.Option("--cp", help="Context parallel, likewise.")] = None,
    ep: Annotated[str | None, typer.Option("--ep", help="Expert parallel, likewise.")] = None,
    dp: Annotated[str | None, typer.Option("--dp", help="Data parallel, likewise; what the others leave where absent.")] = None,
    sp: Annotated[str | None, typer.Option("--sp", help="Sequence parallel: true, false; both where absent.")] = None,
    micro_batch_size: Annotated[str | None, typer.Option("--micro-batch-size", help=f"Sequences per device and pass; {SEVERAL}.")] = None,
    recompute: Annotated[str | None, typer.Option(help="none, selective, alternate, full.")] = None,
    zero_stage: Annotated[str | None, typer.Option(help="0 to 3.")] = None,
    shard_group: Annotated[str | None, typer.Option(help="Ranks within which ZeRO shards; 0: all.")] = None,
    schedule: Annotated[str | None, typer.Option("--schedule", "--pipeline-schedule", help="1f1b, interleaved, zero_bubble, gpipe.")] = None,
    precision: Annotated[str, typer.Option(help=f"bf16 fp16 fp8 ...; {SEVERAL.replace('2,4,8', 'bf16,fp8')}.")] = "bf16",
    optimizer: Annotated[str, typer.Option(help="sgd momentum rmsprop adam adafactor adam_8bit muon.")] = "adam",
    engine: Annotated[str, typer.Option(help="megatron, fsdp, maxtext.")] = "megatron",
    node: Annotated[str | None, typer.Option(help="What the accelerators stand in; their usual node where absent.")] = None,
    network: Annotated[str | None, typer.Option(help="Between nodes; the node's own where absent.")] = None,
    power_limit: Annotated[str | None, typer.Option(metavar="WATTS", help="Per accelerator: '500 W' or 500; the TDP where absent.")] = None,
    calibration: Annotated[str, typer.Option(help="'auto': the best of the catalog; 'none': data sheet and priors only; or a path.")] = "auto",
    memory_headroom: Annotated[float, typer.Option(help="Share of the device's memory to leave free.")] = 0.0,
    objective: Annotated[str, typer.Option(help="time, energy, j_per_token or memory.")] = "time",
    top: Annotated[int, typer.Option("--top", "--top-n", min=1, help="Rows to print.")] = 10,
    compare: Annotated[list[str] | None, typer.Option("--compare", metavar="TP=8,PP=8,...", help="A split to set beside the best; may be repeated.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write the rows to a file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rank the splits of a training job: ranks, schedule, micro-batch, recomputation and sharding, and say what became of the others."""
    options = dict(locals())
    from effsim.cli.splits import print_splits

    print_splits(options)


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
