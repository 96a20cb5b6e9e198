"""The shipped nodes, networks and engines: they load, refer to each other, and lie within physical bounds."""

from collections import Counter

import pytest

from effsim import catalog
from effsim.documents import read_yaml
from effsim.specs import loading
from effsim.specs.figure import figures
from effsim.specs.machine import Node

NODES = sorted(catalog.files("nodes"))
NETWORKS = sorted(catalog.files("networks"))
ENGINES = sorted(catalog.files("engines"))
LOADERS = {"nodes": loading.node, "networks": loading.network, "engines": loading.engine}
FILES = [(kind, name) for kind in LOADERS for name in sorted(catalog.files(kind))]

REQUIRED_NODES = {
    "dgx_a100", "hgx_a100", "dgx_h100", "hgx_h100", "dgx_h200", "dgx_b200", "hgx_b300", "gb200_nvl72_tray", "gb300_nvl72_tray", "gh200_node",
    "pcie_2socket_8gpu", "v100_node", "tpu_v3_host", "tpu_v4_host", "tpu_v5e_host", "tpu_v5p_host", "tpu_v6e_host", "tpu_v7_host", "mi250x_node",
    "mi300x_node", "mi355x_node", "gaudi_node", "trn_node", "inf2_node", "workstation", "laptop", "phone", "single_board", "jetson_devkit",
    "cpu_server_2socket",
}  # fmt: skip
REQUIRED_NETWORKS = {
    "nvlink_2", "nvlink_3", "nvlink_4", "nvlink_5", "infinity_fabric", "gaudi_roce", "neuronlink", "tpu_ici", "tpu_ici_2d", "infiniband_hdr",
    "infiniband_ndr", "infiniband_xdr", "roce_400g", "ethernet_100g", "pcie_4", "pcie_5",
}  # fmt: skip
PER_DIRECTION_BYTES_PER_S = {
    "nvlink_2": 150e9, "nvlink_3": 300e9, "nvlink_4": 450e9, "nvlink_5": 900e9,
    "infiniband_hdr": 25e9, "infiniband_ndr": 50e9, "infiniband_xdr": 100e9, "roce_400g": 50e9, "ethernet_100g": 12.5e9, "pcie_4": 32e9, "pcie_5": 64e9,
}  # fmt: skip


def busy_wall_power_w(node: Node, accelerator_w: float) -> float:
    """Return what a node draws at the wall with every accelerator at ``accelerator_w`` and fans at full speed."""
    fans = node.fan_power.value if node.fan_power else 0.0
    return (node.accelerators_per_node * accelerator_w + node.host_busy_power.value + fans) / node.psu_efficiency.value


def test_nothing_agreed_on_is_missing() -> None:
    assert set(NODES) >= REQUIRED_NODES
    assert set(NETWORKS) >= REQUIRED_NETWORKS
    assert set(ENGINES) >= {"vllm", "tensorrt-llm", "sglang", "llama.cpp", "megatron", "fsdp", "maxtext"}


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_file_loads_under_its_own_name(kind: str, name: str) -> None:
    assert LOADERS[kind](name).name == name


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_every_assumed_figure_has_a_range(kind: str, name: str) -> None:
    assumed = [(path, figure) for path, figure in figures(LOADERS[kind](name)) if figure.kind == "assumed" and figure.value > 0.0]
    assert [path for path, figure in assumed if figure.low is None or figure.high is None] == []


@pytest.mark.parametrize("kind", sorted(LOADERS))
def test_aliases_are_unique(kind: str) -> None:
    names = Counter(form for path in catalog.files(kind).values() for form in {catalog.canonical(n) for n in (path.stem, *read_yaml(path).get("aliases", []))})
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("name", NODES)
def test_node_refers_to_what_exists(name: str) -> None:
    node = loading.node(name)
    assert node.scale_up_network is None or node.scale_up_network in NETWORKS
    assert node.scale_out_network is None or node.scale_out_network in NETWORKS
    assert node.accelerator is None or node.accelerator in catalog.files("accelerators")
    assert (node.scale_out_network is None) == (node.scale_out_bandwidth is None)
    if node.scale_out_network is not None:
        assert loading.network(node.scale_out_network).scope == "scale_out"


