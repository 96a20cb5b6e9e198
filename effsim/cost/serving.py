"""Steady-state serving: latency, throughput, power and energy of a batch that is refilled as requests finish."""

import dataclasses
from typing import Any, Literal

import numpy as np
import pandas as pd

from effsim.cost import steady_state
from effsim.cost.breakdown import operation_breakdown
from effsim.cost.deployment import Deployment, Settings, deploy
from effsim.cost.device import Coefficients
from effsim.cost.estimate import Estimate, number_arrays
from effsim.cost.evaluate import CostTable, evaluate, powered
from effsim.cost.kernels import launched
from effsim.cost.memory import max_batch, require_batch, require_weights
from effsim.cost.server import fan_power_w, host_power_w, server_power_w
from effsim.cost.steady_state import Load
from effsim.cost.uncertainty import discrepancies, log_sd, sd_of_range
from effsim.errors import InfeasibleError, SpecError
from effsim.results import Provenance
from effsim.specs import loading
from effsim.specs.machine import Node
from effsim.specs.model import Model, Transformer
from effsim.workload.features import Iteration, feature_matrix, join
from effsim.workload.operations import Parallelism

TIME_OUTPUTS = ("ttft_s", "tpot_s", "itl_s", "output_tokens_per_s", "total_tokens_per_s")
POWER_OUTPUTS = ("power_w", "server_power_w")
ENERGY_OUTPUTS = ("energy_per_output_token_j", "server_energy_per_output_token_j", "energy_per_request_j")
LIMIT_TOLERANCE = 1e-4
DEFAULT_BUDGET = 8192  # tokens per iteration, for engines that have no limit of their own
OUTPUTS = (*TIME_OUTPUTS, *POWER_OUTPUTS, *ENERGY_OUTPUTS)


@dataclasses.dataclass(frozen=True)
class ServingEstimate(Estimate):
    """What serving takes in steady state; floats, or arrays of one shape where a load was given as an array.

    ``power_w`` is that of all accelerators, ``server_power_w`` adds their share of host, fans and power-supply loss. In an array,
    a load that does not fit is NaN and ``feasible`` false.

    Args:
        ttft_s: From scheduling to first token, in the running batch, without queueing [s].
        tpot_s: Mean time per output token, prefill of newcomers included: batch / throughput [s].
        itl_s: Median inter-token latency: the median of decode-only and mixed iterations [s].
        energy_per_output_token_j: Of the accelerators [J].
        max_batch: Sequences of the mean context that the KV cache holds.
    """

    OUTPUTS = OUTPUTS
    ttft_s: Any
    tpot_s: Any
    itl_s: Any
    output_tokens_per_s: Any
    total_tokens_per_s: Any
    power_w: Any
    server_power_w: Any
    energy_per_output_token_j: Any
    server_energy_per_output_token_j: Any
    energy_per_request_j: Any
    max_batch: Any
    feasible: Any
    num_accelerators: int
    provenance: Provenance


def estimate_serving(  # noqa: PLR0913, PLR0917 -- the public contract
    model: Any,
    accelerator: Any,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    expert_parallel: int = 1,
    data_parallel: int = 1,
    precision: str | None = None,
    kv_precision: str | None = None,
    batch: Any = 1,
    prompt_tokens: Any = 512,
    output_tokens: Any = 256,
    engine: Any = "vllm",
    max_num_batched_tokens: Any = None,
    power_limit_w: float | None = None,
    node: Any = None,
    network: Any = None,
    gpu_memory_utilization: float | None = None,
    calibration: Any = "auto",
    attention: Literal["tiled", "naive"] = "tiled",
    sparsity: str = "none",
) -> ServingEstimate:
    """Return latency, throughput, power and energy of serving in steady state.

    ``batch`` requests (per data-parallel replica) decode together, each with ``prompt_tokens`` in and ``output_tokens`` out; as one
    finishes, a newcomer's prompt is computed among the others' decoding. The iteration carries k newcomers with k Poisson of mean
    ``batch / output_tokens``, at most ``max_num_batched_tokens`` tokens.

    Args:
        model: Catalog key, alias, Hugging Face id, path to a config.json, dict of its fields, or spec.
        accelerator: Catalog key, alias, path or spec.
        tensor_parallel: Ranks that split each layer.
        pipeline_parallel: Stages.
        expert_parallel: Groups over which experts are spread; divides ``tensor_parallel · data_parallel``.
        data_parallel: Replicas of the attention; each has its own batch.
        precision: Of weights and activations; None: the model's own.
        kv_precision: Of the KV cache; None: 16 bits.
        batch: Requests decoding together per data-parallel replica; number or array.
        prompt_tokens: Number or array.
        output_tokens: Number or array.
        engine: Name or spec.
        max_num_batched_tokens: None: the engine's default on this device.
        power_limit_w: Per accelerator [W]; None: the TDP.
        node: None: the accelerator's default.
        network: Between nodes; None: the node's.
        gpu_memory_utilization: None: the engine's default.
        calibration: ``auto``, ``none``, a name or a path.
        attention: ``tiled``, or ``naive``: scores are written to memory.
        sparsity: Of the weights: ``none``, ``unstructured`` (no gain) or ``2:4``.

    Raises:
        SpecError: An argument is malformed or unknown.
        InfeasibleError: Weights, or the cache of a single scalar load, do not fit.
    """
    parallelism = Parallelism(tensor_parallel, pipeline_parallel, expert_parallel, data_parallel)
    settings = Settings(precision, kv_precision, engine, node, network, power_limit_w, gpu_memory_utilization, calibration, "serve", attention, sparsity)
    deployment = deploy(model, accelerator, parallelism, settings)
    own = deployment.engine.defaults_for(deployment.accelerator.memory.value, deployment.accelerator.name)[1]
    budget = (own or DEFAULT_BUDGET) if max_num_batched_tokens is None else max_num_batched_tokens
    return estimate_load(deployment, batch, prompt_tokens, output_tokens, budget)


