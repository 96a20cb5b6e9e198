"""What an estimate rests on: engine and version imitated, calibration, and how many of its inputs nobody has measured."""

from typing import Any


def basis(accelerator: str, node: str | None, engine: str, calibration: str) -> dict[str, Any]:
    """Return names, and counts of the figures and coefficients by kind of knowledge."""
    from collections import Counter

    from effsim.cost.device import prior_for
    from effsim.specs import loading
    from effsim.specs.figure import figures

    device, software = loading.accelerator(accelerator), loading.engine(engine)
    standing = node or device.default_node
    host = None if standing is None else loading.node(standing)
    prior = prior_for(device, calibration, software.name)
    coefficients = dict(loading.calibration(f"prior_{device.device_class}").coefficients)
    if calibration not in {"auto", "none"} or f"prior_{device.device_class}" != prior.name:
        coefficients |= loading.calibration(prior.name if calibration == "auto" else calibration).coefficients
    kinds = Counter(figure.kind for spec in (device, host, software) if spec is not None for _, figure in figures(spec))
    kinds += Counter(coefficient.kind for coefficient in coefficients.values())
    return {
        "engine": f"{software.name}, imitating {software.version}",
        "node": None if host is None else host.name,
        "calibration": prior.name,
        "inputs": sum(kinds.values()),
        "inputs_by_kind": dict(sorted(kinds.items())),
    }


def basis_lines(given: dict[str, Any], provenance: str) -> list[str]:
    """Return the basis in words."""
    kinds = given["inputs_by_kind"]
    share = kinds.get("assumed", 0) / given["inputs"]
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return [
        f"engine: {given['engine']}; node: {given['node'] or 'none known'}",
        f"provenance: {provenance}; calibration: {given['calibration']}",
        f"inputs: {given['inputs']} figures and coefficients, {share:.0%} assumed ({counted})",
    ]
