"""``effsim estimate``: steady-state serving, or one training step."""

from typing import Annotated, Any, Final, cast

import typer

from effsim.cli.output import AsJson, cell, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Time, power and energy of one configuration, without a scenario.")

Model = Annotated[str, typer.Option("--model", "-m", help="Catalog name, Hugging Face id, or path to a config.json.")]
Accelerator = Annotated[str, typer.Option("--accelerator", "--system", "-a", help="Catalog name, driver name, or path to a YAML file.")]
Precision = Annotated[str | None, typer.Option(help="Of weights and activations: bf16 fp16 fp8 int8 int4 mxfp4 nvfp4; the model's own where absent.")]
Calibration = Annotated[str, typer.Option(help="'auto': the best of the catalog; 'none': data sheet and priors only; or a path.")]
Tensor = Annotated[int, typer.Option("--tp", min=1, help="Tensor parallel.")]
Pipeline = Annotated[int, typer.Option("--pp", min=1, help="Pipeline parallel.")]
Expert = Annotated[int, typer.Option("--ep", min=1, help="Expert parallel.")]
PowerLimit = Annotated[str | None, typer.Option(metavar="WATTS", help="Per accelerator: '500 W' or 500; the TDP where absent.")]
Breakdown = Annotated[bool, typer.Option("--breakdown", help="Also print every operation with its time, energy and bound.")]

SERVING: Final = (
    ("ttft_s", "TTFT", "s"),
    ("tpot_s", "TPOT, mean", "s"),
    ("itl_s", "ITL, median", "s"),
    ("output_tokens_per_s", "output", "tokens/s"),
    ("power_w", "power, accelerators", "W"),
    ("energy_per_output_token_j", "energy, accelerators", "J/output token"),
)
TRAINING: Final = (
    ("step_time_s", "step time", "s"),
    ("mfu", "MFU", ""),
    ("hfu", "HFU", ""),
    ("tokens_per_s", "tokens", "tokens/s"),
    ("model_tflops_per_accelerator", "model compute", "TFLOP/s per accelerator"),
    ("power_w", "power, accelerators", "W"),
    ("server_power_w", "power, servers", "W"),
    ("energy_j_per_step", "energy, accelerators", "J/step"),
)


@app.command()
def serving(
    *,
    model: Model,
    accelerator: Accelerator,
    tp: Tensor = 1,
    pp: Pipeline = 1,
    ep: Expert = 1,
    dp: Annotated[int, typer.Option("--dp", min=1, help="Data parallel.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Requests that decode together, per data-parallel replica.")] = 64,
    isl: Annotated[int, typer.Option("--isl", min=1, help="Prompt tokens per request.")] = 512,
    osl: Annotated[int, typer.Option("--osl", min=1, help="Output tokens per request.")] = 256,
    precision: Precision = None,
    kv_precision: Annotated[str | None, typer.Option(help="Of the KV cache; that of the activations where absent.")] = None,
    engine: Annotated[str, typer.Option(help="vllm, tensorrt-llm, sglang, llama.cpp ...")] = "vllm",
    max_num_batched_tokens: Annotated[int | None, typer.Option(min=1, help="Token budget of an iteration; the engine's own where absent.")] = None,
    power_limit: PowerLimit = None,
    calibration: Calibration = "auto",
    breakdown: Breakdown = False,
    as_json: AsJson = False,
) -> None:
    """Estimate steady-state serving: latency, throughput, power and energy per token, each with its 90 % interval."""
    from effsim.cost.serving import estimate_serving
    from effsim.units import parse_quantity

    result = estimate_serving(
        model,
        accelerator,
        tensor_parallel=tp,
        pipeline_parallel=pp,
        expert_parallel=ep,
        data_parallel=dp,
        batch=batch,
        prompt_tokens=isl,
        output_tokens=osl,
        engine=engine,
        calibration=calibration,
        power_limit_w=None if power_limit is None else parse_quantity(power_limit, "W"),
        **_given(precision=precision, kv_precision=kv_precision, max_num_batched_tokens=max_num_batched_tokens),
    )
    title = f"{model} on {tp * pp * dp} x {accelerator}, batch {batch}, {isl} + {osl} tokens"
    _print(result, SERVING, title, breakdown=breakdown, as_json=as_json)


