"""Which accelerators fit into which nodes: each into its own, phones into phones."""

import pytest

from effsim import catalog
from effsim.cost.serving import estimate_serving
from effsim.cost.training import estimate_training
from effsim.errors import SpecError
from effsim.specs import loading
from effsim.specs.standing import check_standing, fits


@pytest.mark.parametrize("name", sorted(catalog.files("accelerators")))
def test_every_accelerator_fits_into_its_own_node_by_its_kind(name):
    """Also where it does not name that node."""
    accelerator = loading.accelerator(name)
    assert accelerator.default_node is not None
    assert fits(accelerator.model_copy(update={"default_node": None}), loading.node(accelerator.default_node))


@pytest.mark.parametrize("name", sorted(catalog.files("nodes")))
def test_every_node_says_what_it_takes(name):
    node = loading.node(name)
    assert (node.accelerator is None) == bool(node.device_classes)


@pytest.mark.parametrize(
    ("accelerator", "node"),
    [
        ("h100_sxm", "hgx_h100"), ("h200_sxm", "dgx_h200"), ("a100_sxm_40gb", "dgx_a100"), ("mi325x", "mi300x_node"), ("gh200_144gb", "gh200_node"),
        ("l40s", "workstation"), ("rtx_4090", "pcie_2socket_8gpu"), ("h100_nvl", "pcie_2socket_8gpu"), ("photonic_concept", "phone"),
    ],
)  # fmt: skip
def test_what_is_sold_together_fits(accelerator, node):
    check_standing(loading.accelerator(accelerator), loading.node(node))


@pytest.mark.parametrize(
    ("accelerator", "node", "instead"),
    [
        ("h100_sxm", "phone", "dgx_h100"), ("h100_sxm", "hgx_a100", "hgx_h100"), ("a100_sxm_80gb", "dgx_h100", "hgx_a100"),
        ("b200_sxm", "hgx_b300", "dgx_b200"),
        ("gb200", "dgx_b200", "gb200_nvl72_tray"), ("h100_pcie", "dgx_h100", "pcie_2socket_8gpu"), ("h100_nvl", "hgx_h100", "pcie_2socket_8gpu"),
        ("h100_sxm", "pcie_2socket_8gpu", "dgx_h100"), ("trainium2", "gaudi_node", "trn_node"), ("gaudi3", "trn_node", "gaudi_node"),
        ("tpu_v6e", "tpu_v5e_host", "tpu_v6e_host"), ("m4_pro", "phone", "laptop"), ("raspberry_pi_5", "laptop", "single_board"),
        ("mi355x", "mi300x_node", "mi355x_node"), ("xeon_8480_plus", "dgx_h100", "cpu_server_2socket"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_nodes_that_do(accelerator, node, instead):
    with pytest.raises(SpecError, match=rf"node: {accelerator} does not fit into {node}; nodes that it fits: .*{instead}"):
        check_standing(loading.accelerator(accelerator), loading.node(node))


def test_a_node_of_one_s_own_that_says_nothing_takes_anything():
    node = loading.node("phone").model_copy(update={"device_classes": ()})
    assert fits(loading.accelerator("h100_sxm"), node)


def test_estimates_refuse_the_wrong_node_and_the_wrong_engine():
    with pytest.raises(SpecError, match="node: h100_sxm does not fit into phone"):
        estimate_serving("llama-3.1-8b", "h100_sxm", node="phone")
    with pytest.raises(SpecError, match="node: h100_sxm does not fit into hgx_a100"):
        estimate_training("llama-3.2-1b", "h100_sxm", node="hgx_a100")
    with pytest.raises(SpecError, match=r"engine: megatron is for training; engines for serving: llama.cpp, sglang, tensorrt-llm, vllm"):
        estimate_serving("llama-3.1-8b", "h100_sxm", engine="megatron")
    with pytest.raises(SpecError, match=r"engine: vllm is for serving; engines for training: .*fsdp, .*maxtext, megatron, megatron-2021"):
        estimate_training("llama-3.2-1b", "h100_sxm", engine="vllm")