@pytest.mark.parametrize("name", sorted(catalog.files("accelerators")))
def test_accelerator_refers_to_what_exists(name: str) -> None:
    accelerator = loading.accelerator(name)
    assert accelerator.default_node is None or accelerator.default_node in NODES
    assert accelerator.scale_up is None or accelerator.scale_up.network in NETWORKS


@pytest.mark.parametrize("name", NODES)
def test_node_is_plausible(name: str) -> None:
    node = loading.node(name)
    share_w = node.host_busy_power.value / node.accelerators_per_node
    assert 0.1 <= share_w <= 700.0
    assert 0.1 <= node.host_idle_power.value / node.host_busy_power.value <= 0.75
    assert 0.75 <= node.psu_efficiency.value <= 0.98
    assert node.scale_up_domain == 1 or node.scale_up_domain >= min(node.accelerators_per_node, 4)
    if node.fan_power is not None and node.accelerators_per_node >= 8:
        assert 0.02 <= node.fan_power.value / busy_wall_power_w(node, 400.0) <= 0.35


@pytest.mark.parametrize(
    ("name", "accelerator_w", "rated_w", "tolerance"),
    [("dgx_h100", 700.0, 10_200.0, 0.15), ("dgx_h200", 700.0, 10_200.0, 0.15), ("dgx_a100", 400.0, 6_500.0, 0.15), ("dgx_b200", 1000.0, 14_300.0, 0.15),
     ("v100_node", 300.0, 3_500.0, 0.15), ("gb200_nvl72_tray", 1200.0, 120_000.0 / 18, 0.15)],
)  # fmt: skip
def test_busy_node_is_near_and_not_far_above_the_vendors_maximum(name: str, accelerator_w: float, rated_w: float, tolerance: float) -> None:
    power_w = busy_wall_power_w(loading.node(name), accelerator_w)
    assert rated_w * (1 - tolerance) <= power_w <= rated_w * 1.03


@pytest.mark.parametrize(
    ("name", "accelerator_idle_w", "metered_w"),
    # Lowest wall readings of MLPerf power logs: upper bounds, with processes loaded. Fans turn at a third of full speed or less: 10 % of full power.
    [("dgx_h200", 100.0, 2358.0), ("pcie_2socket_8gpu", 45.0, 677.0), ("jetson_devkit", 4.0, 6.2)],
)
def test_idle_node_is_near_and_not_far_above_the_metered_one(name: str, accelerator_idle_w: float, metered_w: float) -> None:
    node = loading.node(name)
    fans_w = 0.1 * node.fan_power.value if node.fan_power else 0.0
    idle_w = (node.accelerators_per_node * accelerator_idle_w + node.host_idle_power.value + fans_w) / node.psu_efficiency.value
    assert 0.7 * metered_w <= idle_w <= 1.15 * metered_w


@pytest.mark.parametrize("name", NETWORKS)
def test_network_is_plausible(name: str) -> None:
    network = loading.network(name)
    assert network.bandwidth.value == pytest.approx(PER_DIRECTION_BYTES_PER_S.get(name, network.bandwidth.value))
    assert 1e9 <= network.bandwidth.value <= 2e12
    assert 0.1e-6 <= network.latency.value <= 100e-6
    assert network.energy_per_byte is not None
    assert 8e-12 <= network.energy_per_byte.value <= 8 * 300e-12
    assert (network.torus_dimensions is not None) == (network.topology == "torus")


