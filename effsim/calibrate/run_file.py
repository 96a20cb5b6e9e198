"""From run files of ``effsim bench`` to a calibration of the accelerator that they were measured on.

Residuals are logarithms of predicted over measured time and, where a meter was read, power; prior and robust loss as in
:mod:`effsim.calibrate.least_squares`. The noise of few rows is uncertain itself: its estimate is pulled towards
:data:`NOISE` with the weight of :data:`NOISE_ROWS`, and corrected for the coefficients that the same rows determined.

What is measured are the framework's kernels; those of an engine differ. The spreads of coefficients that the rows determined therefore
get :data:`DOUBT` on top (assumed), never beyond the prior's.
"""

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from effsim import catalog
from effsim.bench.run_file import Run, read_run
from effsim.calibrate import kernel_fit
from effsim.calibrate.around_prior import NORMAL_MAD, Vector
from effsim.calibrate.bench_rows import Reading, Readings, number_of, predictor, readings
from effsim.calibrate.least_squares import NOISE_FLOOR, Data, Posterior, correlation_of, posterior
from effsim.cost.collectives import Fabric
from effsim.cost.deployment import fabric_of
from effsim.cost.device import COEFFICIENTS, Prior, combine
from effsim.errors import CalibrationError
from effsim.specs import loading
from effsim.specs.accelerator import Accelerator
from effsim.specs.calibration import Calibration

FITTED: Final = (*kernel_fit.COEFFICIENTS, "elementwise_kernel_s", "elementwise_busy_power", "idle_power", "voltage_floor")
QUANTITIES: Final = ("time", "power")
NOISE: Final = {"time": 0.15, "power": 0.1}
NOISE_ROWS: Final = 4.0
INFORMED: Final = 0.9  # posterior over prior spread, above which a coefficient counts as not identified
PLAIN_DOUBT: Final = 0.05
DOUBT: Final = {
    "attention_memory": 0.1,
    "attention_efficiency": 0.2,
    "attention": 0.3,  # fixed times and powers of SDPA against those of kernels for paged caches
    "grouped_memory": 0.15,
    "grouped": 0.3,
    "quantized": 0.15,  # scales per tensor against scales per block
    "collective": 0.3,
    "link": 0.1,
    "elementwise": 0.15,
    "_power": 0.1,
}
"""By a part of the coefficient's name: standard deviation of the logarithm of an engine's over the framework's; else :data:`PLAIN_DOUBT`."""
USUAL_ENGINE: Final = "vllm"
WHOLE_CHIP: Final = 0.5  # share of a processor's cores that a run must have used to be set against its data sheet
SIXTEEN_BITS: Final = {"bf16", "fp16"}


class RunFile(NamedTuple):
    """A run with the file that holds it and the file's SHA-256."""

    path: Path
    sha256: str
    run: Run


@dataclasses.dataclass(frozen=True, eq=False)
class RunFit:
    """A fit to run files.

    Args:
        posterior: Of the coefficients.
        readings: What was fitted.
        log_errors: log(predicted / measured), shape (quantity, reading); NaN where not measured.
        checks: The same of the rows that the fit has not seen.
    """

    posterior: Posterior
    readings: Readings
    log_errors: Vector
    checks: Vector


