"""Which number format the products run in."""

from typing import Any, Final

from effsim.errors import SpecError
from effsim.strategies.effect import StepsEffect
from effsim.strategies.job import TrainingJob, replace
from effsim.strategies.scaling import FITS_SOURCE, tokens_for_gap
from effsim.workload.precision import normalize

TITLE = "Precision"
KNOBS: Final[dict[str, tuple[Any, ...]]] = {"format": ("bf16", "fp8", "mxfp8", "mxfp4", "nvfp4")}

_WIDE: Final = {"fp32", "tf32", "bf16", "fp16"}
LOSS_GAP: Final = {"fp8": (0.0, 0.00125, 0.0025), "mxfp8": (0.0, 0.00125, 0.0025), "nvfp4": (0.0, 0.01, 0.0175), "mxfp4": (0.0, 0.01, 0.0175)}
"""Loss above 16-bit training as a share of it."""

MXFP4_TOKENS: Final = 1.36  # over NVFP4 at equal loss; arXiv:2509.25149, section 5, 8 billion parameters, 1 trillion tokens
_SOURCES: Final = {
    "fp8": ("DeepSeek-V3 Technical Report, arXiv:2412.19437, section 3.3", "2024-12", "relative loss error below 0.25 % of bf16; median: half of that"),
    "mxfp8": (
        "NVIDIA, Recipes for Pre-training LLMs with MXFP8, arXiv:2506.08027",
        "2025-06",
        "8 billion parameters, 15 trillion tokens: perplexity within 0.5 % of bf16 (recalled), in loss 0.005 or 0.25 % of 2; median: half",
    ),
    "nvfp4": (
        "NVIDIA, Pretraining Large Language Models with NVFP4, arXiv:2509.25149",
        "2025-09",
        "12 billion parameters, 10 trillion tokens: loss within 1 % of fp8 for most of the run, 1.5 % at its end; low: downstream scores alike; "
        "high: with fp8's own 0.25 %. The recipe keeps 15 % of the linear layers in 16 bits, as the step cost does",
    ),
    "mxfp4": ("NVIDIA, Pretraining Large Language Models with NVFP4, arXiv:2509.25149", "2025-09", "as nvfp4, with 36 % more tokens at equal loss"),
}


def neutral(job: TrainingJob) -> dict[str, Any]:
    """Return the job's precision."""
    return {"format": normalize(job.precision)}


def apply(job: TrainingJob, *, format: str) -> TrainingJob:  # noqa: A002 -- the knob's name
    """Return the job in another format."""
    return job if normalize(format) == normalize(job.precision) else replace(job, precision=format)


def steps(job: TrainingJob, changed: TrainingJob) -> StepsEffect:
    """Return the tokens that make up for the published difference in loss.

    Raises:
        SpecError: The job itself runs in fewer than 16 bits: differences are published against 16 bits only.
    """
    base, name = normalize(job.precision), normalize(changed.precision)
    if base == name:
        return StepsEffect(1.0, 1.0, 1.0, "the format itself", "2026", "the same format")
    if base not in _WIDE:
        raise SpecError(f"precision: {base} is the base; differences in loss are published against 16-bit training only")
    if name in _WIDE:
        return StepsEffect(1.0, 1.0, 1.0, "Micikevicius et al., arXiv:1710.03740; Kalamkar et al., arXiv:1905.12322", "2019", "trains as fp32 does")
    if name not in LOSS_GAP:
        return StepsEffect(None, None, None, "none", "2026", f"no pretraining in {name} is published with its loss")
    source, date, note = _SOURCES[name]
    factor = MXFP4_TOKENS if name == "mxfp4" else 1.0
    ranges = [tokens_for_gap(gap, job.parameters, job.target_tokens) for gap in LOSS_GAP[name]]
    low, median, high = ranges[0][0], ranges[1][1], ranges[2][2]
    return StepsEffect(factor * low, factor * median, factor * high, f"{source}; tokens by {FITS_SOURCE}", date, note)


def quality(job: TrainingJob, changed: TrainingJob) -> str:
    """Return what is known beyond the loss."""
    name = normalize(changed.precision)
    if name == normalize(job.precision):
        return ""
    return "MMLU-Pro 62.6 % in both fp8 and nvfp4 at 10 trillion tokens (arXiv:2509.25149)" if name == "nvfp4" else ""
