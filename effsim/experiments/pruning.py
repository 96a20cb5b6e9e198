"""The founding article's experiment, measured: a small classifier pruned and quantised; time, energy, size and accuracy at each step."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from effsim.bench.case import Case, Work
from effsim.bench.measure import Instruments, measure
from effsim.bench.measure import Settings as Measuring
from effsim.bench.run_file import Row
from effsim.experiments.classifier import Data, Network, Recipe, accuracy, initial, trained
from effsim.experiments.compression import Compressed, Quantized, prune_magnitude, prune_neurons
from effsim.experiments.prediction import Predicted, predict, this_processor
from effsim.results import Result
from effsim.specs.accelerator import Accelerator

LAYERS: Final = (784, 128, 10)
MEASURING: Final = Measuring("pruning", relative_half_width=0.03, warmup_s=0.1, timing_s=0.3, window_s=1.0)
FP32_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Settings:
    """What to try.

    Args:
        recipe: Of the training.
        retraining_epochs: After pruning, with the zeros kept.
        sparsities: Shares of weights to set to zero.
        neurons: Shares of hidden neurons to remove.
        batches: Samples per pass.
        calibration: Of the prediction: ``auto``, ``none`` or a path.
        template: Processor of the catalog that the prediction starts from.
        rounds: In which all networks are measured one after the other; of each network the round of the median time counts.
        measuring: How long and how well.
    """

    recipe: Recipe = field(default_factory=Recipe)
    retraining_epochs: int = 2
    sparsities: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)
    neurons: tuple[float, ...] = (0.5, 0.75)
    batches: tuple[int, ...] = (1, 256)
    calibration: str = "auto"
    template: str = "xeon_8480_plus"
    rounds: int = 3
    measuring: Measuring = MEASURING


@dataclass(frozen=True, slots=True)
class Step(Result):
    """One network at one batch, measured and predicted.

    Args:
        name: What was done.
        batch: Samples per pass.
        accuracy: Share of test images classified correctly.
        zeros: Share of weights that are zero.
        size_bytes: As stored.
        time_s: Median of a pass [s].
        time_low_s: Lower end of its 95 % interval.
        time_high_s: Upper end.
        relative_time: To the dense network at the same batch.
        energy_j: Of a pass, where the processor is metered [J].
        power_w: Mean [W], likewise.
        predicted: Time and energy by the cost model, with 90 % intervals; ``None`` where it has no such kernel.
        predicted_relative_time: To the dense network's prediction.
        notes: What a reader must know.
    """

    name: str
    batch: int
    accuracy: float
    zeros: float
    size_bytes: int
    time_s: float | None
    time_low_s: float | None
    time_high_s: float | None
    relative_time: float | None
    energy_j: float | None
    power_w: float | None
    predicted: Predicted | None
    predicted_relative_time: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Experiment(Result):
    """All steps.

    Args:
        data: Source of the images.
        processor: That was measured.
        seed: Of training and split.
        metered: Whether energy was.
        reference: How the prediction knows this processor.
        steps: The dense network first.
    """

    data: str
    processor: str
    seed: int
    metered: bool
    reference: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class _Made:
    """A network as it runs, and as the cost model knows it."""

    name: str
    logits: Callable[[Any], Any]
    as_dense: Network
    size_bytes: int
    sparsity: str | None
    notes: tuple[str, ...] = ()


def run(instruments: Instruments, data: Data, settings: Settings, watcher: Callable[[str, float], None] | None = None) -> Experiment:
    """Train, compress, measure and predict.

    Args:
        instruments: The CPU through NumPy, and its meter.
        data: To train and test on.
        settings: What to try.
        watcher: Is told what is done and the share done.
    """
    tell = watcher or (lambda what, share: None)
    tell("training", 0.0)
    dense = trained(initial(LAYERS, settings.recipe.seed), data, settings.recipe)
    networks = _networks(dense, data, settings)
    tell("rates of this processor", 0.1)
    processor = this_processor(instruments, settings.measuring, settings.template)
    steps: list[Step] = []
    for index, batch in enumerate(settings.batches):
        begun = functools.partial(_progress, tell, batch, (index, len(settings.batches)))
        rows = _rounds(networks, (batch, data), instruments, settings, begun)
        base: Step | None = None
        for made, row in zip(networks, rows, strict=True):
            step = _step(made, row, (batch, data, processor), settings, base)
            base = base or step
            steps.append(step)
    return Experiment(
        data=data.source,
        processor=f"{instruments.device.facts.model}, products on {instruments.device.facts.compute_units} of its cores, NumPy",
        seed=settings.recipe.seed,
        metered=bool(instruments.meter.channels),
        reference=f"{settings.template}, its fp32 peak and bandwidth set to what a 1024-cube product and a 64 MiB read reach here; power per core its own",
        steps=tuple(steps),
    )


def _progress(tell: Callable[[str, float], None], batch: int, place: tuple[int, int], share: float) -> None:
    done, total = place
    tell(f"batch {batch}", 0.1 + 0.9 * (done + share) / total)


def _networks(dense: Network, data: Data, settings: Settings) -> list[_Made]:
    again = Recipe(settings.retraining_epochs, settings.recipe.batch, settings.recipe.learning_rate, settings.recipe.seed + 1)
    made = [_plain("dense, fp32", dense, "none")]
    for share in settings.sparsities:
        network = trained(prune_magnitude(dense, share), data, again)
        made.append(_plain(f"{share:.0%} of weights zero, dense kernels", network, "unstructured"))
        stored = Compressed(network)
        made.append(
            _Made(f"{share:.0%} of weights zero, sparse rows", stored.logits, network, stored.size_bytes, None, ("the cost model has no sparse-row kernel",))
        )
    made += [_plain(f"{share:.0%} of neurons removed", trained(prune_neurons(dense, share), data, again), "none") for share in settings.neurons]
    whole = Quantized(dense)
    note = "NumPy has no fast int8 product: weights are widened at each call, for which the cost model has no kernel"
    made.append(_Made("int8 weights", whole.logits, whole.widened(), whole.size_bytes, None, (note,)))
    return made


def _plain(name: str, network: Network, sparsity: str) -> _Made:
    return _Made(name, network.logits, network, FP32_BYTES * network.parameters, sparsity)


def _rounds(networks: list[_Made], at: tuple[int, Data], instruments: Instruments, settings: Settings, tell: Callable[[float], None]) -> list[Row]:
    """Return a row per network: its round of the median time, so that what else the machine does falls on all alike."""
    batch, data = at
    x = data.test_x[[index % len(data.test_x) for index in range(batch)]]
    found: list[list[Row]] = [[] for _ in networks]
    for number in range(settings.rounds):
        for place, made in enumerate(networks):
            tell((number + place / len(networks)) / settings.rounds)
            shape: dict[str, int | str] = {"batch": batch, **{f"layer_{index}": size for index, size in enumerate(made.as_dense.layer_sizes)}}
            work = Work(functools.partial(made.logits, x), made.name)
            found[place].append(measure(Case("classifier", shape, "fp32"), work, instruments, settings.measuring))
    return [sorted(rows, key=lambda row: row.time_s or 0.0)[len(rows) // 2] for rows in found]


def _step(made: _Made, row: Row, at: tuple[int, Data, Accelerator], settings: Settings, base: Step | None) -> Step:
    batch, data, processor = at
    found = predict(processor, made.as_dense.layer_sizes, batch, made.sparsity, settings.calibration) if made.sparsity is not None else None
    return Step(
        name=made.name,
        batch=batch,
        accuracy=accuracy(made.as_dense, data.test_x, data.test_y),
        zeros=sum(int((matrix == 0.0).sum()) for matrix in made.as_dense.weights) / sum(matrix.size for matrix in made.as_dense.weights),
        size_bytes=made.size_bytes,
        time_s=row.time_s,
        time_low_s=row.time_low_s,
        time_high_s=row.time_high_s,
        relative_time=_ratio(row.time_s, base.time_s) if base else 1.0,
        energy_j=row.energy_j,
        power_w=row.power_w,
        predicted=found,
        predicted_relative_time=(_ratio(found.time_s, base.predicted.time_s) if base and base.predicted else 1.0) if found else None,
        notes=(*made.notes, *row.notes),
    )


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def table(experiment: Experiment) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the columns and the lines of the experiment as people read it."""
    columns = ("network", "batch", "accuracy", "zeros", "kB", "us", "± us", "of dense", "predicted us", "90 % interval", "of dense", "uJ", "predicted uJ")
    return columns, [_line(step) for step in experiment.steps]


