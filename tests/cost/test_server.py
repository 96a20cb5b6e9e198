import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.cost.server import fan_power_w, host_power_w, server_power_w

watts = st.floats(0.0, 1e4)


@given(watts, watts, st.floats(0.0, 1.0))
def test_a_host_draws_between_idle_and_busy(idle_w, more_w, share):
    assert idle_w * (1 - 1e-12) <= host_power_w(idle_w, idle_w + more_w, share) <= (idle_w + more_w) * (1 + 1e-12)


@given(watts, st.floats(0.0, 1.0), st.floats(1.0, 1e4))
def test_fans_are_proportional_to_heat(full_w, share, accelerators_w):
    assert fan_power_w(full_w, share * accelerators_w, accelerators_w) == pytest.approx(share * full_w)


@given(watts, watts, watts, st.floats(0.5, 1.0))
def test_what_enters_the_supply_leaves_it_or_is_lost(accelerators_w, host_w, fans_w, efficiency):
    plug_w = server_power_w(accelerators_w, host_w, fans_w, efficiency)
    assert plug_w * efficiency == pytest.approx(accelerators_w + host_w + fans_w)
    assert plug_w >= accelerators_w


def test_a_dgx_h100_at_full_load():
    """8 · 700 W, host 2,100 W, fans 1,100 W, a supply of 94 %: 8,800 / 0.94 = 9,362 W; its data sheet says 10.2 kW at most."""
    assert server_power_w(5_600.0, host_power_w(1_100.0, 2_100.0, 1.0), fan_power_w(1_100.0, 5_600.0, 5_600.0), 0.94) == pytest.approx(9_361.7, abs=0.1)