def read_files(paths: Sequence[Path]) -> list[RunFile]:
    """Return the runs in files, each once.

    Raises:
        SpecError: A file that is missing, cut short or altered.
        CalibrationError: The same run twice.
    """
    found: list[RunFile] = []
    for path in paths:
        run = read_run(path)
        digest = sha256_of(path)
        twin = next((one.path for one in found if one.sha256 == digest), None)
        if twin is not None:
            raise CalibrationError(f"{path}: holds the same run as {twin}")
        found.append(RunFile(path, digest, run))
    return found


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def accelerator_of(files: Sequence[RunFile], given: str | None = None) -> Accelerator:
    """Return the catalog's entry of what was measured, by the driver's name or as given.

    Raises:
        CalibrationError: The name is in no catalog, the runs are of several devices, or what is given is another one.
        UnknownNameError: ``given`` is in no catalog.
    """
    models = {str(one.run.device.get("model", "")): one for one in files}
    if len(models) > 1:
        raise CalibrationError(f"runs of several devices ({', '.join(sorted(models))}): calibrate each by itself")
    model, first = next(iter(models.items()))
    named = catalog.find("accelerators", model) if model else None
    if given is None:
        if named is None:
            hint = catalog.suggest(model, [*catalog.files("accelerators"), *catalog.aliases("accelerators")])
            raise CalibrationError(f"{first.path}: the device {model!r} is in no catalog; {hint}say what it is with --accelerator, a name or a YAML file")
        return _checked(loading.accelerator(named.stem), first)
    found = loading.accelerator(given)
    if named is not None and named.stem != found.name:
        raise CalibrationError(f"--accelerator: {found.name} given, but {first.path} was measured on {model}, which is {named.stem}")
    return _checked(found, first)


def _checked(accelerator: Accelerator, one: RunFile) -> Accelerator:
    """Refuse a data sheet of another kind of device, or of a processor of which the run used less than half."""
    kind = one.run.device.get("kind")
    is_cpu = kind == "cpu"
    if is_cpu != (accelerator.device_class == "cpu"):
        raise CalibrationError(f"--accelerator: {accelerator.name} is a {accelerator.device_class}, but {one.path} was measured on a {kind}")
    used, whole = number_of(one.run, "compute_units"), accelerator.compute_units
    if is_cpu and whole and used < WHOLE_CHIP * whole:
        raise CalibrationError(
            f"{one.path}: the run used {used} threads, but {accelerator.name} has {whole} cores, and its data sheet is of all of them; "
            "use all cores (OPENBLAS_NUM_THREADS), or give --accelerator a YAML file of the part that was measured"
        )
    return accelerator


def start_of(accelerator: Accelerator, engine: str | None = None, base: Any = None) -> tuple[Prior, tuple[Calibration, ...]]:
    """Return the prior of a fit and the calibrations that make it up: class, engine on the class, and another calibration.

    Args:
        accelerator: That was measured.
        engine: Whose kernels the calibration shall stand for; None: none in particular.
        base: A calibration to go on from: name, path or spec.

    Raises:
        CalibrationError: ``base`` is of another accelerator or engine.
        UnknownNameError: No such engine or calibration.
    """
    layers = [loading.calibration(f"prior_{accelerator.device_class}")]
    if engine is not None:
        of_engine = catalog.find("calibrations", f"prior_{accelerator.device_class}_{loading.engine(engine).name}")
        layers += [loading.calibration(str(of_engine))] if of_engine else []
    if base is not None:
        given = loading.calibration(base)
        if engine is not None and given.engine not in {None, engine}:
            raise CalibrationError(f"--from: {given.name} is of the engine {given.engine}, --engine says {engine}")
        layers.append(given)
    return combine(tuple(layers), accelerator.name), tuple(layers)


def fit(files: Sequence[RunFile], accelerator: Accelerator, prior: Prior) -> RunFit:
    """Return the posterior of the coefficients from run files.

    Args:
        files: Of one device.
        accelerator: Its data sheet.
        prior: From :func:`start_of`.

    Raises:
        CalibrationError: No row that tells anything.
    """
    each = [readings(one.run, accelerator) for one in files]
    aside: dict[str, int] = {}
    for one in each:
        for reason, count in one.aside.items():
            aside[reason] = aside.get(reason, 0) + count
    found = Readings(tuple(r for one in each for r in one.fitted), tuple(r for one in each for r in one.checks), aside)
    if not found.fitted:
        said = "; ".join(f"{count} x {reason}" for reason, count in aside.items()) or "no rows"
        raise CalibrationError(f"{', '.join(str(one.path) for one in files)}: nothing to fit: {said}")
    fabric = fabric_of(accelerator, loading.node(accelerator.default_node) if accelerator.default_node else None)
    return fit_readings(found, accelerator, fabric, prior)


