"""The software that runs a model: which version is imitated, and what it costs beside the kernels."""

from typing import Literal

from pydantic import Field

from effsim.specs.figure import Bytes, Ratio, Seconds, Sourced


class Engine(Sourced):
    """A serving or training engine. Every default is the engine's own of the version named."""

    kind: Literal["serving", "training"]
    version: str = Field(description="the release that the coefficients imitate")
    iteration_overhead: Seconds = Field(description="host time per iteration that the device waits for")
    sequence_overhead: Seconds = Field(description="host time per running sequence and iteration that the device waits for")
    launch_overhead: Seconds = Field(description="added to each kernel (0 under CUDA graphs)")
    memory_reserve: Bytes = Field(description="device memory that the engine keeps for itself")
    memory_utilization: Ratio = Field(description="share of device memory that weights, KV cache and reserve may take")
    communication_overlap: Ratio = Field(description="share of the exchange of gradients and weights hidden behind computation")
    collective_overlap: Ratio | None = Field(default=None, description="share of the collectives of tensor and expert ranks hidden behind products; None: 0")
    repeats_last_product: bool = Field(default=True, description="full recomputation also repeats a layer's last product, whose output nothing needs")
    max_num_seqs: int | None = Field(default=None, ge=1)
    max_num_batched_tokens: int | None = Field(default=None, ge=1)
    block_size: int | None = Field(default=None, ge=1)
    chunked_prefill: bool = True
    prefix_caching: bool = False
