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
    async_scheduling: bool = Field(default=False, description="the host prepares the next iteration while the device works on this one")
    launch_overhead: Seconds = Field(description="added to each kernel (0 under CUDA graphs)")
    memory_reserve: Bytes = Field(description="device memory that the engine keeps for itself")
    memory_utilization: Ratio = Field(description="share of device memory that weights, KV cache and reserve may take")
    communication_overlap: Ratio = Field(description="share of the exchange of gradients and weights hidden behind computation")
    collective_overlap: Ratio | None = Field(default=None, description="share of the collectives of tensor and expert ranks hidden behind products; None: 0")
    routing_overlap: Ratio | None = Field(
        default=None, description="share of the all-to-all of routed tokens hidden where another micro-batch runs beside it; None: as collective_overlap"
    )
    host_time_per_operation: Seconds | None = Field(
        default=None, description="host time to dispatch an operation of a mixture layer, for whose router device and host wait for each other; None: hidden"
    )
    flat_exchange: bool = Field(default=False, description="gradients and weights go round one ring over all ranks, through one adapter of a node at a time")
    routes_once_per_domain: bool = Field(default=False, description="a token crosses to another node once, however many of its experts lie there (DeepEP)")
    scatters_sums: bool = Field(default=False, description="ZeRO stage 2 scatters gradients when they are summed over a step's micro-batches, not after each")
    repeats_last_product: bool = Field(default=True, description="full recomputation also repeats a layer's last product, whose output nothing needs")
    gradient_bytes: Bytes | None = Field(default=None, description="of a gradient as it is summed and exchanged; None: 4 (fp32)")
    logits_bytes: Bytes | None = Field(default=None, description="of a logit and its gradient together, at the loss; None: 6 (fp32 and 16 bits)")
    gradient_buffers: bool = Field(default=True, description="gradients have buffers of their own throughout; else they come with each backward pass")
    separate_master_weights: bool = Field(default=True, description="a 16-bit copy of the weights stays beside the fp32 ones where ZeRO stage 3 shards both")
    resembles: str | None = Field(default=None, description="an engine whose calibrations are used, with more doubt, where there are none of its own")
    max_num_seqs: int | None = Field(default=None, ge=1)
    max_num_batched_tokens: int | None = Field(default=None, ge=1)
    small_device_memory: Bytes | None = Field(default=None, description="devices with less take the small defaults")
    small_devices: tuple[str, ...] = Field(default=(), description="parts of names of accelerators that take them whatever their memory")
    small_max_num_seqs: int | None = Field(default=None, ge=1)
    small_max_num_batched_tokens: int | None = Field(default=None, ge=1)
    max_captured_tokens: int | None = Field(
        default=None, ge=1, description="iterations of more tokens, or with prefill, launch layers from the host; None: not modelled"
    )
    expert_tile_rows: int | None = Field(default=None, ge=1, description="to which each expert's tokens are padded where kernels are not tuned; None: 16")
    sorts_logits: bool = Field(default=False, description="top-k and top-p sampling sort all logits of a row")
    block_size: int | None = Field(default=None, ge=1)
    chunked_prefill: bool = True
    prefix_caching: bool = False

    def defaults_for(self, memory_bytes: float, accelerator_name: str) -> tuple[int | None, int | None]:
        """Return the engine's own ``max_num_seqs`` and ``max_num_batched_tokens`` on a device.

        Args:
            memory_bytes: Of the device [bytes].
            accelerator_name: The catalog's, such as ``a100_sxm_80gb``.
        """
        least = self.small_device_memory.value if self.small_device_memory else 0.0
        if memory_bytes >= least and not any(part in accelerator_name for part in self.small_devices):
            return self.max_num_seqs, self.max_num_batched_tokens
        return self.small_max_num_seqs or self.max_num_seqs, self.small_max_num_batched_tokens or self.max_num_batched_tokens
