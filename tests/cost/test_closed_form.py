"""The founding article's formulas against its own numbers, and their optima against a search over all whole node counts."""

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from effsim.cost.closed_form import (
    WORKED_CASE,
    Case,
    article_energy,
    article_performance,
    energy_j,
    minimum_energy,
    nearest_to_target,
    performance_per_s,
    run_energy_j,
)
from effsim.errors import InfeasibleError, SpecError
from effsim.units import JOULES_PER_KWH, SECONDS_PER_HOUR

cases = st.builds(
    Case,
    work_units=st.floats(1.0, 1e4),
    nodes=st.integers(1, 60),
    power_w=st.floats(1.0, 1e4),
    time_s=st.floats(1.0, 1e7),
    constant_j=st.floats(0.0, 1e6),
)


def test_the_article_adds_up_to_100_001_000_not_to_a_thousand_million():
    assert article_energy(WORKED_CASE) == 10 * 1000 * 100 * 100 + 1000 == 100_001_000


def test_the_article_s_performance_is_1_not_a_tenth():
    assert article_performance(WORKED_CASE) == 1000 / (10 * 100) == 1.0


def test_in_joules_an_hour_has_3600_seconds():
    assert energy_j(WORKED_CASE) == 10 * 1000 * 100 * (100 * 3600) + 1000
    assert energy_j(replace(WORKED_CASE, constant_j=0.0)) / JOULES_PER_KWH == pytest.approx(100_000.0)
    assert run_energy_j(replace(WORKED_CASE, constant_j=0.0)) / JOULES_PER_KWH == pytest.approx(100.0)


def test_where_the_readings_differ_is_only_the_hour():
    variable = article_energy(WORKED_CASE) - WORKED_CASE.constant_j
    assert energy_j(WORKED_CASE) - WORKED_CASE.constant_j == pytest.approx(variable * SECONDS_PER_HOUR)


@given(cases)
def test_the_two_roles_of_t_agree_for_one_unit_of_work(case):
    single = replace(case, work_units=1.0)
    assert energy_j(single) == pytest.approx(run_energy_j(single))


@given(cases, st.floats(0.1, 10.0), st.integers(1, 60), st.floats(1.0, 1e4))
def test_no_plan_within_the_bounds_takes_less_than_the_minimum(case, performance_ratio, min_nodes, min_work_units):
    kept_per_s = performance_ratio * performance_per_s(case)
    best = minimum_energy(case, kept_per_s, min_work_units, min_nodes)
    assert performance_per_s(best) >= kept_per_s * (1 - 1e-12)
    assert (best.work_units >= min_work_units, best.nodes >= min_nodes) == (True, True)
    for nodes in range(min_nodes, min_nodes + 30):
        for share in (1.0, 1.01, 1.3, 4.0):
            other = replace(case, nodes=nodes, work_units=max(min_work_units, kept_per_s * case.time_s * nodes) * share)
            assert energy_j(other) >= energy_j(best) * (1 - 1e-12)
    for smaller in (replace(best, work_units=best.work_units * 0.999), replace(best, nodes=best.nodes + 1)):
        assert smaller.work_units < min_work_units or performance_per_s(smaller) < kept_per_s or energy_j(smaller) > energy_j(best)


def distance(plan: Case, case: Case) -> float:
    return math.log(plan.work_units / case.work_units) ** 2 + math.log(plan.nodes / case.nodes) ** 2


@given(cases, st.floats(0.2, 1.5), st.none() | st.floats(0.01, 1.2))
def test_no_whole_node_count_meets_the_target_nearer(case, energy_ratio, performance_ratio):
    assume(energy_ratio * energy_j(case) > case.constant_j)
    kept_per_s = performance_per_s(case) * (1.0 if performance_ratio is None else performance_ratio)
    product = (energy_ratio * energy_j(case) - case.constant_j) / (case.power_w * case.time_s)
    others = [replace(case, nodes=nodes, work_units=product / nodes) for nodes in range(1, 800)]
    allowed = [plan for plan in others if performance_per_s(plan) >= kept_per_s * (1 - 1e-10)]
    if not allowed:
        with pytest.raises(InfeasibleError, match="units of work per second"):
            nearest_to_target(case, energy_ratio, None if performance_ratio is None else kept_per_s)
        return
    plan = nearest_to_target(case, energy_ratio, None if performance_ratio is None else kept_per_s)
    assert energy_j(plan) == pytest.approx(energy_ratio * energy_j(case), rel=1e-9)
    assert performance_per_s(plan) >= kept_per_s * (1 - 1e-9)
    assert distance(plan, case) <= min(distance(other, case) for other in allowed) + 1e-9


def test_the_article_s_target_takes_one_node_of_ten_away():
    plan = nearest_to_target(WORKED_CASE, 0.9)
    assert plan.nodes == 9
    assert plan.work_units == pytest.approx(1000.0, rel=1e-6)
    assert energy_j(plan) == pytest.approx(0.9 * energy_j(WORKED_CASE))


@given(cases)
def test_a_target_of_all_the_energy_changes_nothing(case):
    plan = nearest_to_target(case, 1.0)
    assert plan.nodes == case.nodes
    assert plan.work_units == pytest.approx(case.work_units, rel=1e-6)


def test_a_target_below_the_constant_energy_is_refused():
    case = replace(WORKED_CASE, constant_j=9 * energy_j(replace(WORKED_CASE, constant_j=0.0)))
    with pytest.raises(InfeasibleError, match="not above the constant energy") as caught:
        nearest_to_target(case, 0.9)
    assert caught.value.constraint == "constant energy"


@pytest.mark.parametrize(("field", "value"), [("work_units", 0.0), ("power_w", math.nan), ("time_s", math.inf), ("nodes", 0), ("constant_j", -1.0)])
def test_a_value_out_of_range_is_named(field, value):
    with pytest.raises(SpecError, match=f"^{field}: expected"):
        replace(WORKED_CASE, **{field: value})
