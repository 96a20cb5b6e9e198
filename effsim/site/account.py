"""The account of a run: joules by part, and from them carbon, water and money, at a site, for a set of machines."""

from dataclasses import dataclass
from typing import Any

from effsim.results import Result, plain
from effsim.site.impact import amortised, electricity_cost_usd, operational_carbon_kg, water_of_grid_m3, water_on_site_m3
from effsim.site.power import fan_power_w, host_power_w, site_power_w
from effsim.specs.accelerator import Accelerator
from effsim.specs.machine import Node
from effsim.specs.site import Site


@dataclass(frozen=True, slots=True)
class Use:
    """How a group of equal machines was used.

    A server that is used in part is charged in part: host, fans, price and embodied carbon go by
    ``num_accelerators / accelerators_per_node``; its other accelerators serve other work.

    Args:
        accelerator: The device.
        node: What it stands in.
        num_accelerators: Devices in use.
        duration_s: Time from switching on to the end of the account.
        busy_s: Time in which the host fed them, summed over replicas and divided by the number of replicas.
        accelerator_energy_j: Of all devices, idle time included.
        network_energy_j: Of switches and optics between servers.
        storage_energy_j: Of storage servers, the share of these machines.
        off_s: Part of the duration in which they were off, servers included, mean over the machines: no power, no rent.
    """

    accelerator: Accelerator
    node: Node
    num_accelerators: int
    duration_s: float
    busy_s: float
    accelerator_energy_j: float
    network_energy_j: float = 0.0
    storage_energy_j: float = 0.0
    off_s: float = 0.0

    @property
    def nodes(self) -> float:
        """Servers in use; a fraction where one is shared."""
        return self.num_accelerators / self.node.accelerators_per_node


@dataclass(frozen=True, slots=True)
class EnergyParts(Result):
    """Where the joules at the meter went; every total is the sum of these parts.

    ``facility_j``, and with it the total at the meter, is ``None`` where no site is named. ``network_j`` and ``storage_j`` are what stands
    beside the servers: switches, optics and storage servers, where the load is known to use them.
    """

    accelerator_j: float
    host_j: float
    fan_j: float
    psu_loss_j: float
    facility_j: float | None
    network_j: float = 0.0
    storage_j: float = 0.0

    @property
    def server_j(self) -> float:
        """At the plugs of the servers."""
        return self.accelerator_j + self.host_j + self.fan_j + self.psu_loss_j

    @property
    def it_j(self) -> float:
        """Of servers, network and storage."""
        return self.server_j + self.network_j + self.storage_j

    @property
    def site_j(self) -> float | None:
        """At the meter of the site."""
        return total(self.it_j, self.facility_j)

    def __add__(self, other: "EnergyParts") -> "EnergyParts":
        return EnergyParts(
            self.accelerator_j + other.accelerator_j,
            self.host_j + other.host_j,
            self.fan_j + other.fan_j,
            self.psu_loss_j + other.psu_loss_j,
            total(self.facility_j, other.facility_j),
            self.network_j + other.network_j,
            self.storage_j + other.storage_j,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the parts and the two totals."""
        names = ("accelerator_j", "host_j", "fan_j", "psu_loss_j", "network_j", "storage_j", "facility_j")
        return {**{name: plain(getattr(self, name)) for name in names}, "server_j": self.server_j, "site_j": self.site_j}


def energy_parts(use: Use, site: Site | None) -> EnergyParts:
    """Return where the joules of a group of machines went.

    ``host = nodes · (idle · (duration - off) + (busy - idle) · busy time)``, ``fans`` in proportion to the accelerators' energy,
    ``supply loss = (1 / efficiency - 1) · (accelerators + host + fans)``, ``facility = (PUE - 1) · (server + network + storage)``.
    """
    node = use.node
    busy_share = use.busy_s / use.duration_s if use.duration_s > 0.0 else 0.0
    host_j = use.nodes * use.duration_s * host_power_w(node.host_idle_power.value, node.host_busy_power.value, busy_share)
    host_j -= use.nodes * use.off_s * node.host_idle_power.value
    full_w = use.accelerator.tdp.value * node.accelerators_per_node
    fan_j = 0.0 if node.fan_power is None else fan_power_w(node.fan_power.value, use.accelerator_energy_j, full_w)
    it_j = use.accelerator_energy_j + host_j + fan_j
    loss_j = it_j * (1.0 / node.psu_efficiency.value - 1.0)
    beside_j = use.network_energy_j + use.storage_energy_j
    facility_j = None if site is None else (it_j + loss_j + beside_j) * (site.pue.value - 1.0)
    return EnergyParts(use.accelerator_energy_j, host_j, fan_j, loss_j, facility_j, use.network_energy_j, use.storage_energy_j)


@dataclass(frozen=True, slots=True)
class Impact(Result):
    """What energy at a site means; ``None`` where the site's file does not say."""

    operational_carbon_kg: float
    electricity_usd: float
    water_on_site_m3: float
    water_of_grid_m3: float | None


def impact(energy: EnergyParts, site: Site) -> Impact:
    """Return carbon, bill and water of an amount of energy used at a site."""
    grid = site.water_of_grid
    site_j = site_power_w(energy.it_j, site.pue.value)
    return Impact(
        operational_carbon_kg(site_j, site.carbon_intensity.value),
        electricity_cost_usd(site_j, site.electricity_price.value),
        water_on_site_m3(energy.it_j, site.water_on_site.value),
        None if grid is None else water_of_grid_m3(site_j, grid.value),
    )


@dataclass(frozen=True, slots=True)
class MachineCost(Result):
    """What the machines themselves cost for a duration; ``None`` where a price or footprint is not known.

    ``purchase_usd`` is the share of the purchase price of accelerators and servers; electricity comes on top.
    ``rental_usd`` is the rent of the accelerators with their servers; electricity is in it.
    """

    purchase_usd: float | None
    rental_usd: float | None
    embodied_carbon_kg: float | None

    def __add__(self, other: "MachineCost") -> "MachineCost":
        return MachineCost(
            total(self.purchase_usd, other.purchase_usd),
            total(self.rental_usd, other.rental_usd),
            total(self.embodied_carbon_kg, other.embodied_carbon_kg),
        )


def total(*parts: float | None) -> float | None:
    """Return the sum of parts, or ``None`` where one is not known.

    >>> total(1.0, 2.0), total(1.0, None)
    (3.0, None)
    """
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def machine_cost(use: Use, lifetime_s: float, utilization: float = 1.0) -> MachineCost:
    """Return what the machines of a group cost for the duration of their use.

    Purchase and embodied carbon: ``(accelerators + share of servers) · duration / (lifetime · utilization)``; rent:
    ``price per accelerator and second · accelerators · (duration - off)``.
    """
    device, node = use.accelerator, use.node
    price = _whole(device.purchase_price, node.purchase_price, use)
    footprint = _whole(device.embodied_carbon, node.embodied_carbon, use)
    rent = device.rental_price
    return MachineCost(
        None if price is None else amortised(price, use.duration_s, lifetime_s, utilization),
        None if rent is None else rent.value * use.num_accelerators * (use.duration_s - use.off_s),
        None if footprint is None else amortised(footprint, use.duration_s, lifetime_s, utilization),
    )


def _whole(of_accelerator: Any, of_node: Any, use: Use) -> float | None:
    return total(
        None if of_accelerator is None else of_accelerator.value * use.num_accelerators,
        None if of_node is None else of_node.value * use.nodes,
    )
