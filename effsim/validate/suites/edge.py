"""One request at a time on devices that people own: tokens per second of llama.cpp and its like, and power at the wall."""

from typing import Any, Final

from effsim.cost.serving import ServingEstimate, estimate_serving
from effsim.errors import EffSimError
from effsim.specs import loading
from effsim.specs.accelerator import Accelerator
from effsim.validate.comparison import PRIOR_ONLY, Comparison, Skipped, SuiteResult
from effsim.validate.context import Context, half_as_sure, inverse
from effsim.validate.edge_rows import Run, runs
from effsim.validate.training.case import read

ORDER: Final = 4
TITLE: Final = "One request at a time on edge devices, Apple silicon and single cards"
SOURCE: Final = (
    "llama.cpp discussions 4167 and 15013, XiongjieDai, J. Geerling, NVIDIA Jetson AI Lab, ExecuTorch, LiteRT-LM, Qualcomm AI Hub; each record has its source"
)
FILE: Final = "mobile_edge.json"
LATENCY_FILE: Final = "inference_energy.json"
SHORT_PROMPT_TOKENS: Final = 128
"""Assumed where a source does not state the prompt; it adds less than 1 % to what a step reads."""


def run(context: Context) -> SuiteResult:
    """Return decode and prefill rates and peak wall power of every row whose device, model and format are in the catalog.

    Raises:
        SpecError: The rows are not there.
    """
    found: list[Comparison] = []
    left: list[Skipped] = []
    records = [*read(FILE, context.find(FILE)), *(one for one in read(LATENCY_FILE, context.find(LATENCY_FILE)) if one["kind"] == "llm_inference_latency")]
    for record in records:
        taken, reasons = runs(record)
        left += [Skipped("edge", str(record["id"]), reason) for reason in reasons]
        for one in taken:
            try:
                found += compared(one)
            except EffSimError as error:
                left.append(Skipped("edge", one.row, str(error)))
    return SuiteResult(
        name="edge",
        title=TITLE,
        source=SOURCE,
        basis="Data sheets and priors by class of device; nothing fitted to these rows.",
        comparisons=tuple(found),
        skipped=tuple(left),
        notes=(
            "Decode is bound by the memory that CPU, GPU and neural processor of a phone or Apple chip share: such rows are compared in decode only.",
            "Wall power is the peak over a run, so it is an upper bound of the mean that is predicted.",
            "Prefill on data-centre cards is far slower than predicted: the kernels of llama.cpp in 2024 were written for graphics cards, the priors "
            "are those of vendor kernels. Some rows contradict others of the same table: LLaMA 3 8B F16 prefill on A100 SXM is a tenth of that on A100 PCIe.",
            "K-quants on M1 are slower than their bytes explain (36 of 57 tokens per second): unpacking their nested scales is not modelled.",
        ),
    )


def device_of(one: Run) -> Accelerator:
    """Return the accelerator of a row; where it has another count of cores than the catalog's, its rates are in proportion."""
    spec = loading.accelerator(one.accelerator)
    if one.cores is None or not spec.compute_units or one.cores == spec.compute_units:
        return spec
    share = one.cores / spec.compute_units
    peak = {dtype: figure.model_copy(update={"value": figure.value * share}) for dtype, figure in spec.peak.items()}
    return spec.model_copy(update={"peak": peak, "compute_units": one.cores})


def _estimate(one: Run, prompt_tokens: float, output_tokens: float) -> ServingEstimate:
    return estimate_serving(
        one.model,
        device_of(one),
        precision=one.precision,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        engine=one.engine,
        gpu_memory_utilization=1.0,
        calibration="none",
    )


def compared(one: Run) -> list[Comparison]:
    """Return the comparison of one measured figure: a rate of decode or prefill, or power at the wall."""
    if one.quantity == "prefill_tokens_per_s":
        tokens = float(one.tokens - 1)  # the one that is generated takes a place of the context
        estimate, field = _estimate(one, tokens, 1.0), "ttft_s"
    else:
        prompt = 1.0 if one.from_empty else float(SHORT_PROMPT_TOKENS)
        estimate, field, tokens = _estimate(one, prompt, max(2.0, one.tokens - prompt)), "itl_s", 1.0
    if one.quantity == "wall_power_w":
        predicted, (low, high) = float(estimate.server_power_w), estimate.interval("server_power_w")
    else:
        ends = estimate.interval(field)
        predicted, (low, high) = tokens / float(getattr(estimate, field)), (tokens * end for end in inverse(*ends))
    low_50, high_50 = half_as_sure(predicted, low, high)
    unit = "W" if one.quantity == "wall_power_w" else "tokens/s"
    common: dict[str, Any] = {"suite": "edge", "cell": one.cell, "row": one.row, "quantity": one.quantity, "unit": unit, "split": PRIOR_ONLY}
    return [Comparison(**common, measured=one.measured, predicted=predicted, low_50=low_50, high_50=high_50, low_90=low, high_90=high)]
