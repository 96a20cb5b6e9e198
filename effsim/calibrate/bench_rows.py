"""Rows of a benchmark run as operations of the cost model.

The run measures PyTorch's or NumPy's kernels; coefficients are of those that engines run. Rows that tell nothing of these are set aside,
with the reason: arithmetic that language models do not run in, several kernels where an engine has one, operands that stayed in a
cache, launches from Python that last longer than the kernel. The transformer's rows are kept to check a fit that has not seen them.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from effsim.bench.run_file import Row, Run
from effsim.calibrate.around_prior import Vector
from effsim.calibrate.kernel_fit import Measured, predicted
from effsim.cost.collectives import Fabric
from effsim.cost.device import Coefficients, build_device
from effsim.cost.evaluate import cost_table
from effsim.errors import CalibrationError, shown
from effsim.specs.accelerator import Accelerator
from effsim.workload.features import ONE
from effsim.workload.operations import Operation, Parallelism, build_table

MODEL_DTYPES: Final = {"bf16", "fp16", "fp8", "int8"}
IN_TURN: Final = "one group after the other"  # as the benchmark calls grouped products that are no single kernel
LAUNCH_RATIO: Final = 2.0  # calls issued from Python that take less than so many empty ones are mostly launch
RATIO_OF_ARITHMETIC: Final = 32.0  # FLOP per byte from which it matters little where operands lie
LEAST_REDUCED_BYTES: Final = 2**20  # below, an all-reduce issued from Python is mostly launch
TYPICAL_LOG_SD: Final = 0.1  # of a kernel's time about the model's: what the interval of a row is weighed against
THROTTLED_WEIGHT: Final = 0.25
WIDE_WEIGHT: Final = 0.8  # below it, a row counts as wide
CHECKS: Final = ("transformer_decode", "transformer_prefill")

UNFUSED: Final = "several kernels in the framework, one in an engine"
SCORES: Final = "attention with its scores in memory, which engines do not do"
DTYPE: Final = "arithmetic that the data sheet lacks or language models do not run in"
ISSUED: Final = "launched from Python, longer than the kernel"
CACHED: Final = "operands stayed in the cache"
THREADLESS: Final = "an empty call on a processor, which starts no threads as kernels do"
SLOWER: Final = "the slower of two methods for the same work"
CHECKED: Final = "kept to check the fit"
NOTHING: Final = "idle power, which the data sheet gives"
BLANK: Final = "neither time nor power"
STRANGE: Final = "of a kind that this version does not know"


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """A row with what it is to the model.

    Args:
        row: As measured.
        operations: Of one call; none: idle.
        devices: That took part.
        limit_w: Power limit in force [W].
        weight: Of its squared residuals: less where its interval is wide or the clock was throttled.
        throttled: Whether it was, other than by a limit set for the row.
    """

    row: Row
    operations: tuple[Operation, ...]
    devices: int
    limit_w: float
    weight: float
    throttled: bool

    @property
    def is_wide(self) -> bool:
        """Whether its interval took weight from it."""
        return self.weight < WIDE_WEIGHT * (THROTTLED_WEIGHT if self.throttled else 1.0)

    @property
    def time_s(self) -> float | None:
        """Measured time of a call, where power is not all that the row is for [s]."""
        return self.row.time_s if self.row.duty_ratio == 1.0 else None


@dataclasses.dataclass(frozen=True, eq=False)
class Readings:
    """What a run says: rows that are fitted, rows that check the fit, and how many were set aside for which reason."""

    fitted: tuple[Reading, ...]
    checks: tuple[Reading, ...]
    aside: Mapping[str, int]


def readings(run: Run, accelerator: Accelerator) -> Readings:
    """Return the rows of a run as the model sees them.

    Args:
        run: Measured on the accelerator.
        accelerator: Its data sheet.
    """
    fitted: list[Reading] = []
    checks: list[Reading] = []
    aside: dict[str, int] = {}
    for row in run.rows:
        reason = _reason(row, run, accelerator)
        if reason in {None, CHECKED}:
            (fitted if reason is None else checks).append(_reading(row, accelerator))
        if reason is not None:
            aside[reason] = aside.get(reason, 0) + 1
    return Readings(tuple(fitted), tuple(checks), aside)


def _reason(row: Row, run: Run, accelerator: Accelerator) -> str | None:
    """Return why a row is not fitted, or None."""
    kind = _kind(row)
    if kind not in _LOWERED:
        return STRANGE
    is_cpu = run.device.get("kind") == "cpu"
    tests = (
        (BLANK, not row.time_s and not row.power_w),
        (NOTHING, kind == "idle" and accelerator.idle_power is not None),
        (DTYPE, kind in _ARITHMETIC and not _computes(row.dtype, accelerator, is_cpu=is_cpu)),
        (SCORES, "attention" in kind and row.implementation.startswith("numpy")),
        (CHECKED, kind in CHECKS),
        (UNFUSED, kind == "elementwise" and row.shape.get("operation") != "add"),
        (THREADLESS, kind == "launch" and is_cpu),
        (ISSUED, row.bytes < LEAST_REDUCED_BYTES if kind == "all_reduce" else not is_cpu and _is_launch(row, run)),
        (SLOWER, kind == "decode_attention" and row is not min(_alike(row, run), key=lambda one: one.time_s or math.inf)),
        (CACHED, kind not in {"launch", "all_reduce", "idle"} and _is_cached(row, number_of(run, "cache_bytes"))),
    )
    return next((reason for reason, applies in tests if applies), None)


def number_of(run: Run, fact: str) -> int:
    """Return a whole number that the run states of its device; 0 where it states none."""
    value = run.device.get(fact)
    return value if isinstance(value, int) else 0


def _kind(row: Row) -> str:
    return row.kind.removesuffix("_duty")


def _computes(dtype: str, accelerator: Accelerator, *, is_cpu: bool) -> bool:
    return dtype in accelerator.peak and (dtype in MODEL_DTYPES or (is_cpu and dtype == "fp32"))


def _alike(row: Row, run: Run) -> list[Row]:
    """Return the rows of the same work by any method."""

    def work(one: Row) -> Any:
        return one.kind, one.dtype, one.power_limit_w, {name: value for name, value in one.shape.items() if name != "method"}

    return [one for one in run.rows if work(one) == work(row)]


def _is_launch(row: Row, run: Run) -> bool:
    """Return whether a call was issued by the host of an accelerator and took hardly longer than an empty one."""
    if row.launch != "eager" or row.time_s is None:
        return False
    empty = [one.time_s for one in run.rows if one.kind == "launch" and one.shape.get("mode") == "issued" and one.time_s]
    return row.kind == "launch" or (bool(empty) and row.time_s < LAUNCH_RATIO * empty[0])


def _is_cached(row: Row, cache_bytes: int) -> bool:
    return row.flop < RATIO_OF_ARITHMETIC * row.bytes and row.buffers * row.bytes < cache_bytes


def _reading(row: Row, accelerator: Accelerator) -> Reading:
    after = row.conditions.get("after", {})
    enforced = after.get("power_limit_w") if isinstance(after, Mapping) else None
    enforced = enforced if isinstance(enforced, (int, float)) and 0.0 < enforced < math.inf else None
    throttled = row.power_limit_w is None and any(note.startswith("throttled") for note in row.notes)
    weight = 1.0 / (1.0 + (_log_sd(row) / TYPICAL_LOG_SD) ** 2)
    return Reading(
        row=row,
        operations=_LOWERED[_kind(row)](row),
        devices=int(_size(row, "devices")) if row.kind == "all_reduce" else 1,
        limit_w=float(row.power_limit_w or enforced or accelerator.tdp.value),
        weight=weight * (THROTTLED_WEIGHT if throttled else 1.0),
        throttled=throttled,
    )


def _log_sd(row: Row) -> float:
    """Return the standard deviation of the logarithm of a row's time, from its interval."""
    if not row.time_low_s or not row.time_high_s or not row.confidence:
        return 0.0
    return math.log(row.time_high_s / row.time_low_s) / (2.0 * NormalDist().inv_cdf(0.5 + 0.5 * min(row.confidence, 0.999)))


