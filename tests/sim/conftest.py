"""A step model with costs that can be computed by hand, which also keeps what it was asked."""

from collections.abc import Sequence

import pytest


class LinearStep:
    """time = fixed + per token + per sequence; powers are constant."""

    num_accelerators = 1

    def __init__(
        self, fixed_s: float = 0.01, token_s: float = 1e-4, context_s: float = 1e-6, kv_capacity_tokens: int = 100_000, idle_power_w: float = 50.0
    ) -> None:
        self.fixed_s = fixed_s
        self.token_s = token_s
        self.context_s = context_s
        self.kv_capacity_tokens = kv_capacity_tokens
        self.idle_power_w = idle_power_w
        self.calls: list[tuple[tuple[int, ...], tuple[tuple[int, int], ...]]] = []

    def cached_tokens(self, tokens: int) -> int:
        return tokens

    def step(self, decode_contexts: Sequence[int], chunks: Sequence[tuple[int, int]]) -> tuple[float, float, float, float, float]:
        self.calls.append((tuple(decode_contexts), tuple(chunks)))
        tokens = len(decode_contexts) + sum(new for new, _ in chunks)
        time_s = self.fixed_s + self.token_s * tokens + self.context_s * sum(decode_contexts)
        return time_s, 100.0 * time_s, 0.3 * tokens, 0.002 * sum(decode_contexts), 0.01

    @property
    def computed_tokens(self) -> int:
        return sum(len(contexts) + sum(new for new, _ in chunks) for contexts, chunks in self.calls)


@pytest.fixture(scope="session")
def linear_step() -> type[LinearStep]:
    return LinearStep
