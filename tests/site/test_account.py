"""The account of a run: hand-checked numbers, parts that sum, and the directions in which each knob must push."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.site.account import EnergyParts, MachineCost, Use, energy_parts, impact, machine_cost, total
from effsim.specs.accelerator import Accelerator
from effsim.specs.loading import validate
from effsim.specs.machine import Node
from effsim.specs.site import Site

SOURCES = {"sources": {"test": {"title": "numbers for a test", "date": "2026"}}}


def figure(value):
    return {"value": value, "kind": "assumed", "source": "test"}


def accelerator(**changes):
    document = {
        "name": "gpu", "vendor": "x", "device_class": "datacenter_gpu", "architecture": "x", "memory": figure("80 GB"), "memory_bandwidth": figure("3 TB/s"),
        "peak": {"bf16": figure("1 PFLOP/s")}, "tdp": figure("700 W"), "purchase_price": figure("30 kUSD"), "rental_price": figure("2 USD/h"),
        "embodied_carbon": figure("150 kg"), **SOURCES, **changes,
    }  # fmt: skip
    return validate(Accelerator, document, "test")


def node(**changes):
    document = {
        "name": "box", "accelerators_per_node": 8, "host_idle_power": figure("600 W"), "host_busy_power": figure("1600 W"), "fan_power": figure("400 W"),
        "psu_efficiency": figure(0.95), "purchase_price": figure("60 kUSD"), "embodied_carbon": figure("1200 kg"), **SOURCES, **changes,
    }  # fmt: skip
    return validate(Node, document, "test")


def site(**changes):
    document = {
        "name": "here", "place": "Here", "country": "ZZZ", "carbon_intensity": figure("390 g/kWh"), "electricity_price": figure("0.12 USD/kWh"),
        "pue": figure(1.25), "water_on_site": figure("1.8 L/kWh"), **SOURCES, **changes,
    }  # fmt: skip
    return validate(Site, document, "test")


def use(**changes):
    return Use(
        **{
            "accelerator": accelerator(),
            "node": node(),
            "num_accelerators": 8,
            "duration_s": 3600.0,
            "busy_s": 3600.0,
            "accelerator_energy_j": 5600.0 * 3600.0,
            **changes,
        }
    )


def test_a_full_hour_by_hand():
    """8 · 700 W + 1600 W + 400 W = 7600 W; / 0.95 = 8000 W; · 1.25 = 10 kW for an hour: 10 kWh."""
    parts = energy_parts(use(), site())
    assert parts.host_j == pytest.approx(1600 * 3600)
    assert parts.fan_j == pytest.approx(400 * 3600)
    assert parts.server_j == pytest.approx(8000 * 3600)
    assert parts.site_j == pytest.approx(10 * 3.6e6)
    effect = impact(parts, site())
    assert effect.operational_carbon_kg == pytest.approx(3.9)
    assert effect.electricity_usd == pytest.approx(1.2)
    assert effect.water_on_site_m3 == pytest.approx(8 * 1.8e-3)  # 8 kWh of IT energy
    assert effect.water_of_grid_m3 is None
    assert impact(parts, site(water_of_grid=figure("2 L/kWh"))).water_of_grid_m3 == pytest.approx(0.02)


def test_half_a_server_is_charged_half():
    """An idle hour of 4 of 8 devices: host 600 / 2 W."""
    parts = energy_parts(use(num_accelerators=4, busy_s=0.0, accelerator_energy_j=0.0), site())
    assert parts.host_j == pytest.approx(300 * 3600)
    assert parts.fan_j == 0.0


def test_cost_of_machines_by_hand():
    """8 · 30000 + 60000 = 300000 USD over 3000 h: 100 USD/h; rent 16 USD/h; 8 · 150 + 1200 = 2400 kg: 0.8 kg/h."""
    cost = machine_cost(use(), lifetime_s=3000 * 3600.0)
    assert cost.purchase_usd == pytest.approx(100.0)
    assert cost.rental_usd == pytest.approx(16.0)
    assert cost.embodied_carbon_kg == pytest.approx(0.8)
    assert machine_cost(use(), lifetime_s=3000 * 3600.0, utilization=0.5).purchase_usd == pytest.approx(200.0)


def test_an_unknown_price_is_absent_not_zero():
    cost = machine_cost(use(accelerator=accelerator(purchase_price=None)), lifetime_s=1e8)
    assert cost.purchase_usd is None
    assert (cost + machine_cost(use(), 1e8)).purchase_usd is None
    assert (cost + machine_cost(use(), 1e8)).rental_usd == pytest.approx(32.0)
    assert machine_cost(use(node=node(embodied_carbon=None)), 1e8).embodied_carbon_kg is None
    assert total(1.0, None) is None


def test_no_time_is_no_energy():
    assert energy_parts(use(duration_s=0.0, busy_s=0.0, accelerator_energy_j=0.0), site()).site_j == 0.0


joules = st.floats(0.0, 1e12)
seconds = st.floats(1.0, 1e8)


@given(joules, seconds, st.floats(0.0, 1.0), st.integers(1, 64))
def test_parts_sum_to_the_total(energy_j, duration_s, busy, count):
    parts = energy_parts(use(accelerator_energy_j=energy_j, duration_s=duration_s, busy_s=busy * duration_s, num_accelerators=count), site())
    document = parts.to_dict()
    assert document["site_j"] == pytest.approx(sum(document[key] for key in ("accelerator_j", "host_j", "fan_j", "psu_loss_j", "facility_j")), rel=1e-12)
    assert document["site_j"] == pytest.approx(document["server_j"] * 1.25, rel=1e-12)
    assert document["server_j"] >= energy_j


@given(joules, seconds, st.floats(0.0, 0.9), st.floats(1.0, 1.9))
def test_more_work_more_overhead_more_joules(energy_j, duration_s, busy, pue):
    def at(**changes):
        given_use = {"accelerator_energy_j": energy_j, "duration_s": duration_s, "busy_s": busy * duration_s}
        place = site(pue=figure(changes.pop("pue", pue)))
        return energy_parts(use(**{**given_use, **changes}), place).site_j

    base = at()
    assert at(accelerator_energy_j=energy_j * 1.1) >= base
    assert at(busy_s=(busy + 0.1) * duration_s) > base
    assert at(duration_s=duration_s * 1.1) > base
    assert at(pue=pue + 0.1) > base


@given(joules, joules, st.floats(1.0, 1e6))
def test_accounts_add_up(first_j, second_j, duration_s):
    one, two = (energy_parts(use(accelerator_energy_j=e, duration_s=duration_s, busy_s=duration_s), site()) for e in (first_j, second_j))
    assert isinstance(one + two, EnergyParts)
    assert (one + two).site_j == pytest.approx(one.site_j + two.site_j, rel=1e-12)
    carbon = [impact(parts, site()).operational_carbon_kg for parts in (one, two, one + two)]
    assert carbon[2] == pytest.approx(carbon[0] + carbon[1], rel=1e-12)


@given(st.floats(3600.0, 1e9), st.floats(0.01, 0.99))
def test_longer_lives_and_fuller_use_cost_less(lifetime_s, utilization):
    def price(life_s, share):
        return machine_cost(use(), life_s, share).purchase_usd

    assert price(lifetime_s * 1.5, utilization) < price(lifetime_s, utilization)
    assert price(lifetime_s, utilization + 0.01) < price(lifetime_s, utilization)
    assert math.isfinite(price(lifetime_s, utilization))
    assert isinstance(machine_cost(use(), lifetime_s), MachineCost)
