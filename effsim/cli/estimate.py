"""``effsim estimate``: steady-state serving, or one training step."""

from typing import Annotated, Any, Final

import typer

from effsim.cli.basis import basis, basis_lines
from effsim.cli.output import AsJson, cell, print_json, print_table, scaled

app = typer.Typer(no_args_is_help=True, help="Time, power and energy of one configuration, without a scenario.")

Model = Annotated[str, typer.Option("--model", "-m", help="Catalog name, Hugging Face id, or path to a config.json.")]
Accelerator = Annotated[str, typer.Option("--accelerator", "--system", "-a", help="Catalog name, driver name, or path to a YAML file.")]
Precision = Annotated[str | None, typer.Option(help="Of weights and activations: bf16 fp16 fp8 mxfp8 int8 int4 mxfp4 nvfp4; the model's own where absent.")]
Calibration = Annotated[str, typer.Option(help="'auto': the best of the catalog; 'none': data sheet and priors only; or a path.")]
Tensor = Annotated[int, typer.Option("--tp", min=1, help="Tensor parallel.")]
Pipeline = Annotated[int, typer.Option("--pp", min=1, help="Pipeline parallel.")]
Expert = Annotated[int, typer.Option("--ep", min=1, help="Expert parallel.")]
PowerLimit = Annotated[str | None, typer.Option(metavar="WATTS", help="Per accelerator: '500 W' or 500; the TDP where absent.")]
Node = Annotated[str | None, typer.Option(help="What the accelerators stand in; their usual node where absent.")]
Network = Annotated[str | None, typer.Option(help="Between nodes; the node's own where absent.")]
Attention = Annotated[str, typer.Option(help="tiled, or naive: scores are written to memory.")]
Breakdown = Annotated[bool, typer.Option("--breakdown", help="Also print every operation with its time, energy and bound.")]

