"""Low-rank adapters against full fine-tuning."""

import math
from typing import Any, Final

from effsim.strategies.effect import StepsEffect
from effsim.strategies.job import TrainingJob, replace, resolve

TITLE = "Low-rank adapters (LoRA)"
KNOBS: Final[dict[str, tuple[Any, ...]]] = {"rank": (0, 8, 16, 64, 256)}
BITS_PER_PARAMETER: Final = 2.0  # that a network can store; Allen-Zhu, Li, arXiv:2404.05405
BITS_PER_TOKEN: Final = 1.0  # that fine-tuning text holds, of the order of; Schulman et al. 2025

SOURCE: Final = "Schulman et al., LoRA Without Regret, Thinking Machines; Biderman et al., LoRA Learns Less and Forgets Less, arXiv:2405.09673"
DATE: Final = "2024 to 2025"
WITHIN: Final = (
    "fine-tuning on no more text than the adapters can store (2 bits a parameter, 1 bit a token): learns per token as full fine-tuning does, less well at "
    "large batches; the high end is a judgement: Biderman et al. find lower sample efficiency"
)
BEYOND: Final = "more text than the adapters can store (2 bits a parameter, 1 bit a token): the loss of full training is not reached"


def neutral(job: TrainingJob) -> dict[str, Any]:
    """Return the job's rank; 0 for full fine-tuning."""
    return {"rank": job.lora_rank if job.trainable == "lora" else 0}


def apply(job: TrainingJob, *, rank: int) -> TrainingJob:
    """Return the job with frozen weights and adapters of a rank; 0: every weight is trained."""
    if rank == neutral(job)["rank"]:
        return job
    return replace(job, trainable="full") if rank == 0 else replace(job, trainable="lora", lora_rank=rank)


def steps(job: TrainingJob, changed: TrainingJob) -> StepsEffect:
    """Return 1 with its range where the adapters hold the text, infinity where they do not."""
    if neutral(job) == neutral(changed):
        return StepsEffect(1.0, 1.0, 1.0, SOURCE, DATE, "the same weights are trained")
    if job.trainable == "lora":
        return StepsEffect(None, None, None, SOURCE, DATE, "sources compare adapters with full training, which is not the base here")
    if adapter_parameters(changed) * BITS_PER_PARAMETER < changed.target_tokens * BITS_PER_TOKEN:
        return StepsEffect(1.0, math.inf, math.inf, SOURCE, DATE, BEYOND)
    return StepsEffect(1.0, 1.0, 2.0, SOURCE, DATE, WITHIN)


def adapter_parameters(job: TrainingJob) -> float:
    """Return the parameters of all adapters of a job that trains them."""
    step, _ = resolve(job)
    ranks = step.deployment.parallelism
    return step.trained * ranks.pipeline * ranks.tensor


def quality(job: TrainingJob, changed: TrainingJob) -> str:
    """Return what is known beyond the loss."""
    if changed.trainable == "lora" and neutral(job) != neutral(changed):
        return "forgets less of what the model knew, learns less in continued pretraining (Biderman et al., arXiv:2405.09673)"
    return ""