def estimate_load(deployment: Deployment, batch: Any, prompt_tokens: Any, output_tokens: Any, max_num_batched_tokens: Any) -> ServingEstimate:
    """Return the estimate of loads on a resolved configuration; see :func:`estimate_serving`."""
    _require_generative(deployment.model)
    given = {"batch": batch, "prompt_tokens": prompt_tokens, "output_tokens": output_tokens, "max_num_batched_tokens": max_num_batched_tokens}
    arrays, shape = number_arrays(given)
    load = Load(*arrays)
    scalar = shape == ()
    memory = deployment.serving_memory()
    require_weights(memory, deployment.model.name, deployment.accelerator.name, deployment.parallelism.tensor * deployment.parallelism.pipeline)
    context = load.prompt_tokens + 0.5 * load.output_tokens
    if scalar:
        _require_load(deployment, load)
        require_batch(memory, deployment.table.cache, float(load.batch[0]), float(context[0]))
    fits = np.asarray(max_batch(memory, deployment.table.cache, context)) + np.zeros_like(load.batch)
    values = predict(deployment, deployment.prior.median, load)
    bounds_w = power_bounds_w(deployment)
    most_w = bounds_w[1] * (1.0 + LIMIT_TOLERANCE)
    if scalar and values["power_w"][0] > most_w:
        raise InfeasibleError(
            f"power_limit: {deployment.device().limit_w:g} W cannot be held by {deployment.accelerator.name}: clocks and voltage alone draw "
            f"{values['power_w'][0] / deployment.parallelism.accelerators:.3g} W at their lowest.",
            "power limit",
            ("a higher power limit",),
        )
    feasible = (load.batch <= fits) & ~_too_long(deployment, load) & ~_over_budget(deployment, load) & (values["power_w"] <= most_w)
    shaped = {name: float(v[0]) if scalar else np.where(feasible, v, np.nan).reshape(shape) for name, v in values.items()}
    return ServingEstimate(
        **shaped,
        max_batch=float(fits[0]) if scalar else fits.reshape(shape),
        feasible=bool(feasible[0]) if scalar else feasible.reshape(shape),
        num_accelerators=deployment.parallelism.accelerators,
        provenance=deployment.prior.provenance,
        spread=lambda: {name: float(sd[0]) if scalar else sd.reshape(shape) for name, sd in _spread(deployment, load).items()},
        rows=lambda: _rows(deployment, load),
        bounds={"power_w": bounds_w},
    )


def power_bounds_w(deployment: Deployment) -> tuple[float, float]:
    """Return the least and most that the accelerators of a configuration can draw in steady state [W]: idle, and the limit."""
    device, ranks = deployment.device(), deployment.parallelism.accelerators
    return ranks * device.idle_w, ranks * device.limit_w


def _require_generative(model: Model) -> None:
    """Refuse what does not generate token by token.

    Raises:
        SpecError: An encoder, or no language model.
    """
    if not isinstance(model, Transformer) or not model.causal or not model.output_head:
        raise SpecError(f"model: {model.name} does not generate text token by token; serving is estimated for causal language models")


