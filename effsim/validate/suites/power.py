"""Power at the meter of servers: MLPerf Training, MLPerf Inference under a cap, and idle."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from effsim.cost.server import fan_power_w, host_power_w, server_power_w
from effsim.errors import EffSimError
from effsim.specs import loading
from effsim.validate.comparison import PRIOR_ONLY, Comparison, Skipped, SuiteResult
from effsim.validate.context import Context
from effsim.validate.training.calibrated import PLANS
from effsim.validate.training.case import ENERGY_FILE, case, read
from effsim.validate.training.energy import METERED, metered_run
from effsim.validate.training.report import estimate_of

ORDER: Final = 5
TITLE: Final = "Power at the meter (MLPerf)"
SOURCE: Final = "MLPerf Training power (Sustainable Metal Cloud, Lenovo, Dell) and MLPerf Inference v3.0 to v5.1 closed power logs"
INFERENCE_FILE: Final = "inference_energy.json"
INFERENCE: Final = "mlperf_inference_power"
UNSEEN: Final = "calibrated on other runs"
FITTED: Final = "fitted to these rows"
READ_FROM_LOGS: Final = "host power of the catalog was read from these logs"
SYSTEMS: Final = {
    "H200 SXM 141GB": ("h200_sxm", "dgx_h200"),
    "B200 SXM 180GB": ("b200_sxm", "dgx_b200"),
    "A100 PCIe 80GB": ("a100_pcie_80gb", "pcie_2socket_8gpu"),
    "H100 PCIe 80GB": ("h100_pcie", "pcie_2socket_8gpu"),
    "Jetson AGX Orin 32GB (MaxQ)": ("jetson_agx_orin_64gb", "jetson_devkit"),
}
"""Name in the records -> accelerator and node of the catalog."""


def run(context: Context) -> SuiteResult:
    """Return power of nodes and energy per token of metered trainings, and the nodes of MLPerf Inference where the model has an answer.

    Raises:
        SpecError: The records are not there.
    """
    trained, left = _training(context)
    records = [one for one in read(INFERENCE_FILE, context.find(INFERENCE_FILE)) if one["kind"] == INFERENCE]
    capped, rest = _capped(records)
    return SuiteResult(
        name="power",
        title=TITLE,
        source=SOURCE,
        basis="Training: the best calibration of the catalog, which the LoRA run of 8 H100 has calibrated. Inference: data sheets of servers and cards only.",
        comparisons=(*trained, *capped, *_idle(records)),
        skipped=(*left, *rest),
        notes=(
            "Capped: MaxQ runs whose cap is stated, taken to draw it; the row tests the chain from cards to the plug.",
            "Idle: the lowest second of a power log, an upper bound of idle power; all but the B200 rows are where the catalog has its host power from.",
        ),
    )


def _training(context: Context) -> tuple[list[Comparison], list[Skipped]]:
    found: list[Comparison] = []
    left: list[Skipped] = []
    fitted = tuple(plan.metered for plan in PLANS if plan.metered)
    for record in read(ENERGY_FILE, context.find(ENERGY_FILE)):
        if record["kind"] != METERED:
            continue
        one = case(record, METERED, metered_run)
        if one.skipped is not None:
            left.append(Skipped("power", one.record, one.skipped))
            continue
        try:
            estimate = estimate_of(one, context.calibration)[0]
        except EffSimError as error:
            left.append(Skipped("power", one.record, str(error)))
            continue
        nodes, measured_w = record["inputs"]["num_nodes"], float(record["measured"]["avg_node_power_w"])
        seen = PRIOR_ONLY if context.calibration == "none" else FITTED if any(part in one.record for part in fitted) else UNSEEN
        ends = [tuple(end / nodes for end in estimate.interval("server_power_w", level)) for level in (0.5, 0.9)]
        common: dict[str, Any] = {"suite": "power", "cell": "MLPerf Training", "row": one.record, "split": seen}
        found.append(_comparison(common, ("node_power_w", "W"), (measured_w, float(estimate.server_power_w) / nodes), ends))
        measured_j = measured_w * nodes * one.measured_step_time_s / one.tokens_per_step
        predicted_j = float(estimate.server_power_w * estimate.step_time_s) / one.tokens_per_step
        found.append(_comparison(common, ("energy_per_token_j", "J"), (measured_j, predicted_j), None))
    return found, left


def _comparison(common: Mapping[str, Any], quantity: tuple[str, str], values: tuple[float, float], ends: Any) -> Comparison:
    (low_50, high_50), (low_90, high_90) = ends or ((None, None), (None, None))
    measured, predicted = values
    return Comparison(
        **common,
        quantity=quantity[0],
        unit=quantity[1],
        measured=measured,
        predicted=predicted,
        low_50=low_50,
        high_50=high_50,
        low_90=low_90,
        high_90=high_90,
    )


def node_power_w(accelerator: str, node: str, count: int, power_w: float, *, busy: float) -> float:
    """Return the power at the plug of a node whose accelerators draw a given power each [W].

    Args:
        accelerator: Catalog key.
        node: Catalog key.
        count: Accelerators in the node.
        power_w: Of each.
        busy: Share of the time in which the host feeds them, 0 to 1.
    """
    card, host = loading.accelerator(accelerator), loading.node(node)
    all_w = count * power_w
    fans_w = fan_power_w(host.fan_power.value, all_w, count * card.tdp.value) if host.fan_power is not None else 0.0
    host_w = host_power_w(host.host_idle_power.value, host.host_busy_power.value, busy)
    return server_power_w(all_w, host_w, fans_w, host.psu_efficiency.value)


def _capped(records: Iterable[Mapping[str, Any]]) -> tuple[list[Comparison], list[Skipped]]:
    found, left = [], []
    for record in records:
        x = record["inputs"]
        cap_w = x.get("gpu_power_cap_w")
        if cap_w is None:
            why = "an encoder or no language model, and the cap of the cards is not stated"
            left.append(Skipped("power", str(record["id"]), why))
            continue
        key, node = SYSTEMS[x["accelerator"]]
        predicted_w = node_power_w(key, node, int(x["num_accelerators"]), float(cap_w), busy=1.0)
        common = {"suite": "power", "cell": "MLPerf Inference, capped", "row": str(record["id"]), "split": PRIOR_ONLY}
        found.append(_comparison(common, ("node_power_w", "W"), (float(record["measured"]["avg_wall_power_w"]), predicted_w), None))
    return found, left


def _idle(records: Iterable[Mapping[str, Any]]) -> list[Comparison]:
    lowest: dict[str, tuple[float, int]] = {}
    for record in records:
        least_w = record["measured"].get("min_wall_power_in_log_w")
        name = f"{record['inputs']['accelerator']}, {record['inputs']['host']}"
        if least_w is not None:
            lowest[name] = min(lowest.get(name, (float(least_w), 0)), (float(least_w), int(record["inputs"]["num_accelerators"])))
    found = []
    for name, (least_w, _) in lowest.items():
        key, node = SYSTEMS[name.partition(",")[0]]
        count = 1 if node == "jetson_devkit" else 8
        card = loading.accelerator(key)
        if card.idle_power is None:
            continue
        predicted_w = node_power_w(key, node, count, card.idle_power.value, busy=0.0)
        seen = PRIOR_ONLY if node == "dgx_b200" else READ_FROM_LOGS
        common = {"suite": "power", "cell": "MLPerf Inference, idle", "row": name, "split": seen}
        found.append(_comparison(common, ("idle_power_w", "W"), (least_w, predicted_w), None))
    return found
