"""A step model with costs that a reader can check in the head."""

from dataclasses import dataclass
from typing import Any


@dataclass
class FakeStep:
    """10 ms and 1 ms per sequence or thousand prompt tokens, at 500 W; 100 W idle."""

    num_accelerators: int = 4
    kv_capacity_tokens: int = 100_000
    idle_power_w: float = 400.0
    time_log_sd: float = 0.2
    power_log_sd: float = 0.1
    provenance: str = "datasheet"
    time_factor: float = 1.0
    longest_window: float = 0.0
    windowed_cache: bool = False

    def cached_tokens(self, tokens: int) -> int:
        return tokens

    def step(self, decode_contexts: Any, chunks: Any) -> tuple[float, float, float, float, float]:
        return self.step_at(len(decode_contexts), 0.0, chunks)

    def step_at(self, decoding: int, keys: float, chunks: Any) -> tuple[float, float, float, float, float]:
        time_s = self.time_factor * (0.010 + 0.001 * decoding + 1e-6 * sum(new for new, _ in chunks))
        energy_j = 500.0 * self.num_accelerators * time_s
        return time_s, 0.4 * energy_j, 0.3 * energy_j, 0.2 * energy_j, 0.1 * energy_j


def fake_step_model(model: Any, accelerator: Any, parallelism: Any, *, time_factor: float = 1.0, **settings: Any) -> FakeStep:
    return FakeStep(num_accelerators=parallelism.accelerators, idle_power_w=100.0 * parallelism.accelerators, time_factor=time_factor)


SCENARIO: dict[str, Any] = {
    "name": "small",
    "kind": "serving",
    "model": "llama-3.1-8b",
    "fleet": [{"accelerator": "h100_sxm", "node": "dgx_h100", "replicas": 2, "parallelism": {"tensor": 4}}],
    "workload": {"arrivals": {"process": "poisson", "rate": 20}, "prompt_tokens": 200, "output_tokens": 20, "requests": 60},
    "slo": {"ttft_p90": "1 s", "tpot_p90": "100 ms"},
    "site": "us_california",
    "seed": 3,
    "what_if": [{"name": "one replica", "set": {"fleet.0.replicas": 1}}, {"name": "elsewhere", "set": {"site": "sweden"}}],
}
