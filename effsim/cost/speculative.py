"""The cost of iterations that draft tokens and check them: the check by the model itself, and what drafting takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

from effsim.cost.step import Row, ServingStep, serving_step_model
from effsim.errors import InfeasibleError, SpecError
from effsim.workload.operations import Parallelism


@dataclass(frozen=True, slots=True)
class Draft:
    """Where drafts come from: a small model, run once per drafted token, or something that takes a share of the check's time and energy.

    Args:
        tokens: Drafted for each sequence in each iteration.
        model: As :func:`effsim.model` takes it; on the same accelerators as the model that checks.
        share: Of the check, where no model is named.

    Raises:
        SpecError: Both of ``model`` and ``share``, or neither.
    """

    tokens: int
    model: Any = None
    share: float | None = None

    def __post_init__(self) -> None:
        if (self.model is None) == (self.share is None):
            raise SpecError("draft: expected either a model or a share of the time of the check")


class SpeculativeStep:
    """Step costs of a replica that drafts; see :func:`drafted`. Attributes as of :class:`~effsim.cost.step.ServingStep`."""

    def __init__(self, target: ServingStep, small: ServingStep | None, draft: Draft) -> None:
        self._target, self._small, self._tokens, self._share = target, small, draft.tokens, draft.share or 0.0
        self.num_accelerators, self.idle_power_w = target.num_accelerators, target.idle_power_w
        self.longest_window, self.windowed_cache = target.longest_window, target.windowed_cache
        self.time_log_sd, self.power_log_sd, self.provenance = target.time_log_sd, target.power_log_sd, target.provenance
        self.kv_capacity_tokens = target.kv_capacity_tokens if small is None else _shared_capacity_tokens(target, small)
        self.cached_tokens = target.cached_tokens

    def step(self, decode_contexts: Sequence[float], chunks: Sequence[tuple[int, int]]) -> Row:
        """Return the cost of an iteration, as :meth:`ServingStep.step`."""
        row = self._target.step(decode_contexts, chunks)
        return self._with_drafts(row, len(decode_contexts), float(sum(decode_contexts)), chunks)

    def step_at(self, decoding: int, keys: float, chunks: Sequence[tuple[int, int]]) -> Row:
        """Return the cost of an iteration, as :meth:`ServingStep.step_at`."""
        return self._with_drafts(self._target.step_at(decoding, keys, chunks), decoding, keys, chunks)

    def _with_drafts(self, row: Row, decoding: int, keys: float, chunks: Sequence[tuple[int, int]]) -> Row:
        """Add the small model's reading of prompts and its steps, or the share of the check."""
        if self._small is None:
            factor = 1.0 + self._share if decoding else 1.0
            return row[0] * factor, row[1] * factor, row[2] * factor, row[3] * factor, row[4] * factor
        if chunks:
            row = _sum(row, self._small.step_at(0, 0.0, chunks), 1.0)
        return _sum(row, self._small.step_at(decoding, keys, ()), float(self._tokens)) if decoding else row


def _sum(row: Row, other: Row, times: float) -> Row:
    time_s, static_j, core_j, memory_j, link_j = other
    return row[0] + times * time_s, row[1] + times * static_j, row[2] + times * core_j, row[3] + times * memory_j, row[4] + times * link_j


def _shared_capacity_tokens(target: ServingStep, small: ServingStep) -> int:
    """Return the tokens that both caches hold of each sequence beside the weights of both models."""
    left_bytes = target.cache_bytes - small.weights_bytes
    tokens = floor(left_bytes / (target.cache_unit_bytes + small.cache_unit_bytes)) * target.data_parallel
    if tokens < 1:
        raise InfeasibleError("no KV cache is left beside the weights of the draft model", "KV cache memory", ("a smaller draft model", "more ranks"))
    return tokens


def drafted(draft: Draft, model: Any, accelerator: Any, parallelism: Parallelism, **settings: Any) -> SpeculativeStep:
    """Return the step costs of a replica that drafts, with the arguments of :func:`~effsim.cost.step.serving_step_model`.

    The small model has no host time of its own, as it runs within the iteration of the other.

    Raises:
        SpecError: A name or setting is wrong.
        InfeasibleError: The weights do not fit, or no cache is left.
    """
    target = serving_step_model(model, accelerator, parallelism, **settings, queries=1 + draft.tokens)
    if draft.model is None:
        return SpeculativeStep(target, None, draft)
    own = {name: value for name, value in settings.items() if name != "precision"}
    return SpeculativeStep(target, serving_step_model(draft.model, accelerator, parallelism, **own).without_host(), draft)