def test_what_leaves_the_box_costs_more_energy_per_byte() -> None:
    inside = [energy.value for n in NETWORKS if (network := loading.network(n)).scope != "scale_out" and (energy := network.energy_per_byte)]
    outside = [energy.value for n in NETWORKS if (network := loading.network(n)).scope == "scale_out" and (energy := network.energy_per_byte)]
    assert max(inside) < min(outside)


def test_only_switches_that_add_reduce_in_the_network() -> None:
    assert {n for n in NETWORKS if loading.network(n).in_network_reduction} == {"nvlink_4", "nvlink_5"}


@pytest.mark.parametrize("name", ENGINES)
def test_engine_is_plausible(name: str) -> None:
    engine = loading.engine(name)
    assert engine.version
    assert 0.0 <= engine.iteration_overhead.value <= 0.1
    assert 0.0 <= engine.sequence_overhead.value <= 100e-6
    assert 0.0 <= engine.launch_overhead.value <= 10e-6
    assert 0.0 <= engine.memory_reserve.value <= 8 * 2**30
    assert 0.5 <= engine.memory_utilization.value <= 1.0
    assert 0.0 <= engine.communication_overlap.value < 1.0
    serving = (engine.max_num_seqs, engine.max_num_batched_tokens, engine.block_size)
    assert all(value is not None for value in serving) if engine.kind == "serving" else serving == (None, None, None)


def test_engines_go_by_the_names_people_use() -> None:
    names = {"trtllm": "tensorrt-llm", "llamacpp": "llama.cpp", "megatron-lm": "megatron", "megatron-core": "megatron", "torchtitan": "fsdp", "vLLM": "vllm"}
    assert {alias: loading.engine(alias).name for alias in names} == names


def test_no_path_of_a_machine_is_in_a_file() -> None:
    for kind in LOADERS:
        for path in catalog.files(kind).values():
            assert "/home/" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("accelerator", "expected"),
    [("h100_sxm", (1024, 8192)), ("mi300x", (1024, 8192)), ("a100_sxm_80gb", (256, 2048)), ("l40s", (256, 2048)), ("rtx_4090", (256, 2048))],
)
def test_vllm_takes_smaller_defaults_on_smaller_devices(accelerator: str, expected: tuple[int, int]) -> None:
    """As vLLM 0.11, engine/arg_utils.py, get_batch_defaults for the API server: from 70 GiB up, and no A100."""
    device = loading.accelerator(accelerator)
    assert loading.engine("vllm").defaults_for(device.memory.value, device.name) == expected


def test_an_engine_without_small_defaults_has_one_pair() -> None:
    assert loading.engine("sglang").defaults_for(8e9, "a100_pcie_40gb") == (1024, 8192)
    assert loading.engine("megatron").defaults_for(8e9, "h100_sxm") == (None, None)


@pytest.mark.parametrize("name", sorted(catalog.files("accelerators")))
def test_a_board_joins_what_its_node_joins(name: str) -> None:
    """Where both name the same fast network: the domains agree, and the rate of the accelerator lies in the network's range."""
    accelerator = loading.accelerator(name)
    links, node = accelerator.scale_up, loading.node(accelerator.default_node or "")
    if links is None or links.network != node.scale_up_network:
        return
    assert links.domain_size == node.scale_up_domain
    figure = loading.network(links.network).bandwidth
    assert (figure.low or figure.value) <= links.bandwidth.value <= (figure.high or figure.value)


def test_the_gpu_and_its_grace_stay_within_the_module() -> None:
    """1000 W for GPU, CPU and LPDDR5X together; the rest of the host, about 90 W, lies outside."""
    gpu, host = loading.accelerator("gh200"), loading.node("gh200_node")
    assert gpu.tdp.value + host.host_busy_power.value - 90.0 <= 1000.0


@pytest.mark.parametrize("name", ["m1_ultra", "m2_ultra", "m3_ultra"])
def test_ultra_chips_stand_in_a_desktop(name: str) -> None:
    assert loading.accelerator(name).default_node == "mac_studio"
