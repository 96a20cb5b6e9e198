"""What accelerators stand in and are joined by: nodes and networks."""

from typing import Literal

from pydantic import Field, model_validator

from effsim.specs.accelerator import DeviceClass
from effsim.specs.figure import Bytes, BytesPerSecond, Dollars, JoulesPerByte, Kilograms, Ratio, Seconds, Sourced, Watts


class Network(Sourced):
    """One level of interconnect, as one accelerator or one node sees it.

    ``bandwidth`` is per endpoint and direction, ``latency`` one hop's alpha term.
    """

    topology: Literal["switch", "torus", "mesh", "ring", "bus", "fat_tree", "point_to_point"]
    scope: Literal["scale_up", "scale_out", "host"]
    bandwidth: BytesPerSecond
    latency: Seconds
    torus_dimensions: int | None = Field(default=None, ge=1, le=3)
    in_network_reduction: bool = Field(default=False, description="the switch adds up (NVLink SHARP)")
    energy_per_byte: JoulesPerByte | None = None


class Node(Sourced):
    """A server, workstation, phone or board: the host around its accelerators.

    ``host_idle_power`` and ``host_busy_power`` are what everything but accelerators and fans draws (CPU, memory, disks,
    NICs), before the power supply's loss.
    """

    accelerators_per_node: int = Field(ge=1)
    accelerator: str | None = Field(default=None, description="the accelerator that it is built with, if only one")
    device_classes: tuple[DeviceClass, ...] = Field(default=(), description="what it takes, if no single accelerator is named; empty: anything")
    scale_up_network: str | None = None
    scale_up_domain: int = Field(default=1, ge=1, description="accelerators that the fast network joins, across nodes for a rack")
    scale_out_network: str | None = None
    scale_out_bandwidth: BytesPerSecond | None = Field(default=None, description="per accelerator and direction")
    host_idle_power: Watts
    host_busy_power: Watts
    fan_power: Watts | None = Field(default=None, description="at full load")
    cooling: Literal["air", "liquid", "immersion", "passive"] = "air"
    psu_efficiency: Ratio
    host_memory: Bytes | None = None
    cpu: str | None = None
    purchase_price: Dollars | None = Field(default=None, description="without accelerators")
    embodied_carbon: Kilograms | None = Field(default=None, description="without accelerators")

    @model_validator(mode="after")
    def _consistent(self) -> "Node":
        if not 0.0 < self.psu_efficiency.value <= 1.0:
            raise ValueError(f"psu_efficiency must be above 0 and at most 1, got {self.psu_efficiency.value:g}")
        if self.host_idle_power.value > self.host_busy_power.value:
            raise ValueError("host_idle_power must not be above host_busy_power")
        return self