def _size(row: Row, name: str) -> float:
    value = row.shape.get(name)
    if not isinstance(value, int) or value < 1:
        raise CalibrationError(f"row {row.key}: {name} must be a whole number above 0, got {shown(value)}")
    return float(value)


def _simple(row: Row) -> tuple[Operation, ...]:
    """Return work on each element; a copy counts one operation for each, so that it is work at all."""
    flop = row.flop or _size(row, "elements")
    return (Operation("simple", "elementwise", 1.0, {ONE: flop}, {ONE: row.bytes}, {}, "fp32"),)


def _product(row: Row) -> tuple[Operation, ...]:
    m, n, k = (_size(row, name) for name in "mnk")
    return (
        Operation("product", "gemm", 1.0, {ONE: row.flop}, {ONE: row.bytes}, {}, row.dtype, rows={ONE: m}, cols=int(n), inner=int(k), weight_elements=n * k),
    )


def _grouped(row: Row) -> tuple[Operation, ...]:
    n, k, groups = _size(row, "n"), _size(row, "k"), _size(row, "touched_experts")
    pairs = {ONE: _size(row, "tokens") * _size(row, "top_k")}
    launches = groups if IN_TURN in row.implementation else 1.0
    return (
        Operation(
            "grouped", "grouped_gemm", 1.0, {ONE: row.flop}, {ONE: row.bytes}, {}, row.dtype, rows=pairs, cols=int(n), inner=int(k),
            groups={ONE: groups}, kernels=launches, weight_elements=n * k,
        ),
    )  # fmt: skip


