"""Fitted coefficients of the cost model, or priors for them; never mixed with data-sheet figures."""

from typing import Literal

from pydantic import Field, model_validator

from effsim.specs.account import Account
from effsim.specs.figure import Figure, Sourced, Spec


class Coefficient(Spec):
    """A positive coefficient, log-normal about its median.

    Args:
        value: Median, in ``unit``.
        log_sd: Standard deviation of its natural logarithm (0.3: about 35 % up or down).
        kind: As in :class:`~effsim.specs.figure.Figure`.
        source: A key of the file's ``sources``.
    """

    value: float = Field(gt=0.0)
    unit: str
    log_sd: float = Field(ge=0.0, le=3.0)
    kind: Literal["datasheet", "measured", "fitted", "assumed"]
    source: str
    note: str | None = None


class Calibration(Sourced):
    """Coefficients by name (the fields of ``effsim.cost.device.Coefficients``), with how far they can be trusted.

    ``correlation`` is over ``coefficients`` in their order; absent means independent. ``discrepancy_log_sd`` is what the
    model itself cannot explain, by output: ``time``, ``power`` and, where it is known apart, ``energy`` (``serving_energy``: of
    serving alone, where nothing better is laid over it). ``covers``: the kinds of model
    (dense, moe, hybrid) and the precisions that were measured; predictions of others count as transferred. ``account``: what was fitted, and how well.
    """

    kind: Literal["prior", "posterior"]
    device_class: str | None = None
    accelerator: str | None = None
    engine: str | None = None
    coefficients: dict[str, Coefficient]
    correlation: tuple[tuple[float, ...], ...] | None = None
    discrepancy_log_sd: dict[str, float] = Field(default_factory=dict)
    covers: dict[Literal["kind", "precision"], tuple[str, ...]] = Field(default_factory=dict)
    account: Account | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Calibration":
        for name, coefficient in self.coefficients.items():
            if coefficient.source not in self.sources:
                raise ValueError(f"coefficients.{name} cites {coefficient.source!r}, which is not among sources")
        size = len(self.coefficients)
        if self.correlation is not None and (len(self.correlation) != size or any(len(row) != size for row in self.correlation)):
            raise ValueError(f"correlation must be {size} by {size}, like coefficients")
        return self


__all__ = ["Calibration", "Coefficient", "Figure"]
