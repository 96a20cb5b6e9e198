"""The chain of power, on arrays, and what a million tokens cost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.site.impact import amortised, energy_per_day_kwh, usd_per_million
from effsim.site.power import fan_power_w, host_power_w, server_power_w, site_power_w


def test_arrays_go_through_the_chain_like_floats():
    accelerator_w = np.array([0.0, 2800.0, 5600.0])
    fans_w = fan_power_w(400.0, accelerator_w, 5600.0)
    hosts_w = host_power_w(600.0, 1600.0, np.array([0.0, 0.5, 1.0]))
    plug_w = site_power_w(server_power_w(accelerator_w, hosts_w, fans_w, 0.95), 1.25)
    assert plug_w.tolist() == pytest.approx([600 / 0.95 * 1.25, 4100 / 0.95 * 1.25, 10_000.0])


@given(st.floats(0.0, 1e6), st.floats(0.0, 1e5), st.floats(0.5, 1.0), st.floats(1.0, 3.0))
def test_each_link_of_the_chain_only_adds(accelerator_w, host_w, efficiency, pue):
    server_w = server_power_w(accelerator_w, host_w, 0.0, efficiency)
    assert server_w >= accelerator_w + host_w
    assert site_power_w(server_w, pue) >= server_w


def test_no_tokens_have_no_price():
    assert usd_per_million(5.0, 0) is None
    assert usd_per_million(5.0, 10_000_000) == 0.5


def test_a_life_of_full_use_bears_the_whole_price():
    assert amortised(30_000.0, 1e8, 1e8) == 30_000.0
    assert amortised(30_000.0, 0.5e8, 1e8, 0.5) == 30_000.0


def test_a_kilowatt_is_24_kwh_a_day():
    assert energy_per_day_kwh(1000.0) == 24.0