def _decode(row: Row) -> tuple[Operation, ...]:
    items = {ONE: _size(row, "batch") * _size(row, "kv_heads")}
    return (Operation("decode", "decode_attention", 1.0, {ONE: row.flop}, {ONE: row.bytes}, {}, row.dtype, rows=items),)


def _prefill(row: Row) -> tuple[Operation, ...]:
    return (Operation("prefill", "prefill_attention", 1.0, {ONE: row.flop}, {ONE: row.bytes}, {}, row.dtype),)


def _reduced(row: Row) -> tuple[Operation, ...]:
    """Return an all-reduce; the row's bytes are what a ring sends, ``2 (n - 1) / n`` times each device's own."""
    devices = _size(row, "devices")
    if devices < 2.0:  # noqa: PLR2004 -- one has nothing to reduce
        raise CalibrationError(f"row {row.key}: devices must be at least 2, got {devices:g}")
    payload = {ONE: row.bytes * devices / (2.0 * (devices - 1.0))}
    return (Operation("reduce", "collective", 1.0, {}, {}, {}, collective="all_reduce", axis="tensor", payload=payload),)


def _transformer(row: Row) -> tuple[Operation, ...]:
    """Return the benchmark's small transformer: in each layer two norms, four products, attention, a gated activation, two sums; then logits."""
    names = ("batch", "context", "layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocabulary")
    batch, context, layers, hidden, heads, kv_heads, width, ffn, words = (_size(row, name) for name in names)
    item = {"fp32": 4.0}.get(row.dtype, 2.0)
    decoding = row.kind == "transformer_decode"
    tokens = batch * (1.0 if decoding else context)
    inner = heads * width

    def product(m: float, n: float, k: float, count: float) -> Operation:
        moved = (m * k + k * n + m * n) * item
        shape: dict[str, Any] = {"rows": {ONE: m}, "cols": int(n), "inner": int(k), "weight_elements": n * k}
        return Operation("product", "gemm", count, {ONE: 2.0 * m * n * k}, {ONE: moved}, {}, row.dtype, **shape)

    def simple(elements: float, arrays: float, count: float) -> Operation:
        return Operation("simple", "elementwise", count, {ONE: 4.0 * elements}, {ONE: arrays * elements * item}, {}, "fp32")

    keys = batch * (context if decoding else context * (context + 1.0) / 2.0)
    cached = 2.0 * batch * context * kv_heads * width * item
    attention = Operation(
        "attention", "decode_attention" if decoding else "prefill_attention", layers, {ONE: 4.0 * keys * heads * width},
        {ONE: cached + 2.0 * tokens * inner * item}, {}, row.dtype, rows={ONE: batch * kv_heads} if decoding else {},
    )  # fmt: skip
    products = ((inner + 2.0 * kv_heads * width, hidden), (hidden, inner), (2.0 * ffn, hidden), (hidden, ffn))
    return (
        *(product(tokens, n, k, layers) for n, k in products),
        product(batch, words, hidden, 1.0),
        attention,
        simple(tokens * hidden, 2.0, 2.0 * layers + 1.0),
        simple(tokens * ffn, 3.0, layers),
        simple(tokens * hidden, 3.0, 2.0 * layers),
    )