def fit_readings(found: Readings, accelerator: Accelerator, fabric: Fabric, prior: Prior) -> RunFit:
    """Return the posterior of the coefficients from readings; see :func:`fit`."""
    errors = _errors(found.fitted, accelerator, fabric)
    present = np.isfinite(errors(prior)).any(axis=1)
    weights = np.array([one.weight for one in found.fitted])
    chosen = _chosen(prior, accelerator)
    noise = tuple(NOISE[name] for name, any_row in zip(QUANTITIES, present, strict=True) if any_row)
    data = Data(lambda c: errors(dataclasses.replace(prior, median=c))[present], weights, noise, correlation_of(prior, chosen))
    first = posterior(data, prior, chosen)
    whole = posterior(data, prior, chosen, dataclasses.replace(first, noise_log_sd=_noise(data, first)))
    after = dataclasses.replace(prior, median=whole.all_coefficients)
    return RunFit(whole, found, errors(after), _errors(found.checks, accelerator, fabric)(after))


def _errors(found: Sequence[Reading], accelerator: Accelerator, fabric: Fabric) -> Any:
    predict = predictor(found, accelerator, fabric)
    time_s, power_w = (np.array([np.nan if value is None else value for value in values], dtype=float) for values in _columns(found))

    def errors(prior: Prior) -> Vector:
        times, powers = predict(prior.median)
        return np.stack([np.log(times / time_s), np.log(powers / power_w)])

    return errors


def _columns(found: Sequence[Reading]) -> tuple[list[float | None], list[float | None]]:
    return [one.time_s or None for one in found], [one.row.power_w or None for one in found]


def _chosen(prior: Prior, accelerator: Accelerator) -> tuple[str, ...]:
    """Return what is fitted: all that kernels can tell of, and what is correlated with it in the calibration gone on from."""
    unused = {"idle_power"} if accelerator.idle_power is not None else set()
    linked = set() if prior.correlation is None else {name for name, row in zip(COEFFICIENTS, prior.correlation, strict=True) if sum(map(abs, row)) > 1.0}
    wanted = (set(FITTED) - unused) | linked
    return tuple(name for name in COEFFICIENTS if name in wanted and prior.log_sd[name] > 0.0)


def _noise(data: Data, found: Posterior) -> tuple[float, ...]:
    """Return the noise by quantity: robust, pulled towards what is usual, and corrected for the coefficients that the rows determined."""
    errors = data.log_errors(found.all_coefficients)
    counts = np.isfinite(errors).sum(axis=1)
    determined = sum(1.0 - min(found.log_sd[name] / found.prior.log_sd[name], 1.0) ** 2 for name in found.coefficients)
    left = max(1.0 - determined / counts.sum(), NOISE_ROWS / (NOISE_ROWS + counts.sum()))
    spread = NORMAL_MAD * np.nanmedian(np.abs(errors), axis=1)
    pooled = np.exp((NOISE_ROWS * np.log(data.noise) + counts * np.log(np.maximum(spread, NOISE_FLOOR) / math.sqrt(left))) / (NOISE_ROWS + counts))
    return tuple(float(value) for value in np.maximum(pooled, NOISE_FLOOR))


def doubt(coefficient: str) -> float:
    """Return the spread between the framework's kernels and an engine's, of the logarithm of a coefficient.

    >>> doubt("gemm_efficiency"), doubt("attention_kernel_s"), doubt("memory_power")
    (0.05, 0.3, 0.1)
    """
    return next((value for part, value in DOUBT.items() if part in coefficient), PLAIN_DOUBT)


