"""The shipped sites: they load, are found by the names people use, and lie within plausible bounds."""

import re
from collections import Counter

import pytest

from effsim import catalog
from effsim.documents import read_yaml
from effsim.specs import loading
from effsim.specs.figure import figures
from effsim.units import JOULES_PER_KWH

SITES = sorted(catalog.files("sites"))
MINIMUM_SITES = 45
LITRES_PER_M3 = 1000.0


def test_there_are_enough_and_the_default_one() -> None:
    assert len(SITES) >= MINIMUM_SITES
    assert {"us_california", "us_virginia", "us_average", "sweden", "quebec", "home_germany", "off_grid_solar"} <= set(SITES)
    assert {"gcp_us_central1", "gcp_europe_west9", "aws_us_east_1", "azure_sweden_central"} <= set(SITES)


@pytest.mark.parametrize("name", SITES)
def test_site_loads_and_is_plausible(name: str) -> None:
    site = loading.site(name)
    assert site.name == name
    assert site.place
    assert re.fullmatch(r"[A-Z]{3}", site.country)
    assert 1.0 <= site.pue.value <= 2.5
    assert 0.0 <= site.carbon_intensity.value * JOULES_PER_KWH <= 1.2
    assert 0.02 <= site.electricity_price.value * JOULES_PER_KWH <= 0.6
    assert 0.0 <= site.water_on_site.value * JOULES_PER_KWH * LITRES_PER_M3 <= 4.0
    if site.water_of_grid is not None:
        assert 0.5 <= site.water_of_grid.value * JOULES_PER_KWH * LITRES_PER_M3 <= 20.0


@pytest.mark.parametrize("name", SITES)
def test_every_price_and_carbon_intensity_has_a_range(name: str) -> None:
    site = loading.site(name)
    for figure in (site.carbon_intensity, site.electricity_price, site.pue):
        assert figure.low is not None
        assert figure.high is not None
    assumed = [(path, figure) for path, figure in figures(site) if figure.kind == "assumed" and figure.value > 0.0]
    assert [path for path, figure in assumed if figure.low is None or figure.high is None] == []


def test_aliases_are_unique() -> None:
    names = Counter(
        form for path in catalog.files("sites").values() for form in {catalog.canonical(n) for n in (path.stem, *read_yaml(path).get("aliases", []))}
    )
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(
    ("alias", "name"),
    [("SWE", "sweden"), ("USA", "us_average"), ("DEU", "germany"), ("europe-west9", "gcp_europe_west9"), ("us-central1", "gcp_us_central1"),
     ("us-east-1", "aws_us_east_1"), ("swedencentral", "azure_sweden_central"), ("California", "us_california")],
)  # fmt: skip
def test_sites_go_by_the_names_people_use(alias: str, name: str) -> None:
    assert loading.site(alias).name == name


def test_carbon_is_in_the_order_that_the_power_plants_imply() -> None:
    """Hydropower and nuclear, then gas, then coal."""
    order = ["quebec", "norway", "france", "uk", "us_average", "china", "india"]
    values = [loading.site(name).carbon_intensity.value for name in order]
    assert values == sorted(values)


def test_california_is_near_two_hundred_grams() -> None:
    assert 0.18 <= loading.site("us_california").carbon_intensity.value * JOULES_PER_KWH <= 0.22


def test_a_cloud_region_stands_on_the_grid_of_its_place() -> None:
    grids = {"gcp_us_west2": "us_california", "aws_us_east_1": "us_virginia", "gcp_us_central1": "us_iowa", "azure_sweden_central": "sweden"}
    for cloud, place in grids.items():
        assert loading.site(cloud).carbon_intensity.value == loading.site(place).carbon_intensity.value
        assert loading.site(cloud).pue.value < loading.site(place).pue.value


def test_households_pay_more_than_companies_and_have_no_cooling_plant() -> None:
    for household, place in {"home_germany": "germany", "home_usa": "us_average"}.items():
        assert loading.site(household).electricity_price.value > loading.site(place).electricity_price.value
        assert loading.site(household).pue.value == 1.0
