"""What a replica is made of: its step costs, its host, and the limits of its engine."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from effsim.errors import SpecError
from effsim.sim.request import InFlight
from effsim.sim.speculation import Speculation

CONTINUOUS: Final = "continuous"
PREFILL_FIRST: Final = "prefill_first"
STATIC: Final = "static"
Batching = Literal["continuous", "prefill_first", "static"]
DROP_KV: Final = "needs more KV blocks than a replica has"
DROP_BUDGET: Final = "longer than max_num_batched_tokens without chunked prefill"

Pick = Callable[[Sequence[InFlight], float], int]
Cost = tuple[float, float, float, float, float]
"""Time [s] and static, core, memory and link energy [J] of an iteration, over all accelerators of a replica."""


class StepModel(Protocol):
    """The cost of one iteration of one replica."""

    @property
    def num_accelerators(self) -> int:
        """Accelerators of the replica."""

    @property
    def kv_capacity_tokens(self) -> int:
        """Tokens whose keys and values fit."""

    @property
    def idle_power_w(self) -> float:
        """All accelerators of the replica when nothing runs."""

    @property
    def longest_window(self) -> float:
        """Tokens that the widest attention window keeps; 0 without one; infinite where attention restarts in chunks."""

    @property
    def windowed_cache(self) -> bool:
        """Some layer drops what has left its window, so that a sequence's cache does not grow by one token per token."""

    def cached_tokens(self, tokens: int) -> int:
        """Return how much of ``kv_capacity_tokens`` a sequence of so many tokens takes: less where layers keep only a window."""

    def step(self, decode_contexts: Sequence[float], chunks: Sequence[tuple[int, int]]) -> Cost:
        """Return the cost of an iteration.

        Args:
            decode_contexts: KV tokens that each decoding sequence reads, its new token included.
            chunks: (new tokens, tokens in the cache before) of each prefill chunk.
        """

    def step_at(self, decoding: int, keys: float, chunks: Sequence[tuple[int, int]]) -> Cost:
        """Return the cost of an iteration whose ``decoding`` sequences, none shorter than the widest window, read ``keys`` tokens in all."""


@dataclass(frozen=True, slots=True)
class HostShare:
    """What one replica draws beside its accelerators: its share of host and fans [W], and the supply's efficiency."""

    idle_w: float = 0.0
    busy_w: float = 0.0
    fan_w: float = 0.0
    psu_efficiency: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.idle_w <= self.busy_w < math.inf or not 0.0 <= self.fan_w < math.inf or not 0.0 < self.psu_efficiency <= 1.0:
            raise SpecError(f"host: expected 0 <= idle_w <= busy_w, 0 <= fan_w and 0 < psu_efficiency <= 1, got {self}")