def _line(step: Step) -> tuple[Any, ...]:
    known = step.predicted
    half = None if step.time_low_s is None or step.time_high_s is None else 0.5e6 * (step.time_high_s - step.time_low_s)
    return (
        step.name,
        step.batch,
        f"{step.accuracy:.3f}",
        f"{step.zeros:.0%}",
        step.size_bytes / 1e3,
        _micro(step.time_s),
        half,
        _times(step.relative_time),
        _micro(known.time_s if known else None),
        f"{known.time_low_s * 1e6:.3g} to {known.time_high_s * 1e6:.3g}" if known else "",
        _times(step.predicted_relative_time),
        _micro(step.energy_j),
        _micro(known.energy_j if known else None),
    )


def _micro(value: float | None) -> float | None:
    return None if value is None else value * 1e6


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def closing(experiment: Experiment) -> str:
    """Return what must be read beside the table."""
    meter = "the processor's own meter" if experiment.metered else "blank: this machine has no meter of its processor"
    notes = dict.fromkeys(note for step in experiment.steps for note in step.notes)
    return "\n".join(
        (
            f"{experiment.processor}; data: {experiment.data}; seed {experiment.seed}.",
            f"Predicted from {experiment.reference}.",
            f"Energy: {meter}.",
            *(f"Note: {note}." for note in notes),
        )
    )
