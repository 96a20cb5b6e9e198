"""A calibration from microbenchmarks and, laid over it, one from serving logs of the same accelerator: their accounts made one; and what a file says."""

from collections.abc import Mapping
from typing import Any, Final

from effsim import catalog
from effsim.calibrate.run_file import INFORMED, start_of
from effsim.errors import EffSimError
from effsim.specs import loading
from effsim.specs.calibration import Calibration

WORST: Final = 10


def joined(kernels: Mapping[str, Any], serving: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of a fit to logs that started from a fit to microbenchmarks, with the account of both.

    Coefficients that neither moved count as not identified: their spread is still 0.9 of what it was before the microbenchmarks, or more.

    Args:
        kernels: Document of the fit to run files.
        serving: Document of the fit to logs, whose prior it was.
    """
    first, second = kernels["account"], serving["account"]
    start = {**second["start"], **first["start"]}
    silent = [key for key, one in serving["coefficients"].items() if key in start and one["log_sd"] > INFORMED * start[key]["log_sd"]]
    sources = {**serving["sources"], **kernels["sources"]}
    told = kernels["note"].split(" At their prior: ")[0]
    return {
        **serving,
        "note": f"{told} Then: {serving['note'].split(' Hardly moved: ')[0]} At their prior: {', '.join(silent) or 'none'}.",
        "sources": sources,
        "account": {
            **first,
            "start": {key: start[key] for key in serving["coefficients"] if key in start},
            "unidentified": silent,
            "files": [*first["files"], *second.get("files", [])],
            "rows": first["rows"] + second["rows"],
            "residuals": [*first["residuals"], *second["residuals"]],
        },
    }


def story(calibration: Calibration) -> dict[str, Any]:
    """Return what a calibration says of itself: parameters before and after, worst residuals, region covered, provenance.

    ``shrinkage`` is 1 less the ratio of the spreads, after over before; blank where nothing is known of before.
    """
    told = calibration.account
    start = {key: (one.value, one.log_sd) for key, one in told.start.items()} if told else _start(calibration)
    residuals = sorted(told.residuals, key=lambda one: -abs(one.error_ratio)) if told else []
    return {
        "name": calibration.name,
        "kind": calibration.kind,
        "accelerator": calibration.accelerator,
        "engine": calibration.engine,
        "note": calibration.note,
        "covers": {key: list(values) for key, values in calibration.covers.items()},
        "discrepancy_log_sd": dict(calibration.discrepancy_log_sd),
        "parameters": [_parameter(key, one, start.get(key)) for key, one in calibration.coefficients.items()],
        "unidentified": list(told.unidentified) if told else None,
        "worst_residuals": [one.model_dump() for one in residuals[:WORST]],
        "checks": [one.model_dump() for one in told.checks] if told else [],
        "rows": {"used": told.rows, "throttled": told.throttled, "wide": told.wide, "not_used": told.aside} if told else None,
        "files": [one.model_dump() for one in told.files] if told else [],
        "sources": {key: one.model_dump() for key, one in calibration.sources.items()},
        "remarks": list(told.remarks) if told else [],
    }


def _parameter(name: str, one: Any, before: tuple[float, float] | None) -> dict[str, Any]:
    value, log_sd = before or (None, None)
    return {
        "name": name,
        "unit": one.unit,
        "prior": value,
        "prior_log_sd": log_sd,
        "value": one.value,
        "log_sd": one.log_sd,
        "shrinkage": 1.0 - one.log_sd / log_sd if log_sd else None,
    }


def _start(calibration: Calibration) -> dict[str, tuple[float, float]]:
    """Return the prior of a calibration that does not state it: that of its accelerator's class and its engine, where the catalog has them."""
    if calibration.accelerator is None or catalog.find("accelerators", calibration.accelerator) is None:
        return {}
    try:
        prior, _ = start_of(loading.accelerator(calibration.accelerator), calibration.engine)
    except EffSimError:  # an engine of the user's that is not here: before the fit, nothing is known
        return {}
    return {key: (getattr(prior.median, key), sd) for key, sd in prior.log_sd.items() if key in calibration.coefficients}