@dataclass(frozen=True, slots=True)
class ReplicaSetup:
    """One replica and the limits of its engine.

    Args:
        step_model: Its costs.
        max_num_seqs: Sequences running at once.
        max_num_batched_tokens: Tokens per iteration.
        block_size: Tokens per KV block.
        num_gpu_blocks: KV blocks; None: as many as fit ``step_model.kv_capacity_tokens``.
        chunked_prefill: Prompts may be split over iterations.
        scheduler: A file name in ``sim/policies`` with ``pick``.
        host: Its share of a server.
        batching: ``continuous``: prompts beside what decodes, as vLLM V1; ``prefill_first``: iterations with prompts have nothing else, as
            Orca's and vLLM V0's; ``static``: nothing is admitted until the batch has ended.
        long_prefill_tokens: Most tokens of one prompt in an iteration; 0: no such limit.
        prefix_caching: Blocks are found again by their contents, where the requests or a preemption tell them.
        prefix_hit_ratio: Share of each prompt that is found where nothing tells its contents; its blocks are taken all the same.
        speculation: Drafts that are checked in each iteration; the step model has to have their costs. None: none.

    Raises:
        SpecError: A limit below 1, no KV block, or a setting that excludes another.
    """

    step_model: StepModel
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    block_size: int = 16
    num_gpu_blocks: int | None = None
    chunked_prefill: bool = True
    scheduler: str = "fcfs"
    host: HostShare = HostShare()
    batching: Batching = CONTINUOUS
    long_prefill_tokens: int = 0
    prefix_caching: bool = False
    prefix_hit_ratio: float = 0.0
    speculation: Speculation | None = None

    def __post_init__(self) -> None:
        limits = {"max_num_seqs": self.max_num_seqs, "max_num_batched_tokens": self.max_num_batched_tokens, "block_size": self.block_size}
        for name, value in {**limits, "num_gpu_blocks": self.kv_blocks if self.block_size > 0 else 1}.items():
            if value < 1:
                raise SpecError(f"engine.{name}: expected at least 1, got {value}")
        if self.batching not in {CONTINUOUS, PREFILL_FIRST, STATIC}:
            raise SpecError(f"engine.batching: expected continuous, prefill_first or static, got {self.batching!r}")
        if self.long_prefill_tokens < 0 or (self.long_prefill_tokens and not self.chunked_prefill):
            raise SpecError(f"engine.long_prefill_tokens: expected 0, or with chunked prefill a positive number, got {self.long_prefill_tokens}")
        if not 0.0 <= self.prefix_hit_ratio <= 1.0:
            raise SpecError(f"engine.prefix_hit_ratio: expected 0 to 1, got {self.prefix_hit_ratio:g}")

    @property
    def finds_prefixes(self) -> bool:
        """Whether blocks are found again: not where layers keep windows or states."""
        model = self.step_model
        return self.prefix_caching and not model.windowed_cache and model.cached_tokens(self.block_size) == self.block_size

    @property
    def tokens_per_sequence(self) -> int:
        """Tokens that an iteration computes for each decoding sequence: its next one and what is drafted."""
        return 1 if self.speculation is None else 1 + self.speculation.draft_tokens

    def share(self, request: InFlight, budget: int, hit: int = 0) -> int:
        """Return the tokens that a request takes of a budget, ``hit`` of its remaining ones being in the cache."""
        if request.decodes:
            return min(self.tokens_per_sequence, budget)
        new = min(request.remaining - hit, budget)
        return min(new, self.long_prefill_tokens) if self.long_prefill_tokens else new

    def assumed_hit(self, request: InFlight) -> int:
        """Return the tokens of a newcomer that count as found by the ratio, in whole blocks and short of its last token."""
        if not self.prefix_hit_ratio or request.computed or request.preemptions or request.prefix is not None or request.session >= 0:
            return 0
        return min(int(self.prefix_hit_ratio * request.prompt_tokens), request.prompt_tokens - 1) // self.block_size * self.block_size

    def blocks_for(self, tokens: int) -> int:
        """Return the KV blocks of a sequence of so many tokens."""
        return -(-self.step_model.cached_tokens(tokens) // self.block_size)

    @property
    def kv_blocks(self) -> int:
        """KV blocks in force."""
        return self.step_model.kv_capacity_tokens // self.block_size if self.num_gpu_blocks is None else self.num_gpu_blocks

    @property
    def most_tokens(self) -> int:
        """Tokens that a request may surely have in the cache when it ends; a cache of windows may hold more."""
        most = min(self.kv_blocks * self.block_size, self.step_model.kv_capacity_tokens)
        while most > 0 and self.blocks_for(most) > self.kv_blocks:
            most -= max(1, self.step_model.cached_tokens(most) - self.kv_blocks * self.block_size)
        return most if self.chunked_prefill else min(most, self.max_num_batched_tokens)

    def refusal(self, request: InFlight) -> str | None:
        """Return why a request can never be served here, or None."""
        if self.blocks_for(request.kv_tokens) > self.kv_blocks:
            return DROP_KV
        if not self.chunked_prefill and request.kv_tokens > self.max_num_batched_tokens:
            return DROP_BUDGET
        return None
