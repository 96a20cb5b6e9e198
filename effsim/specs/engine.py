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
    routes_once_per_domain: bool = Field(default=False, description="a token crosses to another node once, however many of its experts lie there (DeepEP)")
    repeats_last_product: bool = Field(default=True, description="full recomputation also repeats a layer's last product, whose output nothing needs")
    max_num_seqs: int | None = Field(default=None, ge=1)
    max_num_batched_tokens: int | None = Field(default=None, ge=1)
    small_device_memory: Bytes | None = Field(default=None, description="devices with less take the small defaults")
    small_devices: tuple[str, ...] = Field(default=(), description="parts of names of accelerators that take them whatever their memory")
    small_max_num_seqs: int | None = Field(default=None, ge=1)
    small_max_num_batched_tokens: int | None = Field(default=None, ge=1)
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