def _require_load(deployment: Deployment, load: Load) -> None:
    """Check a single load against the model's context and the token budget.

    Raises:
        SpecError: Prompt and output are longer than the context, or the batch alone exceeds the budget.
    """
    if _too_long(deployment, load)[0]:
        most = deployment.model.max_context_tokens if isinstance(deployment.model, Transformer) else None
        asked = load.prompt_tokens[0] + load.output_tokens[0]
        raise SpecError(f"prompt_tokens + output_tokens: {asked:,.0f} given; the context of {deployment.model.name} has {most:,}")
    if _over_budget(deployment, load)[0]:
        raise SpecError(
            f"max_num_batched_tokens: {load.max_num_batched_tokens[0]:g} leaves no room for prompts beside {load.batch[0]:g} decoding requests; give more"
        )


def _too_long(deployment: Deployment, load: Load) -> Any:
    most = deployment.model.max_context_tokens if isinstance(deployment.model, Transformer) else None
    return load.prompt_tokens + load.output_tokens > (np.inf if most is None else most)


def _over_budget(deployment: Deployment, load: Load) -> Any:
    return load.batch / np.minimum(deployment.parallelism.pipeline, load.batch) >= load.max_num_batched_tokens


def _spread(deployment: Deployment, load: Load) -> dict[str, Any]:
    """Return the log-sd of the outputs; at the server, the doubt about the host joins that about the accelerators, each by its share."""
    spread = log_sd(
        lambda coefficients: predict(deployment, coefficients, load),
        _with_engine(deployment),
        discrepancies(deployment.prior, TIME_OUTPUTS, POWER_OUTPUTS, ENERGY_OUTPUTS) | _of_energy(deployment),
    )
    node = deployment.node
    if node is None:
        return spread
    host = node.host_busy_power
    if host.low is None or host.high is None or host.low <= 0.0:
        return spread
    accelerators_w = predict(deployment, deployment.prior.median, load)["power_w"]
    share = accelerators_w / (server_power(deployment, accelerators_w, deployment.parallelism.accelerators) * node.psu_efficiency.value)
    doubt = (1.0 - share) * sd_of_range(host.low, host.high)
    return {name: np.hypot(sd, doubt) if name.startswith("server_") else sd for name, sd in spread.items()}


def _of_energy(deployment: Deployment) -> dict[str, float]:
    """Return the discrepancy of energies where the prior states one for serving on data sheets, and none has been found since."""
    known = deployment.prior.discrepancy_log_sd
    return {} if "energy" in known or "serving_energy" not in known else dict.fromkeys(ENERGY_OUTPUTS, known["serving_energy"])


def _rows(deployment: Deployment, load: Load) -> pd.DataFrame:
    """Return the breakdown of the first load: a decode-only iteration and one with a prompt, one rank, all stages, at full clock."""
    first = Load(*(part[:1] for part in load))
    costs = deployment.costs(deployment.prior.median)
    shown = steady_state.cases(first, deployment.parallelism.pipeline, deployment.prior.median.prompt_share)
    frames = []
    for name in ("decode", "first"):
        features = feature_matrix(costs.table.features, shown[name])
        waiting_s = _waiting_s(deployment, costs, deployment.prior.median, (shown[name], evaluate(costs, features).time_s, first.batch))
        frames.append(operation_breakdown(costs, features, name, float(waiting_s[0])))
    return pd.concat(frames, ignore_index=True)


def host_wait_s(deployment: Deployment, coefficients: Coefficients, sequences: Any) -> Any:
    """Return the time per iteration in which the device waits for the host [s]: a fixed part, and one per sequence."""
    engine, c = deployment.engine, coefficients
    return c.host_overhead_factor * engine.iteration_overhead.value + c.sequence_overhead_factor * engine.sequence_overhead.value * sequences


def launch_wait_s(deployment: Deployment, costs: CostTable, kernels_s: Any, tokens: Any, prefill: Any) -> Any:
    """Return the time that the device waits for launches in iterations outside captured graphs [s].

    An engine replays captured graphs for decoding up to a number of tokens. Iterations with prefill, or with more tokens, launch
    attention, mixture and state-space layers from the host; where that takes longer than the kernels, the device waits.

    Args:
        deployment: With its engine.
        costs: Of its operations.
        kernels_s: Time of the kernels.
        tokens: Of the iteration.
        prefill: Whether prompts are computed in it.
    """
    most = deployment.engine.max_captured_tokens
    if most is None:
        return np.zeros_like(kernels_s)
    return np.where(prefill | (tokens > most), launched(kernels_s, costs.eager_s) - kernels_s, 0.0)


