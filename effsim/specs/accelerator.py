"""What computes: GPU, TPU, NPU, phone or CPU, as its data sheet describes it."""

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from effsim.errors import SpecError
from effsim.specs.figure import (
    Bytes,
    BytesPerSecond,
    Dollars,
    DollarsPerSecond,
    Figure,
    FlopPerSecond,
    Hertz,
    Kilograms,
    Seconds,
    Sourced,
    Spec,
    Watts,
)

Dtype = Literal["fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp6", "fp4", "int4"]
DeviceClass = Literal["datacenter_gpu", "workstation_gpu", "tpu", "ai_asic", "apple_silicon", "phone", "edge", "cpu", "hypothetical"]

SUBSTITUTES: Final[dict[str, tuple[str, ...]]] = {
    "bf16": ("fp16", "tf32", "fp32"),
    "fp16": ("bf16", "tf32", "fp32"),
    "tf32": ("bf16", "fp32"),
    "fp32": (),
    "fp8": (),
    "int8": (),
    "fp4": (),
}
"""Which units compute a dtype that a device has no peak for, best first (V100: bf16 on fp16 units)."""


class ScaleUp(Spec):
    """The fast network that joins accelerators directly: NVLink, Infinity Fabric, ICI."""

    network: str = Field(description="a name in hardware_specs/networks")
    bandwidth: BytesPerSecond = Field(description="per accelerator and direction")
    domain_size: int = Field(ge=1, description="accelerators that it joins")
    latency: Seconds | None = None


class Accelerator(Sourced):
    """One accelerator (what a driver enumerates as one device).

    ``peak`` holds dense rates; ``sparse_peak`` those with 2:4 sparsity. ``peak["fp32"]`` is the rate of the ordinary
    (vector) units, which elementwise work uses.
    """

    vendor: str
    device_class: DeviceClass
    architecture: str
    status: Literal["shipping", "announced", "discontinued", "hypothetical"] = "shipping"
    launch_year: int | None = Field(default=None, ge=2005, le=2045)
    memory: Bytes
    memory_kind: str | None = None
    memory_is_shared: bool = Field(default=False, description="the operating system and other programs use it too")
    memory_bandwidth: BytesPerSecond
    peak: Annotated[dict[Dtype, FlopPerSecond], Field(min_length=1)]
    sparse_peak: dict[Dtype, FlopPerSecond] = Field(default_factory=dict)
    tdp: Watts
    idle_power: Watts | None = None
    min_power_limit: Watts | None = None
    max_power_limit: Watts | None = None
    compute_units: int | None = Field(default=None, ge=1, description="SMs, CUs, tensor cores or CPU cores that share work")
    boost_clock: Hertz | None = None
    base_clock: Hertz | None = None
    cache: Bytes | None = None
    scale_up: ScaleUp | None = None
    host_link: BytesPerSecond | None = None
    default_node: str | None = Field(default=None, description="a name in hardware_specs/nodes")
    purchase_price: Dollars | None = None
    rental_price: DollarsPerSecond | None = None
    embodied_carbon: Kilograms | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Accelerator":
        for label, figure in (("memory", self.memory), ("memory_bandwidth", self.memory_bandwidth), ("tdp", self.tdp)):
            if figure.value <= 0.0:
                raise ValueError(f"{label} must be positive")
        if self.idle_power is not None and self.idle_power.value >= self.tdp.value:
            raise ValueError(f"idle_power ({self.idle_power.value:g} W) must be below tdp ({self.tdp.value:g} W)")
        for dtype, figure in self.sparse_peak.items():
            if dtype in self.peak and figure.value < self.peak[dtype].value:
                raise ValueError(f"sparse_peak.{dtype} is below the dense peak")
        return self

    def peak_for(self, dtype: str) -> Figure | None:
        """Return the dense peak [FLOP/s] of the units that compute a dtype here, or None where there are none."""
        for candidate in (dtype, *SUBSTITUTES.get(dtype, ())):
            if candidate in self.peak:
                return self.peak[candidate]
        return None

    def check_power_limit(self, limit_w: float | None) -> float:
        """Return the limit in force [W].

        Raises:
            SpecError: Outside what the device accepts.
        """
        highest = (self.max_power_limit or self.tdp).value
        lowest = self.min_power_limit.value if self.min_power_limit else 0.0
        if limit_w is None:
            return highest if self.max_power_limit is None else self.tdp.value
        if not lowest <= limit_w <= highest or limit_w <= 0.0:
            raise SpecError(f"power_limit: {limit_w:g} W given; {self.name} takes {lowest:g} to {highest:g} W")
        return limit_w
