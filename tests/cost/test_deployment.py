"""The levels of network around an accelerator: its own links, bridges, the bus, the network between nodes."""

import pytest

from effsim.cost.deployment import fabric_of
from effsim.specs import loading


@pytest.mark.parametrize(
    ("accelerator", "bridge_bytes_per_s"), [("a100_pcie_80gb", 300e9), ("a100_pcie_40gb", 300e9), ("a30", 100e9), ("a40", 56.25e9), ("h100_nvl", 300e9)]
)
def test_bridged_cards_use_the_bus_beyond_a_pair_and_the_network_beyond_a_node(accelerator, bridge_bytes_per_s):
    card, node = loading.accelerator(accelerator), loading.node("pcie_2socket_8gpu")
    pair, box, two_boxes = (fabric_of(card, node, None, accelerators) for accelerators in (2, 8, 16))
    assert (pair.domain, pair.inner.bytes_per_s) == (2, bridge_bytes_per_s)
    bus = card.host_link.value
    assert (box.domain, box.inner.bytes_per_s, box.outer.bytes_per_s) == (2, bridge_bytes_per_s, bus)
    assert (two_boxes.domain, two_boxes.inner.bytes_per_s, two_boxes.outer.bytes_per_s) == (8, bus, node.scale_out_bandwidth.value)


@pytest.mark.parametrize("accelerators", [1, 8, 64])
def test_boards_keep_their_links(accelerators):
    fabric = fabric_of(loading.accelerator("h100_sxm"), loading.node("dgx_h100"), None, accelerators)
    assert (fabric.domain, fabric.inner.bytes_per_s, fabric.outer.bytes_per_s) == (8, 450e9, 50e9)


def test_cards_without_bridges_use_the_bus():
    fabric = fabric_of(loading.accelerator("l40s"), loading.node("pcie_2socket_8gpu"), None, 4)
    assert (fabric.domain, fabric.inner.bytes_per_s) == (8, loading.accelerator("l40s").host_link.value)
