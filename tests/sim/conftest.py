"""A step model with costs that can be computed by hand, which also keeps what it was asked."""

from collections.abc import Sequence

import pytest


class LinearStep:
    """time = fixed + per token + per sequence; powers are constant."""

    num_accelerators = 1
    longest_window = 0
    windowed_cache = False

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
        return self.step_at(len(decode_contexts), sum(decode_contexts), chunks)

    def step_at(self, decoding: int, keys: float, chunks: Sequence[tuple[int, int]]) -> tuple[float, float, float, float, float]:
        tokens = decoding + sum(new for new, _ in chunks)
        time_s = self.fixed_s + self.token_s * tokens + self.context_s * keys
        return time_s, 100.0 * time_s, 0.3 * tokens, 0.002 * keys, 0.01

    @property
    def computed_tokens(self) -> int:
        return sum(len(contexts) + sum(new for new, _ in chunks) for contexts, chunks in self.calls)


@pytest.fixture(scope="session")
def linear_step() -> type[LinearStep]:
    return LinearStep


class WindowedStep:
    """Half of the layers keep a window. With ``context_s`` 0 all times are sums of eighths of ``scale``, exact in floating point, so that
    arrivals fall on the ends of iterations.
    """

    num_accelerators = 1
    kv_capacity_tokens = 100_000
    idle_power_w = 50.0

    def __init__(self, window: int = 0, windowed_cache: bool = False, context_s: float = 0.0, scale: float = 1.0) -> None:
        self.longest_window = window
        self.windowed_cache = windowed_cache
        self.context_s = context_s
        self.scale = scale

    def cached_tokens(self, tokens: int) -> int:
        return (min(tokens, self.longest_window) + tokens + 1) // 2 if self.windowed_cache else tokens

    def step(self, decode_contexts: Sequence[int], chunks: Sequence[tuple[int, int]]) -> tuple[float, float, float, float, float]:
        return self._cost(len(decode_contexts), sum(min(c, self.longest_window) + c for c in decode_contexts), chunks)

    def step_at(self, decoding: int, keys: float, chunks: Sequence[tuple[int, int]]) -> tuple[float, float, float, float, float]:
        return self._cost(decoding, keys + decoding * self.longest_window, chunks)

    def _cost(self, decoding: int, keys: float, chunks: Sequence[tuple[int, int]]) -> tuple[float, float, float, float, float]:
        tokens = decoding + sum(new for new, _ in chunks)
        time_s = self.scale * (0.25 + 0.125 * tokens + self.context_s * (keys + sum(before for _, before in chunks)))
        return time_s, 100.0 * time_s, 0.3 * tokens, 0.002 * keys, 0.01


@pytest.fixture(scope="session")
def windowed_step() -> type[WindowedStep]:
    return WindowedStep
