"""What a calibration was fitted to and how well: the part of its file that explains, and that predictions do not read."""

from typing import Literal

from pydantic import Field

from effsim.specs.figure import Spec


class Start(Spec):
    """A coefficient before the fit.

    Args:
        value: Median.
        log_sd: Standard deviation of its logarithm.
    """

    value: float = Field(gt=0.0)
    log_sd: float = Field(ge=0.0)


class Residual(Spec):
    """A measured quantity and how far the fit lies from it.

    Args:
        name: Of the row.
        quantity: ``time``, ``power``, or an output of an estimate.
        value: Measured.
        error_ratio: Predicted over measured, less 1.
    """

    name: str
    quantity: str
    value: float
    unit: Literal["s", "W", "J"]
    error_ratio: float


class MeasuredFile(Spec):
    """A file that was fitted, by its content."""

    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    date: str
    device: str
    software: dict[str, str] = Field(default_factory=dict)


class Account(Spec):
    """Provenance and residuals of a fit.

    Args:
        prior: Calibrations that it started from, laid over each other.
        start: The fitted coefficients there.
        unidentified: Coefficients of which the measurements say next to nothing: they stay at the prior.
        files: What was fitted.
        rows: Measured rows that the fit used.
        throttled: Of these, those whose clock was throttled, with less weight.
        wide: Those whose interval is wide, with less weight.
        aside: Rows that were not used, by reason.
        residuals: Of the rows used.
        checks: Of rows that the fit has not seen.
        remarks: What a reader must know.
    """

    prior: tuple[str, ...]
    start: dict[str, Start]
    unidentified: tuple[str, ...] = ()
    files: tuple[MeasuredFile, ...] = ()
    rows: int = Field(ge=0)
    throttled: int = 0
    wide: int = 0
    aside: dict[str, int] = Field(default_factory=dict)
    residuals: tuple[Residual, ...] = ()
    checks: tuple[Residual, ...] = ()
    remarks: tuple[str, ...] = ()
