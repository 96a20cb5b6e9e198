"""Errors, ranks, coverage and choices of hand-made comparisons."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.validate.comparison import Comparison, Skipped, SuiteResult, frame
from effsim.validate.context import half_as_sure, inverse
from effsim.validate.decision import choices, quality, quality_table
from effsim.validate.metrics import errors, rank_correlation
from effsim.validate.summary import FITTED, decisions, error_table, section, worst


def comparison(measured=100.0, predicted=100.0, **changes):
    base = {"suite": "s", "cell": "c", "row": "r", "quantity": "power_w", "unit": "W", "measured": measured, "predicted": predicted}
    return Comparison(**{**base, **changes})


def test_errors_by_hand():
    """Errors of -10, +20, +30 and -40 %: signed median +5, mean 0; absolute median 25, mean 25, 90th percentile 37."""
    rows = [comparison(row=str(i), predicted=value, measured=100.0) for i, value in enumerate((90.0, 120.0, 130.0, 60.0))]
    found = errors(rows).iloc[0]
    assert (found.cell, found["rows"]) == ("c", 4)
    expected = {"median_error_pct": 5.0, "mean_error_pct": 0.0, "median_ape_pct": 25.0, "mape_pct": 25.0, "p90_ape_pct": 37.0}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert found.rank_correlation is None, "all measured alike have no rank"
    assert found.inside_90_pct is None, "no interval, no coverage"


def test_coverage_counts_rows_that_have_an_interval():
    ends = {"low_50": 95.0, "high_50": 105.0, "low_90": 80.0, "high_90": 120.0}
    rows = [comparison(measured=value, row=str(value), **ends) for value in (100.0, 110.0, 119.0, 130.0)] + [comparison()]
    found = errors(rows).iloc[0]
    assert (found.inside_50_pct, found.inside_90_pct) == (25.0, 75.0)


def test_cells_are_apart():
    table = errors([comparison(cell="a", predicted=110.0), comparison(cell="b", predicted=80.0)]).set_index("cell")
    assert table.mape_pct.to_dict() == pytest.approx({"a": 10.0, "b": 20.0})
    assert not len(errors([])), "nothing compared, nothing to say"


@given(st.lists(st.integers(1, 10**6), min_size=3, max_size=20, unique=True))
def test_rank_does_not_change_under_a_rising_function(values):
    measured = np.array(values, dtype=float)
    assert rank_correlation(measured, np.sqrt(measured)) == pytest.approx(1.0)
    assert rank_correlation(measured, 1.0 / measured) == pytest.approx(-1.0)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_what_has_no_logarithm_is_no_comparison(value):
    with pytest.raises(ValueError, match="expected a positive number"):
        comparison(predicted=value)
    with pytest.raises(ValueError, match="measured"):
        comparison(measured=value)


@given(st.floats(0.01, 100.0), st.floats(1.01, 5.0))
def test_the_half_interval_lies_inside(predicted, reach):
    low, high = half_as_sure(predicted, predicted / reach, predicted * reach)
    assert predicted / reach < low < predicted < high < predicted * reach
    assert low * high == pytest.approx(predicted**2)
    assert inverse(low, high)[0] == pytest.approx(1.0 / high)


def configuration(row, energy, latency, group="g"):
    """Measured and predicted joules, measured and predicted latency in ms."""
    names = (("energy_per_output_token_j", energy, 1.0), ("itl_s", latency, 1e-3))
    return [comparison(row=row, quantity=name, measured=pair[0] * unit, predicted=pair[1] * unit, group=group) for name, pair, unit in names]


ROWS = [
    *configuration("slow", (1.0, 1.2), (90.0, 80.0)),
    *configuration("fair", (2.0, 1.9), (40.0, 45.0)),
    *configuration("fast", (4.0, 1.8), (8.0, 9.0)),
]


def test_choices_by_hand():
    """Under 10 ms only `fast` is left: right. Under 50 ms it is taken for cheaper than `fair`: twice the energy. Without a limit `slow`: right."""
    found = {one.limit_s: one for one in choices(ROWS)}
    assert {limit: one.picked for limit, one in found.items()} == {0.01: "fast", 0.02: "fast", 0.05: "fast", math.inf: "slow"}
    assert [one.top_1 for one in found.values()] == [True, True, False, True]
    assert found[0.05].regret == pytest.approx(1.0)
    assert 0.1 not in found, "all keep 100 ms: the choice is that without a limit"
    table = quality(list(found.values()))
    assert (table["choices"], table["top_1_pct"], table["mean_regret_pct"], table["max_regret_pct"]) == (4, 75.0, 25.0, 100.0)


def test_a_pick_that_misses_the_limit_is_no_best_choice():
    rows = [*configuration("a", (1.0, 1.0), (60.0, 40.0)), *configuration("b", (2.0, 2.0), (30.0, 30.0))]
    one = next(one for one in choices(rows) if one.limit_s == 0.05)
    assert (one.picked, one.best, one.keeps_limit, one.regret, one.top_1) == ("a", "b", False, None, False)
    assert quality([one])["misses_limit_pct"] == 100.0


def test_where_no_prediction_keeps_the_limit_nothing_is_picked():
    rows = [*configuration("a", (1.0, 1.0), (45.0, 60.0)), *configuration("b", (2.0, 2.0), (80.0, 90.0))]
    one = next(one for one in choices(rows) if one.limit_s == 0.05)
    assert (one.picked, one.best, one.top_1) == (None, "a", False)
    assert quality([one])["picks_none_pct"] == 100.0


def test_a_group_of_one_offers_no_choice():
    assert choices(configuration("a", (1.0, 1.0), (8.0, 8.0))) == []
    assert choices([one for one in ROWS if one.quantity == "itl_s"]) == [], "a row needs both quantities"
    assert not len(quality_table([]))


def test_a_section_leaves_fitted_rows_out_of_the_worst():
    rows = (comparison(row="fitted", predicted=900.0, split=FITTED), comparison(row="half", predicted=50.0), comparison(row="more", predicted=150.0))
    found = section(SuiteResult("s", "t", "source", "basis", rows, (Skipped("s", "x", "why"), Skipped("s", "y", "why"))))
    assert found["worst"].row.tolist() == ["half", "more"], "a half is further than half as much again"
    assert found["skipped"].to_dict(orient="records") == [{"reason": "why", "rows": 2}]
    assert len(found["rows"]) == 3
    assert len(found["drawn"]) == 2


def test_the_whole_is_shown_where_there_are_several_cells():
    table = error_table([comparison(cell="a", predicted=110.0), comparison(cell="b", predicted=130.0), comparison(cell="a", quantity="itl_s")])
    assert table[table.cell == "all"].mape_pct.tolist() == pytest.approx([20.0])
    assert len(decisions(ROWS)) == 5, "four limits and all of them"
    assert len(worst([])) == len(frame([])) == 0