def engine_of(accelerator: Accelerator, asked: str | None) -> str | None:
    """Return the engine that a calibration stands for: as asked, else the usual one where its kernels on the class are known, else none."""
    usual = catalog.find("calibrations", f"prior_{accelerator.device_class}_{USUAL_ENGINE}")
    return asked or (USUAL_ENGINE if usual else None)


def spreads(found: Posterior) -> dict[str, float]:
    """Return the spreads that a calibration states: the posterior's with :func:`doubt`, never beyond the prior's."""
    before = found.prior.log_sd
    return {
        name: min(math.hypot(sd, doubt(name)), before[name]) if sd < INFORMED * before[name] else min(sd, before[name]) for name, sd in found.log_sd.items()
    }


def covered(found: Readings) -> dict[str, list[str]]:
    """Return the kinds of model and the precisions whose kernels were measured; without products or attention, none."""
    kinds = {one.row.kind for one in found.fitted if one.time_s}
    whole = {"gemm", "decode_attention"} <= kinds
    dtypes = {one.row.dtype for one in found.fitted if one.row.kind == "gemm" and one.time_s}
    precisions = dtypes | (SIXTEEN_BITS if dtypes & SIXTEEN_BITS else set())
    return {"kind": [*(["dense"] if whole else []), *(["moe"] if whole and "grouped_gemm" in kinds else [])], "precision": sorted(precisions) if whole else []}


def calibration_document(
    found: RunFit, name: str, accelerator: Accelerator, layers: Sequence[Calibration], files: Sequence[RunFile], engine: str | None
) -> dict[str, Any]:
    """Return a fit as a :class:`~effsim.specs.calibration.Calibration` document.

    Coefficients that the rows say next to nothing about are left out and named: those of the prior hold. Those that the prior switches
    off are stated as they were held, lest another prior under the calibration switch them on. A calibration that the fit went on from is
    taken over whole, with its correlations.

    Args:
        found: The fit.
        name: Of the calibration and its file.
        accelerator: That was measured.
        layers: What the prior was made of.
        files: What was fitted.
        engine: That the calibration is for; None: none in particular.
    """
    of = found.posterior
    units = loading.calibration(f"prior_{accelerator.device_class}").coefficients
    silent = [key for key in of.coefficients if of.log_sd[key] > INFORMED * of.prior.log_sd[key]]
    before = layers[-1] if layers[-1].kind == "posterior" else None
    kept = [i for i, key in enumerate(of.coefficients) if key not in silent or (before is not None and key in before.coefficients)]
    spread = spreads(of)
    keys = [of.coefficients[i] for i in kept]
    date = max(one.run.updated for one in files)[:10]
    rest = {} if before is None else {key: one for key, one in before.coefficients.items() if key not in keys}
    off = {key: getattr(of.prior.median, key) for key in FITTED if of.prior.log_sd[key] <= 0.0 and key not in rest}
    covers = covered(found.readings)
    if before is not None and before.covers:
        covers = {kind: sorted({*values, *before.covers.get(kind, ())}) for kind, values in covers.items()}  # type: ignore[call-overload]
    return {
        "name": name,
        "kind": "posterior",
        "accelerator": accelerator.name,
        **({"engine": engine} if engine else {}),
        "note": f"{_summary(found)} At their prior: {', '.join(silent) or 'none'}.",
        "covers": covers,
        "sources": {
            "run": {"title": f"effsim bench on {files[0].run.device.get('model')}: {', '.join(one.path.name for one in files)}", "date": date},
            **({"prior": {"title": f"calibration {layers[-1].name}: without spread there, and held", "date": date}} if off else {}),
            **({"before": {"title": f"calibration {before.name}", "date": date}} if rest and before is not None else {}),
        },
        "discrepancy_log_sd": dict(of.prior.discrepancy_log_sd),
        "coefficients": {
            **{key: _coefficient(of.median[key], spread[key], units[key].unit, "run") for key in keys},
            **{key: _coefficient(one.value, one.log_sd, one.unit, "before") for key, one in rest.items()},
            **{key: _coefficient(value, 0.0, units[key].unit, "prior") for key, value in off.items()},
        },
        "correlation": _stated_correlation(of, kept, spread, len(rest) + len(off)),
        "account": account(found, accelerator, layers, files, silent),
    }


