"""What a joule at the meter costs the climate, the water and the purse, and what the machines cost before they run.

Arrays are welcome wherever a float is.
"""

from effsim.site.power import Values


def operational_carbon_kg(site_energy_j: Values, carbon_intensity_kg_per_j: float) -> Values:
    """Return the emissions of the electricity used [kg CO2e], location-based: ``energy at the meter · intensity of the grid``.

    Source: GHG Protocol, Scope 2 Guidance (2015), location-based method.

    >>> round(operational_carbon_kg(3.6e9, 0.390 / 3.6e6), 9)  # 1000 kWh at 390 g/kWh
    390.0
    """
    return site_energy_j * carbon_intensity_kg_per_j


def water_on_site_m3(it_energy_j: Values, wue_m3_per_j: float) -> Values:
    """Return the water that the site's cooling consumes [m3]: ``energy of the IT equipment · WUE`` (ISO/IEC 30134-9).

    >>> round(water_on_site_m3(3.6e9, 1.8e-3 / 3.6e6), 9)  # 1000 kWh at 1.8 L/kWh
    1.8
    """
    return it_energy_j * wue_m3_per_j


def water_of_grid_m3(site_energy_j: Values, water_of_grid_m3_per_j: float) -> Values:
    """Return the water that the grid's power plants consume [m3]: ``energy at the meter · water factor of the grid``.

    Source: Reig et al., Guidance for calculating water use embedded in purchased electricity, WRI (2020).

    >>> round(water_of_grid_m3(3.6e9, 3.1e-3 / 3.6e6), 9)
    3.1
    """
    return site_energy_j * water_of_grid_m3_per_j


def electricity_cost_usd(site_energy_j: Values, electricity_price_usd_per_j: float) -> Values:
    """Return the electricity bill [USD]: ``energy at the meter · price``.

    >>> round(electricity_cost_usd(3.6e9, 0.12 / 3.6e6), 9)  # 1000 kWh at 0.12 USD/kWh
    120.0
    """
    return site_energy_j * electricity_price_usd_per_j


def amortised(whole: Values, duration_s: float, lifetime_s: float, utilization: float = 1.0) -> Values:
    """Return the part of a one-off amount that a duration of use bears: ``whole · duration / (lifetime · utilization)``.

    For the price (USD) and the embodied carbon (kg CO2e) of machines alike.

    Args:
        whole: The amount for the whole life.
        duration_s: Time in use that is accounted for.
        lifetime_s: From purchase to disposal.
        utilization: Share of the lifetime in which the machines are in use at all.

    >>> amortised(4000.0, 3600.0, 1000 * 3600.0)  # one hour of a thousand
    4.0
    """
    return whole * (duration_s / (lifetime_s * utilization))


def usd_per_million(cost_usd: Values, tokens: float) -> Values | None:
    """Return the cost of a million tokens [USD], or ``None`` where there were none.

    >>> usd_per_million(3.0, 1_500_000)
    2.0
    """
    return cost_usd / tokens * 1e6 if tokens > 0 else None


def energy_per_day_kwh(power_w: Values) -> Values:
    """Return the energy of a day at a mean power [kWh]: ``power · 24 h / 1000``.

    >>> energy_per_day_kwh(10_000.0)
    240.0
    """
    return power_w * (24.0 / 1000.0)