SERVING: Final = (
    ("ttft_s", "TTFT", "s"),
    ("tpot_s", "TPOT, mean", "s"),
    ("itl_s", "ITL, median", "s"),
    ("output_tokens_per_s", "output", "tokens/s"),
    ("power_w", "power, accelerators", "W"),
    ("server_power_w", "power, servers", "W"),
    ("energy_per_output_token_j", "energy, accelerators", "J/output token"),
    ("server_energy_per_output_token_j", "energy, servers", "J/output token"),
    ("energy_per_request_j", "energy, accelerators", "J/request"),
)
TRAINING: Final = (
    ("step_time_s", "step time", "s"),
    ("mfu", "MFU", "1"),
    ("hfu", "HFU", "1"),
    ("tokens_per_s", "tokens", "tokens/s"),
    ("model_tflops_per_accelerator", "model compute", "TFLOP/s per accelerator"),
    ("power_w", "power, accelerators", "W"),
    ("server_power_w", "power, servers", "W"),
    ("energy_j_per_step", "energy, accelerators", "J/step"),
    ("energy_per_token_j", "energy, accelerators", "J/token"),
)
ARGUMENTS: Final = {
    "tp": "tensor_parallel",
    "pp": "pipeline_parallel",
    "ep": "expert_parallel",
    "dp": "data_parallel",
    "cp": "context_parallel",
    "vpp": "virtual_pipeline_stages",
    "isl": "prompt_tokens",
    "osl": "output_tokens",
}
"""Option -> argument of the library; the other options are called as there."""


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
    gpu_memory_utilization: Annotated[float | None, typer.Option(help="Share of memory that the engine may take; its own where absent.")] = None,
    node: Node = None,
    network: Network = None,
    attention: Attention = "tiled",
    sparsity: Annotated[str, typer.Option(help="Of the weights: none, unstructured (no gain) or 2:4.")] = "none",
    power_limit: PowerLimit = None,
    calibration: Calibration = "auto",
    breakdown: Breakdown = False,
    as_json: AsJson = False,
) -> None:
    """Estimate steady-state serving: latency, throughput, power and energy per token, each with its 90 % interval."""
    options = dict(locals())
    from effsim.cost.serving import estimate_serving

    result = estimate_serving(**_arguments(options))
    title = f"{model} on {tp * pp * dp} x {accelerator}, batch {batch}, {isl} + {osl} tokens"
    _print(result, SERVING, (title, basis(accelerator, node, engine, calibration)), breakdown=breakdown, as_json=as_json)


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
    recompute: Annotated[str, typer.Option(help="none, selective, alternate, minimal, full, or modules: layernorm+moe_act.")] = "selective",
    precision: Precision = None,
    optimizer: Annotated[str, typer.Option(help="sgd momentum rmsprop adam adam_bf16 adafactor adam_8bit muon.")] = "adam",
    pipeline_schedule: Annotated[str, typer.Option(help="1f1b, gpipe or zero_bubble.")] = "1f1b",
    trainable: Annotated[str, typer.Option(help="full, or lora: adapters on frozen weights.")] = "full",
    lora_rank: Annotated[int, typer.Option(min=1, help="Of the adapters.")] = 16,
    capacity_factor: Annotated[float | None, typer.Option(help="Places of each expert's buffer over its even share of tokens.")] = None,
    expert_imbalance: Annotated[float | None, typer.Option(help="Rows of the fullest rank of a dropless router over the mean.")] = None,
    gradient_bytes: Annotated[float | None, typer.Option(help="4 (fp32) or 2 (bf16); the engine's where absent.")] = None,
    offload_activations: Annotated[float, typer.Option(help="Share of kept activations in the host's memory.")] = 0.0,
    offload_optimizer: Annotated[float, typer.Option(help="Share of the optimizer's state in the host's memory.")] = 0.0,
    clock: Annotated[float | None, typer.Option(help="Highest clock as a share of the full one.")] = None,
    shard_group: Annotated[int | None, typer.Option(min=1, help="Ranks within which ZeRO shards; all where absent.")] = None,
    rank_time_sd: Annotated[float, typer.Option(min=0.0, help="Relative standard deviation of a rank's step time.")] = 0.0,
    attention: Attention = "tiled",
    node: Node = None,
    network: Network = None,
    storage: Annotated[str, typer.Option(help="From which data are read; see `effsim specs list storage`.")] = "parallel_flash",
    data_bytes_per_token: Annotated[float, typer.Option(help="Read from storage for one token; samples with pictures take far more.")] = 4.0,
    prefetch_ratio: Annotated[float, typer.Option(help="Share of a step behind which reading is hidden.")] = 1.0,
    engine: Annotated[str, typer.Option(help="megatron, fsdp, maxtext; see `effsim specs list engines`.")] = "megatron",
    power_limit: PowerLimit = None,
    calibration: Calibration = "auto",
    breakdown: Breakdown = False,
    as_json: AsJson = False,
) -> None:
    """Estimate a training step: time by phase, MFU, power, energy by part and memory, with 90 % intervals."""
    options = dict(locals())
    from effsim.cli.training_tables import parts_document, print_parts
    from effsim.cost.training import estimate_training

    asked = dict(options)

    result = estimate_training(**_arguments(options))
    title = f"{model} on {num_accelerators} x {accelerator}, {global_batch_size} x {sequence_length} tokens"
    about = (title, basis(accelerator, node, engine, calibration))
    _print(result, TRAINING, about, breakdown=breakdown, as_json=as_json, parts=parts_document(result, asked) if as_json else None)
    if not as_json:
        print_parts(result, asked)


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options as arguments of the library, whose defaults stand for those that were not given."""
    options["power_limit_w"] = power_w("--power-limit", options.pop("power_limit"))
    return {ARGUMENTS.get(name, name): value for name, value in options.items() if value is not None and name not in {"breakdown", "as_json"}}


DIMENSIONS: Final = {"J": "an energy", "s": "a time", "kg": "a mass", "byte": "an amount of data", "Hz": "a frequency", "FLOP/s": "a rate of computing"}


def power_w(option: str, given: str | None) -> float | None:
    """Return the watts of an option.

    Raises:
        SpecError: Not a power; the message names the option and, where it is one, the quantity that was given.
    """
    from effsim.errors import SpecError, shown
    from effsim.units import parse_quantity

    if given is None:
        return None
    try:
        watts = parse_quantity(given, "W")
    except SpecError:
        said = f"{option}: expected a power such as 300 W, got {shown(given)}"
    else:
        if watts > 0.0:
            return watts
        raise SpecError(f"{option}: must be above 0 W, got {shown(given)}")
    for dimension, words in DIMENSIONS.items():
        try:
            parse_quantity(given, dimension)
        except SpecError:
            continue
        raise SpecError(f"{said}, which is {words}")
    raise SpecError(said)


def _print(
    result: Any, fields: tuple[tuple[str, str, str], ...], about: tuple[str, dict[str, Any]], *, breakdown: bool, as_json: bool, parts: Any = None
) -> None:
    """Print an estimate, its title and what it rests on."""
    title, rests_on = about
    if as_json:
        from effsim.results import plain

        document = {**result.to_dict(), "intervals_90": {name: result.interval(name, 0.9) for name, _, _ in fields}, "basis": rests_on, **(parts or {})}
        return print_json(plain(document))
    rows = []
    for name, label, unit in fields:
        alike = [other for other, words, in_unit in fields if (words.split(",")[0], in_unit) == (label.split(",")[0], unit)]
        factor, shown_unit = scaled(max(getattr(result, other) for other in alike), unit)
        low, high = (end * factor for end in result.interval(name, 0.9))
        rows.append((label, cell(getattr(result, name) * factor), f"[{cell(low)}, {cell(high)}]", shown_unit))
    if hasattr(result, "max_batch"):
        rows.append(("largest batch that fits", cell(int(result.max_batch)), "", "requests"))
    rows.append(("accelerators", cell(result.num_accelerators), "", ""))
    print_table(("", "value", "90 % interval", "unit"), rows, title)
    print("\n".join(basis_lines(rests_on, result.provenance)))
    if breakdown:
        frame = result.breakdown
        print_table([str(column) for column in frame.columns], frame.itertuples(index=False))
    return None
