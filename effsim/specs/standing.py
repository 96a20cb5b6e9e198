"""Which nodes an accelerator can stand in."""

from effsim import catalog
from effsim.errors import SpecError
from effsim.specs import loading
from effsim.specs.accelerator import Accelerator
from effsim.specs.machine import Node

BRIDGED_CARDS = 2
"""Cards that a bridge joins; what joins more is built into a board."""


def fits(accelerator: Accelerator, node: Node) -> bool:
    """Return whether an accelerator can stand in a node.

    A node that is built with one accelerator takes that one and others of its board: the same architecture, and the same fast network
    over as many. A node that takes cards or chips of any make takes those of its classes that need no board of their own. What is
    hypothetical, what names the node as its own, and nodes that say nothing fit.
    """
    if accelerator.default_node == node.name or accelerator.device_class == "hypothetical":
        return True
    if node.accelerator is not None:
        if accelerator.name == node.accelerator:
            return True
        built_with = loading.accelerator(node.accelerator)
        return accelerator.architecture == built_with.architecture and _board(accelerator) == _board(built_with)
    if not node.device_classes:
        return True
    links = accelerator.scale_up
    is_card = links is None or links.domain_size <= BRIDGED_CARDS or links.network == node.scale_up_network
    return accelerator.device_class in node.device_classes and is_card


def _board(accelerator: Accelerator) -> tuple[str, str | None, int]:
    links = accelerator.scale_up
    return accelerator.device_class, links.network if links else None, links.domain_size if links else 1


def check_standing(accelerator: Accelerator, node: Node) -> None:
    """Check that an accelerator can stand in a node.

    Raises:
        SpecError: It cannot; the message has the nodes of the catalog that it fits.
    """
    if not fits(accelerator, node):
        others = [name for name in catalog.files("nodes") if fits(accelerator, loading.node(name))]
        raise SpecError(f"node: {accelerator.name} does not fit into {node.name}; nodes that it fits: {', '.join(others) or 'none in the catalog'}")
