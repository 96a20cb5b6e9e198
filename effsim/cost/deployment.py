"""One model on one kind of accelerator, split in one way, under one engine: everything that stays fixed while loads vary."""

import dataclasses
from typing import Any, Literal

from effsim import catalog
from effsim.cost.collectives import Fabric, Level
from effsim.cost.device import MIN_CLOCK, Coefficients, Device, Prior, build_device, dtypes, prior_for, transferred
from effsim.cost.estimate import number_or_none
from effsim.cost.evaluate import CostTable, Habits, cost_table
from effsim.cost.kernels import SMALL_ROWS
from effsim.cost.memory import ServingMemory, serving_memory
from effsim.errors import SpecError
from effsim.specs import loading
from effsim.specs.accelerator import Accelerator
from effsim.specs.engine import Engine
from effsim.specs.machine import Network, Node
from effsim.specs.model import GatedDeltaNet, Mamba2, Model, MoeFfn, Transformer
from effsim.specs.models import model as load_model
from effsim.specs.standing import check_standing
from effsim.workload.lowering import Numerics, check_split, lower, numerics
from effsim.workload.operations import OpTable, Parallelism


@dataclasses.dataclass(frozen=True, eq=False)
class Deployment:
    """A resolved configuration; see :func:`deploy`."""

    model: Model
    accelerator: Accelerator
    node: Node | None
    engine: Engine
    parallelism: Parallelism
    numerics: Numerics
    prior: Prior
    fabric: Fabric
    table: OpTable
    power_limit_w: float | None
    memory_utilization: float
    clock: float = 1.0

    def costs(self, coefficients: Coefficients) -> CostTable:
        """Return the cost of the operations under given coefficients."""
        device = build_device(self.accelerator, coefficients, self.power_limit_w, self.clock)
        engine = self.engine
        habits = Habits(engine.launch_overhead.value, engine.expert_tile_rows or SMALL_ROWS, engine.sorts_logits)
        return cost_table(self.table, device, self.fabric, habits)

    def device(self) -> Device:
        """Return the device with the coefficients' medians."""
        return build_device(self.accelerator, self.prior.median, self.power_limit_w, self.clock)

    def serving_memory(self) -> ServingMemory:
        """Return how a device's memory divides between weights, reserve and cache."""
        return serving_memory(self.table, self.accelerator.memory.value, self.memory_utilization, self.engine.memory_reserve.value)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What a configuration needs beside model, accelerator and ranks.

    Args:
        precision: None: the model's own.
        kv_precision: None: 16 bits.
        engine: Name or spec.
        node: None: the accelerator's default node.
        network: Between nodes; None: the node's.
        power_limit_w: Per accelerator [W]; None: the TDP.
        memory_utilization: None: the engine's default.
        calibration: See :func:`~effsim.cost.device.prior_for`.
        phase: ``serve`` or ``train``.
        attention: ``tiled`` or ``naive``.
        sparsity: Of the weights: ``none``, ``unstructured`` or ``2:4``.
        clock: Highest clock as a share of the full one; None: full.
    """

    precision: str | None = None
    kv_precision: str | None = None
    engine: Any = "vllm"
    node: Any = None
    network: Any = None
    power_limit_w: float | None = None
    memory_utilization: float | None = None
    calibration: Any = "auto"
    phase: Literal["serve", "train"] = "serve"
    attention: Literal["tiled", "naive"] = "tiled"
    sparsity: str = "none"
    clock: float | None = None


def model_kind(model: Model) -> Literal["dense", "moe", "hybrid"]:
    """Return ``moe`` where some layers are mixtures, else ``hybrid`` where some mixers are no attention, else ``dense``."""
    if not isinstance(model, Transformer):
        return "dense"
    if any(isinstance(block.ffn, MoeFfn) for block in model.blocks):
        return "moe"
    return "hybrid" if any(isinstance(block.mixer, (Mamba2, GatedDeltaNet)) for block in model.blocks) else "dense"


def _covered(prior: Prior, model: Model, precision: str) -> Prior:
    """Return a prior, wider where it was not fitted to such a model or precision."""
    covers = prior.covers
    inside = model_kind(model) in covers.get("kind", (model_kind(model),)) and precision in covers.get("precision", (precision,))
    return prior if inside else transferred(prior)


def deploy(model: Any, accelerator: Any, parallelism: Parallelism, settings: Settings) -> Deployment:
    """Return a configuration from names, paths or specs.

    Args:
        model: As :func:`effsim.model` takes it.
        accelerator: As :func:`effsim.accelerator` takes it.
        parallelism: Ranks.
        settings: The rest.

    Raises:
        SpecError: A name is unknown, the accelerator does not fit into the node, the engine does something else, or the ranks do not
            divide the model.
    """
    acc, net = loading.accelerator(accelerator), load_model(model)
    standing = settings.node or acc.default_node
    host = loading.node(standing) if standing else None
    if host is not None:
        check_standing(acc, host)
    software = _engine(settings)
    formats = dataclasses.replace(
        numerics(net, settings.precision, settings.kv_precision, dtypes(acc)), attention=settings.attention, sparsity=settings.sparsity
    )
    check_split(net, parallelism)
    fabric = fabric_of(acc, host, loading.network(settings.network) if settings.network else None, parallelism.accelerators)
    utilization = number_or_none("gpu_memory_utilization", settings.memory_utilization, 1.0)
    return Deployment(
        model=net,
        accelerator=acc,
        node=host,
        engine=software,
        parallelism=parallelism,
        numerics=formats,
        prior=_covered(prior_for(acc, settings.calibration, software.name, software.resembles or ""), net, formats.precision),
        fabric=dataclasses.replace(fabric, once_per_domain=software.routes_once_per_domain),
        table=lower(net, _lowered(parallelism, settings.phase), formats, settings.phase),
        power_limit_w=acc.check_power_limit(number_or_none("power_limit_w", settings.power_limit_w)),
        memory_utilization=software.memory_utilization.value if utilization is None else utilization,
        clock=_clock(settings.clock),
    )


def _clock(share: float | None) -> float:
    chosen = 1.0 if share is None else number_or_none("clock", share, 1.0)
    if chosen is None or chosen < MIN_CLOCK:
        raise SpecError(f"clock: {share:g} of the full clock given; allowed: {MIN_CLOCK:g} to 1")
    return chosen


def _engine(settings: Settings) -> Engine:
    software = loading.engine(settings.engine)
    kind = {"serve": "serving", "train": "training"}[settings.phase]
    if software.kind != kind:
        names = [name for name in catalog.files("engines") if loading.engine(name).kind == kind]
        raise SpecError(f"engine: {software.name} is for {software.kind}; engines for {kind}: {', '.join(names)}")
    return software


def _lowered(parallelism: Parallelism, phase: str) -> Parallelism:
    """Return the ranks that shape a micro-batch: in training, stages and replicas enter through the schedule instead."""
    if phase == "serve":
        if parallelism.context > 1:
            raise SpecError(f"context_parallel: {parallelism.context} given; serving is not split along the sequence here: use tensor_parallel")
        return parallelism
    return dataclasses.replace(parallelism, pipeline=1, data=1 if parallelism.expert == 1 else parallelism.data)


HOST_LATENCY_S = 5e-6  # of a copy over PCIe, from call to last byte; NVIDIA, CUDA C++ Best Practices Guide (2025); wide


def fabric_of(accelerator: Accelerator, node: Node | None, between: Network | None = None, accelerators: int = 1) -> Fabric:
    """Return the two levels of network around an accelerator, and its link to the host.

    Inside: the accelerator's own links, else the node's bus. Outside: the network given, else the node's. Bridges that join fewer cards
    than the node's bus are inside, with the bus outside, for jobs of one node, and left out of account for larger ones.
    """
    inner, domain = _inner(accelerator, node)
    host = Level(HOST_LATENCY_S, accelerator.host_link.value) if accelerator.host_link else None
    if node is not None and node.scale_up_network is not None and domain < min(accelerators, node.scale_up_domain):
        bus = _bus(accelerator, node.scale_up_network)
        if accelerators <= node.scale_up_domain:
            return Fabric(domain, inner, bus, host)
        inner, domain = bus, node.scale_up_domain
    if between is not None:
        return Fabric(domain, inner, _level(between, between.bandwidth.value), host)
    if node is None or node.scale_out_network is None:
        return Fabric(domain, inner, None, host)
    outer = loading.network(node.scale_out_network)
    rate = node.scale_out_bandwidth.value if node.scale_out_bandwidth else outer.bandwidth.value
    return Fabric(domain, inner, _level(outer, rate), host)


def _inner(accelerator: Accelerator, node: Node | None) -> tuple[Level | None, int]:
    if accelerator.scale_up is not None:
        links = loading.network(accelerator.scale_up.network)
        wanted = accelerator.scale_up.domain_size
        domain = min(wanted, node.scale_up_domain) if node is not None and node.scale_up_network else wanted
        return _level(links, accelerator.scale_up.bandwidth.value), max(domain, 1)
    if node is None or node.scale_up_network is None:
        return None, 1
    return _bus(accelerator, node.scale_up_network), node.scale_up_domain


def _bus(accelerator: Accelerator, network: str) -> Level:
    bus = loading.network(network)
    return _level(bus, min(bus.bandwidth.value, accelerator.host_link.value) if accelerator.host_link else bus.bandwidth.value)


def _level(network: Network, bytes_per_s: float) -> Level:
    energy = network.energy_per_byte.value if network.energy_per_byte else 0.0
    return Level(network.latency.value, bytes_per_s, network.in_network_reduction, energy)
