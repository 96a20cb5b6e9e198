"""Where machines stand: carbon, price, overhead and water of one kWh there."""

from pydantic import Field, model_validator

from effsim.specs.figure import CubicMetresPerJoule, DollarsPerJoule, KilogramsPerJoule, Ratio, Sourced


class Site(Sourced):
    """A country, grid region, cloud region or home, by annual means.

    ``water_on_site`` is per unit of IT energy (WUE), ``water_of_grid`` per unit drawn from the grid.
    """

    place: str
    country: str = Field(pattern=r"^[A-Z]{3}$", description="ISO 3166 alpha-3; ZZZ for none")
    carbon_intensity: KilogramsPerJoule
    electricity_price: DollarsPerJoule
    pue: Ratio
    water_on_site: CubicMetresPerJoule
    water_of_grid: CubicMetresPerJoule | None = None

    @model_validator(mode="after")
    def _physical(self) -> "Site":
        if self.pue.value < 1.0:
            raise ValueError(f"pue must be at least 1, got {self.pue.value:g}")
        return self
