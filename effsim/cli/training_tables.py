"""The parts of a training step in tables: phases, energy and memory."""

from typing import Any, Final

from effsim.cli.output import cell, print_table, scaled

ENERGY_PARTS: Final = (
    ("accelerator", "accelerators", "energy_j_per_step"),
    ("host", "hosts, fans and power supplies", "host_energy_j_per_step"),
    ("network", "network between servers", "network_energy_j_per_step"),
    ("storage", "storage servers, the job's share", "storage_energy_j_per_step"),
)
"""Part, words, field of the estimate."""
FIGURES: Final = {
    "host": ("host_idle_power", "host_busy_power", "fan_power", "psu_efficiency"),
    "network": ("energy_per_byte",),
    "storage": ("server_idle_power", "server_busy_power", "servers", "read_bandwidth"),
}
KINDS: Final = ("assumed", "datasheet", "fitted", "measured")
"""Weakest first."""


def energy_rows(result: Any, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row per part of the energy of a step, and what its figures are at their weakest; parts that are not known are absent."""
    tokens = float(result.energy_j_per_step) / float(result.energy_per_token_j)
    known = [float(getattr(result, field)) for _, _, field in ENERGY_PARTS]
    total_j = sum(joules for joules in known if joules == joules)  # noqa: PLR0124 -- not a number where no node is known
    rows = []
    for (part, words, field), joules in zip(ENERGY_PARTS, known, strict=True):
        if joules != joules:  # noqa: PLR0124
            continue
        low, high = result.interval(field, 0.9) if field in result.OUTPUTS else (None, None)
        provenance = str(result.provenance) if part == "accelerator" else _weakest(part, options)
        row = {"part": part, "words": words, "energy_j": joules, "j_per_token": joules / tokens, "share": joules / total_j}
        rows.append({**row, "low_j": low, "high_j": high, "provenance": provenance})
    return rows


def _weakest(part: str, options: dict[str, Any]) -> str | None:
    """Return the weakest kind among the figures that a part rests on."""
    from effsim.specs import loading

    accelerator = loading.accelerator(options["accelerator"])
    name = options["node"] or accelerator.default_node
    node = loading.node(name) if name else None
    network = options["network"] or (node.scale_out_network if node else None)
    spec: Any = {
        "host": node,
        "network": loading.network(network) if network else None,
        "storage": loading.storage(options["storage"]),
    }[part]
    kinds = {figure.kind for field in FIGURES[part] if spec is not None and (figure := getattr(spec, field)) is not None}
    return next((kind for kind in KINDS if kind in kinds), None)


def memory_rows(result: Any) -> list[dict[str, Any]]:
    """Return one row per part of the memory of the fullest device [bytes]."""
    from effsim.cost.training_memory import PARTS

    return [{"part": part, "bytes": float(getattr(result.memory, f"{part}_bytes"))} for part in PARTS]


def parts_document(result: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return phases, energy and memory for JSON; what is absent is ``None``."""
    phases = result.phases.astype(object).where(result.phases.notna(), None)
    device_bytes = float(result.memory.device_bytes)
    memory = {"parts": memory_rows(result), "total_bytes": float(result.memory.total_bytes), "device_bytes": device_bytes}
    return {"phases": phases.to_dict(orient="records"), "energy_parts": energy_rows(result, options), "memory_parts": memory}


def print_parts(result: Any, options: dict[str, Any]) -> None:
    """Print phases, energy and memory of a step; phases that do not occur stay out."""
    from effsim.cost.training_phases import PHASE_WORDS
    from effsim.units import BYTES_PER_GIB

    step_s = float(result.step_time_s)
    factor, unit = scaled(step_s, "s")
    frame = result.phases.astype(object).where(result.phases.notna(), None)
    rows: list[tuple[Any, ...]] = []
    for one in frame.to_dict(orient="records"):
        if one["time_s"] > 0.0:
            reach = "" if one["low_s"] is None else f"[{cell(one['low_s'] * factor)}, {cell(one['high_s'] * factor)}]"
            share = f"{one['time_s'] / step_s:.1%}"
            rows.append((PHASE_WORDS[one["phase"]], cell(one["time_s"] * factor), share, reach, cell(one["power_w"] / 1e3), cell(one["energy_j"] / 1e3)))
    rows.append(("step", cell(step_s * factor), "", "", cell(float(result.power_w) / 1e3), cell(float(result.energy_j_per_step) / 1e3)))
    print_table((f"phase of a step ({result.provenance})", unit, "share", "90 % interval", "accelerators, kW", "accelerators, kJ"), rows)
    energies = energy_rows(result, options)
    lines: list[tuple[Any, ...]] = []
    for one in energies:
        reach = "" if one["low_j"] is None else f"[{cell(one['low_j'] / 1e3)}, {cell(one['high_j'] / 1e3)}]"
        lines.append((one["words"], cell(one["energy_j"] / 1e3), reach, cell(one["j_per_token"]), f"{one['share']:.1%}", one["provenance"] or ""))
    lines.append(("all", cell(sum(one["energy_j"] for one in energies) / 1e3), "", cell(sum(one["j_per_token"] for one in energies)), "", ""))
    print_table(("energy of a step", "kJ", "90 % interval", "J/token", "share", "figures"), lines)
    held = [(one["part"], cell(one["bytes"] / BYTES_PER_GIB)) for one in memory_rows(result) if one["bytes"] > 0.0]
    total, there = float(result.memory.total_bytes) / BYTES_PER_GIB, float(result.memory.device_bytes) / BYTES_PER_GIB
    print_table(("memory of the fullest device", "GiB"), [*held, ("all", cell(total)), ("of", cell(there))])