@app.command()
def training(
    *,
    model: Model,
    accelerator: Accelerator,
    num_accelerators: Annotated[int, typer.Option("--num-accelerators", "-n", min=1)],
    global_batch_size: Annotated[int, typer.Option(min=1, help="Sequences per step.")],
    sequence_length: Annotated[int, typer.Option(min=1, help="Tokens per sequence.")] = 4096,
    micro_batch_size: Annotated[int, typer.Option(min=1, help="Sequences per device and pass.")] = 1,
    tp: Tensor = 1,
    pp: Pipeline = 1,
    vpp: Annotated[int, typer.Option("--vpp", min=1, help="Virtual pipeline stages per device.")] = 1,
    cp: Annotated[int, typer.Option("--cp", min=1, help="Context parallel.")] = 1,
    ep: Expert = 1,
    sequence_parallel: Annotated[bool, typer.Option(help="Split norms and dropout along the sequence.")] = True,
    zero_stage: Annotated[int, typer.Option(min=0, max=3)] = 1,
    recompute: Annotated[str, typer.Option(help="none, selective or full.")] = "selective",
    precision: Precision = None,
    optimizer: Annotated[str, typer.Option(help="sgd momentum rmsprop adam adafactor adam_8bit muon.")] = "adam",
    node: Annotated[str | None, typer.Option(help="What the accelerators stand in; their usual node where absent.")] = None,
    network: Annotated[str | None, typer.Option(help="Between nodes; the node's own where absent.")] = None,
    engine: Annotated[str, typer.Option(help="megatron, fsdp, maxtext.")] = "megatron",
    power_limit: PowerLimit = None,
    calibration: Calibration = "auto",
    breakdown: Breakdown = False,
    as_json: AsJson = False,
) -> None:
    """Estimate a training step: time, MFU, power and energy, each with its 90 % interval."""
    from effsim.cost.training import estimate_training
    from effsim.units import parse_quantity

    result = estimate_training(
        model,
        accelerator,
        num_accelerators=num_accelerators,
        global_batch_size=global_batch_size,
        micro_batch_size=micro_batch_size,
        sequence_length=sequence_length,
        tensor_parallel=tp,
        pipeline_parallel=pp,
        virtual_pipeline_stages=vpp,
        context_parallel=cp,
        expert_parallel=ep,
        sequence_parallel=sequence_parallel,
        zero_stage=zero_stage,
        recompute=cast(Any, recompute),  # the library says what is allowed
        optimizer=optimizer,
        engine=engine,
        calibration=calibration,
        node=node,
        network=network,
        power_limit_w=None if power_limit is None else parse_quantity(power_limit, "W"),
        **_given(precision=precision),
    )
    title = f"{model} on {num_accelerators} x {accelerator}, {global_batch_size} x {sequence_length} tokens"
    _print(result, TRAINING, title, breakdown=breakdown, as_json=as_json)


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that were given; the library's defaults stand for the others."""
    return {name: value for name, value in options.items() if value is not None}


def _print(result: Any, fields: tuple[tuple[str, str, str], ...], title: str, *, breakdown: bool, as_json: bool) -> None:
    """Print an estimate."""
    if as_json:
        document = result.to_dict()
        document["intervals_90"] = {name: result.interval(name, 0.9) for name, _, _ in fields}
        from effsim.results import plain

        return print_json(plain(document))
    rows = []
    for name, label, unit in fields:
        low, high = result.interval(name, 0.9)
        rows.append((label, cell(getattr(result, name)), f"[{cell(low)}, {cell(high)}]", unit))
    print_table(("", "value", "90 % interval", "unit"), rows, title)
    print(f"provenance: {result.provenance}")
    if breakdown:
        frame = result.breakdown
        print_table([str(column) for column in frame.columns], frame.itertuples(index=False))
    return None
