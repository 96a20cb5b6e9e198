"""What the cost model says of a small dense network on this machine's processor."""

from dataclasses import dataclass
from typing import Any, Final

from effsim.bench.kernels import gemm, read
from effsim.bench.measure import Instruments, Settings, timed
from effsim.cost.deployment import Deployment, deploy
from effsim.cost.deployment import Settings as Deployed
from effsim.cost.evaluate import evaluate, powered
from effsim.cost.uncertainty import discrepancies, interval, log_sd
from effsim.specs.accelerator import Accelerator
from effsim.specs.loading import accelerator
from effsim.specs.model import Mlp
from effsim.specs.models import model
from effsim.workload.features import Iteration, feature_matrix
from effsim.workload.operations import Parallelism

TEMPLATE: Final = "xeon_8480_plus"
MODEL: Final = "mlp-784-128-10"
ENGINE: Final = "llama.cpp"
LEVEL: Final = 0.9


@dataclass(frozen=True, slots=True)
class Predicted:
    """Time and energy of a batch, each with its 90 % interval.

    Args:
        time_s: Of one pass [s].
        time_low_s: 5 % quantile.
        time_high_s: 95 % quantile.
        energy_j: Of the processor [J].
        energy_low_j: 5 % quantile.
        energy_high_j: 95 % quantile.
    """

    time_s: float
    time_low_s: float
    time_high_s: float
    energy_j: float
    energy_low_j: float
    energy_high_j: float


def this_processor(instruments: Instruments, settings: Settings, template: str = TEMPLATE) -> Accelerator:
    """Return a processor of the catalog brought to the rates that two kernels reach on this machine.

    The large fp32 product gives the peak and the reading of memory the bandwidth, each divided by the efficiency that the class's
    prior expects of it; the cores are those that this process may use; power is the template's, per core.

    Args:
        instruments: The CPU through NumPy.
        settings: How long to measure.
        template: Name in the catalog.
    """
    device, base = instruments.device, accelerator(template)
    prior = deploy(MODEL, base, Parallelism(), Deployed(engine=ENGINE, calibration="none")).prior.median
    product, traffic = gemm.case((1024, 1024, 1024), "fp32"), read.case(64 * 2**20, "fp32")
    rates = []
    for kernel, case, amount in ((gemm, product, product.flop), (read, traffic, traffic.bytes)):
        work = kernel.prepare(case, device)
        median, _ = timed(work.run, device, settings)
        rates.append(amount * work.calls / median.value)
    cores = device.facts.compute_units
    share = cores / (base.compute_units or cores)
    peak = rates[0] / prior.gemm_efficiency
    scaled = {name: _times(figure, peak / base.peak["fp32"].value) for name, figure in base.peak.items()}
    return base.model_copy(
        update={
            "peak": scaled,
            "memory_bandwidth": _times(base.memory_bandwidth, rates[1] / prior.memory_efficiency / base.memory_bandwidth.value),
            "compute_units": cores,
            "tdp": _times(base.tdp, share),
            "idle_power": None if base.idle_power is None else _times(base.idle_power, share),
        }
    )


def _times(figure: Any, factor: float) -> Any:
    ends = {name: None if getattr(figure, name) is None else getattr(figure, name) * factor for name in ("value", "low", "high")}
    return figure.model_copy(update=ends)


def network_model(layer_sizes: tuple[int, ...]) -> Mlp:
    """Return the article's network with these sizes."""
    found = model(MODEL)
    if not isinstance(found, Mlp):
        raise TypeError(f"{MODEL} is a dense network in the catalog, not {type(found).__name__}")
    return found.model_copy(update={"layer_sizes": layer_sizes})


def predict(processor: Accelerator, layer_sizes: tuple[int, ...], batch: int, sparsity: str = "none", calibration: str = "auto") -> Predicted:
    """Return the prediction for one pass of a batch in fp32.

    Args:
        processor: From :func:`this_processor`, or of the catalog.
        layer_sizes: Of the network.
        batch: Samples.
        sparsity: As :class:`effsim.cost.deployment.Settings` takes it.
        calibration: Likewise.
    """
    settings = Deployed(precision="fp32", engine=ENGINE, sparsity=sparsity, calibration=calibration)
    deployment = deploy(network_model(layer_sizes), processor, Parallelism(), settings)

    def outputs(coefficients: Any) -> dict[str, Any]:
        return _outputs(deployment, coefficients, batch)

    values = outputs(deployment.prior.median)
    spread = log_sd(outputs, deployment.prior, discrepancies(deployment.prior, ("time_s",), (), ("energy_j",)))
    ends = {name: interval(float(values[name][0]), float(spread[name][0]), LEVEL) for name in values}
    return Predicted(float(values["time_s"][0]), *ends["time_s"], float(values["energy_j"][0]), *ends["energy_j"])


def _outputs(deployment: Deployment, coefficients: Any, batch: int) -> dict[str, Any]:
    costs = deployment.costs(coefficients)
    found = powered(evaluate(costs, feature_matrix(costs.table.features, Iteration(prefill_seqs=batch, prefill_tokens=1))), costs.device)
    return {"time_s": found.time_s, "energy_j": found.energy_j}
