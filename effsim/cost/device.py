"""One device as the cost model sees it: data-sheet figures and coefficients as plain floats."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Final

from effsim import catalog
from effsim.cost.kernels import voltage
from effsim.errors import CalibrationError, SpecError
from effsim.results import Provenance
from effsim.specs import loading
from effsim.specs.accelerator import SUBSTITUTES, Accelerator
from effsim.specs.calibration import Calibration


@dataclasses.dataclass(frozen=True, slots=True)
class Coefficients:
    """What the data sheet does not say. Efficiencies are shares of a data-sheet peak, ``*_power`` shares of the TDP.

    Args:
        gemm_efficiency: Dense product, large shapes.
        grouped_gemm_efficiency: Mixture product, large shapes.
        attention_efficiency: Prefill attention.
        decode_attention_efficiency: Matrix units in decode attention.
        scan_efficiency: State-space and delta-net scans.
        vector_efficiency: Elementwise work, of the vector peak.
        memory_efficiency: Streaming of weights and activations.
        grouped_memory_efficiency: Streaming of experts' weights.
        attention_memory_efficiency: Reading of the KV cache.
        overlap_softness: 0: compute and memory traffic overlap perfectly; 1: not at all.
        gemm_kernel_s: Fixed time of a product [s]; likewise the other kinds.
        expert_imbalance: Load of the fullest rank over the mean.
        link_efficiency: Of the link's bandwidth.
        collective_latency_factor: Multiplies the network's latency.
        host_overhead_factor: Multiplies the engine's host time per iteration.
        idle_power: Of the TDP, where the data sheet gives no idle power.
        static_power: Clocks and voltage on, nothing computed, above idle.
        compute_power: Of arithmetic at the dense peak.
        memory_power: Of traffic at peak bandwidth.
        link_power: Of links at full rate.
        voltage_floor: Voltage at zero clock over that at full clock, extrapolated.
        sampling_efficiency: Of the memory bandwidth, counting 16 bytes per logit; sorting for top-k and top-p passes over them more often.
        quantized_gemm_factor: On the efficiencies of products whose weights have fewer than 16 bits.
        quantized_grouped_factor: Likewise of mixture products.
        quantized_gemm_kernel_s: Added to the fixed time of a product of 8-bit operands [s].
        quantized_grouped_kernel_s: Likewise of a mixture product.
        attention_item_s: Time that decode attention spends on a key-value head of a sequence beside reading it, if it overlapped with nothing [s].
        chunked_attention_s: Host time per iteration to cut the cache of chunked attention into pieces [s].
        eager_attention_s: Host time to launch one attention layer outside captured graphs [s].
        eager_experts_s: Likewise one mixture layer.
        eager_scan_s: Likewise one state-space or delta-net layer.
        sequence_overhead_factor: Multiplies the engine's host time per sequence.
        prompt_share: Of the prompt tokens that is computed in steady state; the rest lies in the prefix cache.
        busy_power: While a kernel moves data or computes, whatever it does.
        grouped_busy_power: Likewise while a mixture product of 16-bit operands runs.
        quantized_busy_power: Likewise of fewer bits.
        attention_busy_power: Likewise while attention or a scan runs.
        elementwise_busy_power: Likewise while an elementwise kernel moves data.
    """

    gemm_efficiency: float
    grouped_gemm_efficiency: float
    attention_efficiency: float
    decode_attention_efficiency: float
    scan_efficiency: float
    vector_efficiency: float
    memory_efficiency: float
    grouped_memory_efficiency: float
    attention_memory_efficiency: float
    overlap_softness: float
    gemm_kernel_s: float
    grouped_gemm_kernel_s: float
    attention_kernel_s: float
    elementwise_kernel_s: float
    expert_imbalance: float
    link_efficiency: float
    collective_latency_factor: float
    host_overhead_factor: float
    idle_power: float
    static_power: float
    compute_power: float
    memory_power: float
    link_power: float
    voltage_floor: float
    sampling_efficiency: float
    quantized_gemm_factor: float
    quantized_grouped_factor: float
    quantized_gemm_kernel_s: float
    quantized_grouped_kernel_s: float
    attention_item_s: float
    chunked_attention_s: float
    eager_attention_s: float
    eager_experts_s: float
    eager_scan_s: float
    sequence_overhead_factor: float
    prompt_share: float
    busy_power: float
    grouped_busy_power: float
    quantized_busy_power: float
    attention_busy_power: float
    elementwise_busy_power: float


COEFFICIENTS: Final = tuple(field.name for field in dataclasses.fields(Coefficients))
MIN_CLOCK: Final = 0.15  # of the full clock; below it no shipped GPU runs (H100: 345 of 1,980 MHz is 0.17)


@dataclasses.dataclass(frozen=True, slots=True)
class Prior:
    """Coefficients with their uncertainty: medians, standard deviations of logarithms, correlation, model discrepancy.

    ``discrepancy_log_sd`` is by output (``time``, ``power``, ``energy``): what no choice of coefficients explains. ``covers``: see
    :class:`~effsim.specs.calibration.Calibration`.
    """

    median: Coefficients
    log_sd: dict[str, float]
    correlation: tuple[tuple[float, ...], ...] | None
    discrepancy_log_sd: dict[str, float]
    provenance: Provenance
    name: str
    covers: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """Everything about one accelerator that the cost functions use, SI floats only.

    Args:
        peak_flop_per_s: Dense rate by dtype, substitutes filled in.
        limit_w: Power limit in force [W].
        compute_units: Units that share the tiles of a product.
        clock: Highest clock, as a share of the full one.
    """

    name: str
    peak_flop_per_s: dict[str, float]
    bandwidth_bytes_per_s: float
    memory_bytes: float
    link_bytes_per_s: float
    tdp_w: float
    datasheet_idle_w: float | None
    limit_w: float
    compute_units: float
    coefficients: Coefficients
    clock: float = 1.0

    @property
    def idle_w(self) -> float:
        """Power with nothing to do [W]."""
        return self.datasheet_idle_w if self.datasheet_idle_w is not None else self.coefficients.idle_power * self.tdp_w

    @property
    def static_w(self) -> float:
        """Power with clocks and voltage on, nothing computed [W]."""
        return self.idle_w + self.coefficients.static_power * (self.tdp_w - self.idle_w)

    @property
    def waiting_w(self) -> float:
        """The same at the highest clock that is set [W]: static power above idle falls with the square of the voltage."""
        return float(self.idle_w + (self.static_w - self.idle_w) * voltage(self.clock, self.coefficients.voltage_floor) ** 2)


def dtypes(accelerator: Accelerator) -> frozenset[str]:
    """Return the dtypes that an accelerator multiplies, those that substitutes compute, and, suffixed ``:2:4``, its sparse ones."""
    own = set(accelerator.peak)
    sparse = {f"{dtype}:2:4" for dtype in accelerator.sparse_peak}
    return frozenset(own | {dtype for dtype, others in SUBSTITUTES.items() if own & set(others)} | sparse)


def build_device(accelerator: Accelerator, coefficients: Coefficients, power_limit_w: float | None = None, clock: float = 1.0) -> Device:
    """Return the device of an accelerator.

    Raises:
        SpecError: The power limit lies outside what the accelerator takes.
    """
    figures = {dtype: accelerator.peak_for(dtype) for dtype in dtypes(accelerator)}
    peaks = {dtype: figure.value for dtype, figure in figures.items() if figure is not None}
    peaks.setdefault("fp32", min(peaks.values()))
    peaks |= {f"{dtype}:2:4": figure.value for dtype, figure in accelerator.sparse_peak.items()}
    return Device(
        name=accelerator.name,
        peak_flop_per_s=peaks,
        bandwidth_bytes_per_s=accelerator.memory_bandwidth.value,
        memory_bytes=accelerator.memory.value,
        link_bytes_per_s=accelerator.scale_up.bandwidth.value if accelerator.scale_up else accelerator.host_link.value if accelerator.host_link else 0.0,
        tdp_w=accelerator.tdp.value,
        datasheet_idle_w=accelerator.idle_power.value if accelerator.idle_power else None,
        limit_w=accelerator.check_power_limit(power_limit_w),
        compute_units=float(accelerator.compute_units or 1),
        coefficients=coefficients,
        clock=clock,
    )


def prior_for(accelerator: Accelerator, calibration: str | Calibration | dict[str, Any] = "auto", engine: str = "", resembles: str = "") -> Prior:
    """Return the coefficients to use for an accelerator.

    They are laid over each other: the prior of the device class, what is known of the engine on that class
    (``prior_<class>_<engine>``), and the calibration.

    Args:
        accelerator: The device.
        calibration: ``"auto"``: the best that the catalog has: ``<accelerator>_<engine>`` (of serving), then
            ``<accelerator>_<engine>_kernels`` (of kernels alone), then ``<accelerator>``; ``"none"``: the class prior alone; else a name,
            path, dict or :class:`~effsim.specs.calibration.Calibration`.
        engine: Whose kernels run: a calibration is of an accelerator under an engine.
        resembles: An engine whose calibrations stand in, with more doubt, where ``engine`` has none.

    Raises:
        CalibrationError: It names coefficients that the model does not have, or belongs to another accelerator.
    """
    base = loading.calibration(f"prior_{accelerator.device_class}")
    if calibration == "none":
        return combine((base,), accelerator.name)
    of_engine, chosen, used = None, None, engine
    for name in filter(None, (engine, resembles)):
        of_engine = _found(f"prior_{accelerator.device_class}_{name}")
        chosen = _found(f"{accelerator.name}_{name}") or _found(f"{accelerator.name}_{name}_kernels")
        used = name
        if of_engine or chosen:
            break
    chosen = (chosen or _found(accelerator.name)) if calibration == "auto" else loading.calibration(calibration)
    prior = combine(tuple(filter(None, (base, of_engine, chosen))), accelerator.name)
    return prior if used == engine or calibration != "auto" or not (of_engine or chosen) else transferred(prior)


def _found(name: str) -> Calibration | None:
    path = catalog.find("calibrations", name)
    return loading.load_file(Calibration, path) if path else None


TRANSFER: Final = 1.5
"""Factor on every spread outside what was calibrated: leaving one accelerator out widens residuals by about so much (docs/validation.md)."""


def transferred(prior: Prior) -> Prior:
    """Return a calibration as used outside what it was fitted to: wider, and said to be so."""
    if prior.provenance == "datasheet":
        return prior
    return dataclasses.replace(
        prior,
        log_sd={name: TRANSFER * sd for name, sd in prior.log_sd.items()},
        discrepancy_log_sd={name: TRANSFER * sd for name, sd in prior.discrepancy_log_sd.items()},
        provenance="transferred",
    )


class _Layers:
    """Calibrations as a cache key, by identity: they are immutable and loaded once."""

    __slots__ = ("given",)

    def __init__(self, given: tuple[Calibration, ...]) -> None:
        self.given = given

    def __hash__(self) -> int:
        return hash(tuple(map(id, self.given)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Layers) and len(other.given) == len(self.given) and all(a is b for a, b in zip(other.given, self.given, strict=True))


def combine(layers: tuple[Calibration, ...], accelerator: str) -> Prior:
    """Return the coefficients of a class prior with others laid over it in turn."""
    return _combined(_Layers(layers), accelerator)


@functools.lru_cache(maxsize=128)
def _combined(key: _Layers, accelerator: str) -> Prior:
    layers = key.given
    for given in layers:
        strange = [name for name in given.coefficients if name not in COEFFICIENTS]
        if strange:
            hint = catalog.suggest(strange[0], COEFFICIENTS)
            raise CalibrationError(f"calibration {given.name!r}: the cost model has no coefficient {strange[0]!r}; {hint}")
        if given.accelerator not in {None, accelerator}:
            raise CalibrationError(f"calibration {given.name!r} is of {given.accelerator!r} and cannot be used for {accelerator!r}")
    merged = {name: coefficient for given in layers for name, coefficient in given.coefficients.items()}
    missing = [name for name in COEFFICIENTS if name not in merged]
    if missing:
        raise CalibrationError(f"calibration {layers[0].name!r} lacks the coefficients {', '.join(missing)}")
    last = layers[-1]
    calibrated: Provenance = "calibrated" if last.kind == "posterior" else "transferred"
    return Prior(
        median=Coefficients(**{name: merged[name].value for name in COEFFICIENTS}),
        log_sd={name: merged[name].log_sd for name in COEFFICIENTS},
        correlation=_correlation(last if len(layers) > 1 else None),
        discrepancy_log_sd={kind: sd for given in layers for kind, sd in given.discrepancy_log_sd.items()},
        provenance="datasheet" if len(layers) == 1 or (last.kind == "prior" and last.engine is None) else calibrated,
        name=last.name,
        covers={str(key): values for key, values in last.covers.items()},
    )


def _correlation(chosen: Calibration | None) -> tuple[tuple[float, ...], ...] | None:
    """Return the correlation over all coefficients; those that the posterior does not have are independent."""
    if chosen is None or chosen.correlation is None:
        return None
    place = {name: i for i, name in enumerate(chosen.coefficients)}
    return tuple(
        tuple(float(a == b) if a not in place or b not in place else chosen.correlation[place[a]][place[b]] for b in COEFFICIENTS) for a in COEFFICIENTS
    )


def peak(device: Device, dtype: str) -> float:
    """Return the dense rate of a dtype [FLOP/s].

    Raises:
        SpecError: The device cannot compute it.
    """
    if dtype not in device.peak_flop_per_s:
        raise SpecError(f"{device.name} has no units for {dtype}; it computes {', '.join(sorted(device.peak_flop_per_s))}")
    return device.peak_flop_per_s[dtype]