def _waiting_s(deployment: Deployment, costs: CostTable, coefficients: Coefficients, given: tuple[Iteration, Any, Any]) -> Any:
    """Return all that the device waits for the host in iterations, given with the time of their kernels and the running batch [s]."""
    it, kernels_s, batch = given
    new = it.prefill_seqs * it.prefill_tokens
    others_s = costs.chunked_s + launch_wait_s(deployment, costs, kernels_s, it.decode_seqs + new, new > 0.0)
    host_s = host_wait_s(deployment, coefficients, batch)
    return others_s + (np.maximum(host_s - kernels_s - others_s, 0.0) if deployment.engine.async_scheduling else host_s)


def predict(deployment: Deployment, coefficients: Coefficients, load: Load) -> dict[str, Any]:
    """Return the outputs of loads under given coefficients, arrays of shape (load,). Pure: nothing is checked or cached."""
    costs = deployment.costs(coefficients)
    b, p, o, _ = load
    stages, computed = deployment.parallelism.pipeline, coefficients.prompt_share
    micro, newcomers, per_pass, share, chunks = steady_state.pace(load, stages, computed)
    decode, mixed, median, first = _run(deployment, costs, coefficients, (steady_state.cases(load, stages, computed), b, micro))
    stretch = np.maximum(1.0, newcomers * p * computed / per_pass)
    tpot_s = ((1.0 - share) * decode.time_s + share * mixed.time_s) * stretch
    energy_j = ((1.0 - share) * decode.energy_j + share * mixed.energy_j) * stretch
    ranks, replicas = deployment.parallelism.accelerators, deployment.parallelism.data
    power_w = ranks * energy_j / tpot_s
    rate = replicas * b / tpot_s
    server_w = server_power(deployment, power_w, ranks)
    return {
        "ttft_s": chunks * first.time_s,
        "tpot_s": tpot_s,
        "itl_s": median.time_s,
        "output_tokens_per_s": rate,
        "total_tokens_per_s": rate * (1.0 + p / o),
        "power_w": power_w,
        "server_power_w": server_w,
        "energy_per_output_token_j": power_w / rate,
        "server_energy_per_output_token_j": server_w / rate,
        "energy_per_request_j": power_w / rate * o,
    }


def _run(deployment: Deployment, costs: CostTable, coefficients: Coefficients, given: tuple[dict[str, Iteration], Any, Any]) -> list[Any]:
    """Return the powered iterations of all cases, from one evaluation of all of them side by side."""
    cases, batch, micro = given
    width, several = len(batch), len(cases)
    joined = join(list(cases.values()), width)
    plain = evaluate(costs, feature_matrix(costs.table.features, joined))
    waiting = _waiting_s(deployment, costs, coefficients, (joined, plain.time_s, np.tile(batch, several)))
    whole = powered(plain, costs.device, waiting, np.tile(micro / deployment.parallelism.pipeline, several))
    return [type(whole)(*(part[i * width : (i + 1) * width] for part in whole)) for i in range(several)]


def server_power(deployment: Deployment, accelerator_power_w: Any, accelerators: int) -> Any:
    """Return the power at the plug of the share of the servers that these accelerators take up [W]; NaN where no node is known."""
    node: Node | None = deployment.node
    if node is None:
        return np.full_like(np.asarray(accelerator_power_w, dtype=float), np.nan)
    nodes = accelerators / node.accelerators_per_node
    host = nodes * host_power_w(node.host_idle_power.value, node.host_busy_power.value, 1.0)
    full = nodes * (node.fan_power.value if node.fan_power else 0.0)
    fans = fan_power_w(full, accelerator_power_w, accelerators * deployment.accelerator.tdp.value)
    return server_power_w(accelerator_power_w, host, fans, node.psu_efficiency.value)


def _with_engine(deployment: Deployment) -> Any:
    """Return the prior with the engine's own range in place of the class's doubt about host times; what a calibration fitted stays."""
    figure = deployment.engine.iteration_overhead
    of_class = loading.calibration(f"prior_{deployment.accelerator.device_class}").coefficients["host_overhead_factor"].log_sd
    if figure.low is None or figure.high is None or figure.low <= 0.0 or deployment.prior.log_sd["host_overhead_factor"] < of_class:
        return deployment.prior
    spread = {**deployment.prior.log_sd, "host_overhead_factor": sd_of_range(figure.low, figure.high)}
    return dataclasses.replace(deployment.prior, log_sd=spread)