_LOWERED: Final[dict[str, Callable[[Row], tuple[Operation, ...]]]] = {
    **dict.fromkeys(("copy", "read", "elementwise", "launch"), _simple),
    **dict.fromkeys(CHECKS, _transformer),
    "gemm": _product,
    "grouped_gemm": _grouped,
    "decode_attention": _decode,
    "prefill_attention": _prefill,
    "all_reduce": _reduced,
    "idle": lambda _: (),
}
_ARITHMETIC: Final = {"gemm", "grouped_gemm", "decode_attention", "prefill_attention", *CHECKS}


Predict = Callable[[Coefficients], tuple[Vector, Vector]]


def predictor(found: Sequence[Reading], accelerator: Accelerator, fabric: Fabric) -> Predict:
    """Return a function from coefficients to time [s] and mean power [W] of readings, shape (reading,); an idle one takes no time: NaN.

    With calls in a share of the window only, the rest is spent with clocks up and nothing computed:
    ``P = P_static + calls t (P_call - P_static) / window``.

    Args:
        found: Readings.
        accelerator: That was measured.
        fabric: That joins several of them.
    """
    groups: dict[tuple[int, float], list[int]] = {}
    for place, one in enumerate(found):
        if one.operations:
            groups.setdefault((one.devices, one.limit_w), []).append(place)
    parts = [(np.array(places), _measured([found[i] for i in places], key, accelerator, fabric)) for key, places in groups.items()]
    idle = np.array([not one.operations for one in found], dtype=bool)
    partial = np.array([0.0 < one.row.duty_ratio < 1.0 for one in found], dtype=bool)
    rate = np.array([one.row.window_calls / one.row.window_s if one.row.window_s else 0.0 for one in found])

    def predict(coefficients: Coefficients) -> tuple[Vector, Vector]:
        device = build_device(accelerator, coefficients)
        time_s, power_w = np.full(len(found), np.nan), np.full(len(found), device.idle_w)
        for places, measured in parts:
            time_s[places], power_w[places] = predicted(measured, coefficients)
        busy = np.where(partial, np.minimum(np.nan_to_num(rate * time_s), 1.0), 1.0)
        mean_w = device.static_w + busy * (power_w - device.static_w)
        return time_s, np.where(idle, power_w, mean_w)

    return predict


def _measured(group: Sequence[Reading], key: tuple[int, float], accelerator: Accelerator, fabric: Fabric) -> Measured:
    devices, limit_w = key
    marked = [dataclasses.replace(op, name=str(place)) for place, one in enumerate(group) for op in one.operations]
    table = build_table(marked, Parallelism(tensor=devices))
    blank = np.full(len(group), np.nan)

    def costs(coefficients: Coefficients) -> Any:
        return cost_table(table, build_device(accelerator, coefficients), fabric)

    return Measured("run", costs, np.array([int(op.name) for op in table.operations]), blank, None, limit_w)
