"""What data and checkpoints are read from and written to: shared file systems, and disks inside the nodes."""

from pydantic import Field, model_validator

from effsim.specs.figure import BytesPerSecond, Count, Sourced, Watts


class Storage(Sourced):
    """A unit of storage and the compute nodes that it is laid out for.

    ``node_*_bandwidth`` is what one node's client reaches, ``*_bandwidth`` what all nodes of the unit reach together. Without the
    latter the storage lies inside the nodes and grows with them; its power is then part of the host's.
    """

    read_bandwidth: BytesPerSecond | None = None
    write_bandwidth: BytesPerSecond | None = None
    node_read_bandwidth: BytesPerSecond
    node_write_bandwidth: BytesPerSecond
    served_nodes: Count | None = Field(default=None, description="compute nodes that share one unit")
    grows_with_nodes: bool = Field(default=False, description="a larger cluster has as many units more")
    servers: Count | None = Field(default=None, description="of one unit")
    server_idle_power: Watts | None = None
    server_busy_power: Watts | None = Field(default=None, description="while all of them read or write at the unit's bandwidth")

    @model_validator(mode="after")
    def _consistent(self) -> "Storage":
        shared = (self.read_bandwidth, self.write_bandwidth, self.served_nodes, self.servers, self.server_idle_power, self.server_busy_power)
        given = [part is not None for part in shared]
        if any(given) and not all(given):
            raise ValueError(
                "shared storage states all of read_bandwidth, write_bandwidth, served_nodes, servers and the power of a server; local storage none"
            )
        rates = (self.node_read_bandwidth, self.node_write_bandwidth, self.read_bandwidth, self.write_bandwidth, self.served_nodes)
        if any(rate is not None and rate.value <= 0.0 for rate in rates):
            raise ValueError("bandwidths and served_nodes must be above 0")
        if self.server_idle_power and self.server_busy_power and self.server_idle_power.value > self.server_busy_power.value:
            raise ValueError("server_idle_power must not be above server_busy_power")
        return self
