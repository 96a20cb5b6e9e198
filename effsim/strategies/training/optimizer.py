"""Which optimizer: its state, its update, and how many tokens it takes."""

from typing import Any, Final

from effsim.strategies.effect import Range, StepsEffect, relative
from effsim.strategies.job import TrainingJob, replace
from effsim.workload.optimizers import ALIASES

TITLE = "Optimizer"
KNOBS: Final[dict[str, tuple[Any, ...]]] = {"name": ("sgd", "momentum", "rmsprop", "adam", "adafactor", "adam_8bit", "muon")}

AGAINST_ADAM: Final[dict[str, Range]] = {
    "adam": (1.0, 1.0, 1.0),
    "adafactor": (1.0, 1.0, 1.1),
    "adam_8bit": (1.0, 1.0, 1.02),
    "muon": (0.52, 0.81, 1.0),
}
_UNMEASURED: Final = {"sgd", "momentum", "rmsprop"}
_SOURCES: Final = {
    "adam": ("Kingma, Ba, arXiv:1412.6980", "2015", "the measure of the others"),
    "adafactor": (
        "Zhao et al., Deconstructing What Makes a Good Optimizer for Language Models, arXiv:2407.07972",
        "2024-07",
        "on a par with Adam at 150 million to 1.2 billion parameters; the upper end is a judgement, for larger runs have reported less",
    ),
    "adam_8bit": (
        "Dettmers et al., 8-bit Optimizers via Block-wise Quantization, arXiv:2110.02861",
        "2021-10",
        "keeps the performance of 32-bit states on models up to 1.5 billion parameters; the upper end is a judgement",
    ),
    "muon": (
        "Liu et al., arXiv:2502.16982; Wen et al., Fantastic Pretraining Optimizers, arXiv:2509.02046; Shah et al., arXiv:2505.02222",
        "2025-02 to 2025-09",
        "low: 0.52 of AdamW's FLOPs in Liu's compute-optimal fits; Wen, every optimizer tuned: a speed-up of 1.4 at 0.1 billion parameters that falls to 1.1 "
        "at 1.2 billion; Shah: 10 to 15 % fewer tokens up to 4 billion. Median of the three; high: Wen's trend carried on to larger models",
    ),
    "sgd": (
        "Zhao et al., arXiv:2407.07972; Kunstner et al., arXiv:2402.19449",
        "2024",
        "below Adam at equal tokens, with rare words hardly learnt; no count of tokens to Adam's loss is published",
    ),
    "momentum": (
        "Sreckovic et al., Is your batch size the problem?, arXiv:2506.12543; Zhao et al., arXiv:2407.07972",
        "2024 to 2025",
        "like Adam at small batches if tuned, behind it at usual ones; no count of tokens to Adam's loss at usual batches is published",
    ),
    "rmsprop": (
        "Zhao et al., arXiv:2407.07972",
        "2024-07",
        "Adam without momentum; adaptive methods perform alike, but what leaving the momentum out costs in tokens is not published for language models",
    ),
}


def neutral(job: TrainingJob) -> dict[str, Any]:
    """Return the job's optimizer."""
    return {"name": _key(job.optimizer)}


def apply(job: TrainingJob, *, name: str) -> TrainingJob:
    """Return the job with another optimizer."""
    return job if _key(name) == _key(job.optimizer) else replace(job, optimizer=name)


def steps(job: TrainingJob, changed: TrainingJob) -> StepsEffect:
    """Return published speed-ups, relative to the job's optimizer."""
    base, name = _key(job.optimizer), _key(changed.optimizer)
    source, date, note = _SOURCES[name]
    if base == name:
        return StepsEffect(1.0, 1.0, 1.0, source, date, "the same optimizer")
    if name in _UNMEASURED:
        low = 1.0 / AGAINST_ADAM[base][2] if base in AGAINST_ADAM else None
        return StepsEffect(low, None, None, source, date, note)
    if base in _UNMEASURED:
        return StepsEffect(None, None, None, source, date, f"{note}; against {base} no figure is published")
    return StepsEffect(*relative(AGAINST_ADAM[name], AGAINST_ADAM[base]), source, date, note)


def quality(job: TrainingJob, changed: TrainingJob) -> str:
    """Return what is known beyond the loss."""
    return "" if _key(job.optimizer) == _key(changed.optimizer) else "learning rate and weight decay must be tuned anew (Wen et al., arXiv:2509.02046)"


def _key(name: str) -> str:
    key = name.strip().lower().replace("-", "_")
    return ALIASES.get(key, key)