def _coefficient(value: float, log_sd: float, unit: str, source: str) -> dict[str, Any]:
    return {"value": float(f"{value:.4g}"), "unit": unit, "log_sd": float(f"{log_sd:.4g}"), "kind": "fitted", "source": source}


def _stated_correlation(of: Posterior, kept: Sequence[int], spread: Mapping[str, float], others: int) -> list[list[float]]:
    """Return the correlation under the wider spreads, ``rho sd_i sd_j / (s_i s_j)``; what was taken over unfitted is independent."""
    share = [min(1.0, of.log_sd[of.coefficients[i]] / spread[of.coefficients[i]]) for i in kept]
    size = len(kept) + others
    matrix = np.eye(size)
    for a, i in enumerate(kept):
        for b, j in enumerate(kept):
            matrix[a, b] = 1.0 if a == b else round(of.correlation[i][j] * share[a] * share[b], 3)
    return [[float(value) for value in row] for row in matrix]


def _summary(found: RunFit) -> str:
    said = [
        f"{name} {100.0 * float(np.nanmean(np.abs(np.expm1(row)))):.0f} % ({int(np.isfinite(row).sum())} rows)"
        for name, row in zip(QUANTITIES, found.log_errors, strict=True)
        if np.isfinite(row).any()
    ]
    return f"Fitted to microbenchmarks; mean absolute error: {', '.join(said)}."


def account(found: RunFit, accelerator: Accelerator, layers: Sequence[Calibration], files: Sequence[RunFile], silent: Sequence[str]) -> dict[str, Any]:
    """Return the provenance and the residuals of a fit, as :class:`~effsim.specs.account.Account` takes them."""
    of, used = found.posterior, found.readings.fitted
    return {
        "prior": [one.name for one in layers],
        "start": {key: {"value": float(f"{getattr(of.prior.median, key):.4g}"), "log_sd": float(f"{of.prior.log_sd[key]:.4g}")} for key in of.coefficients},
        "unidentified": list(silent),
        "files": [
            {
                "name": one.path.name,
                "sha256": one.sha256,
                "date": one.run.started,
                "device": str(one.run.device.get("model")),
                "software": {"effsim": one.run.effsim_version, **{str(key): str(value) for key, value in one.run.libraries.items()}},
            }
            for one in files
        ],
        "rows": len(used),
        "throttled": sum(one.throttled for one in used),
        "wide": sum(one.is_wide for one in used),
        "aside": dict(found.readings.aside),
        "residuals": _residuals(used, found.log_errors),
        "checks": _residuals(found.readings.checks, found.checks),
        "remarks": [*(f"{one.path.name}: the run is {one.run.status}" for one in files if one.run.status != "complete"), *_idle(files, accelerator)],
    }


def _residuals(found: Sequence[Reading], errors: Vector) -> list[dict[str, Any]]:
    return [
        {"name": one.row.key, "quantity": name, "value": value, "unit": unit, "error_ratio": float(f"{math.expm1(error):.4g}")}
        for name, unit, row, values in zip(QUANTITIES, ("s", "W"), errors, _columns(found), strict=True)
        for one, error, value in zip(found, row, values, strict=True)
        if value is not None and math.isfinite(error)
    ]


def _idle(files: Sequence[RunFile], accelerator: Accelerator) -> list[str]:
    """Return the idle power measured beside that of the data sheet, which the model takes."""
    stated = accelerator.idle_power
    measured = [row.power_w for one in files for row in one.run.rows if row.kind == "idle" and row.power_w]
    return [f"idle: {power_w:.4g} W measured, {stated.value:.4g} W on the data sheet, which the model takes" for power_w in measured if stated is not None]
