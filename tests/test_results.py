"""Results: absent is null, intervals contain their value, provenance is that of the weakest part."""

import json
import math
from dataclasses import FrozenInstanceError, dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effsim.results import PROVENANCES, Quantity, Result, ScenarioReport, Variant, flatten, plain, to_json, weakest


@dataclass(frozen=True, slots=True)
class Estimate(Result):
    """A result as the cost layer makes them."""

    tpot_s: object
    power_w: object
    breakdown: pd.DataFrame | None = None


@given(st.lists(st.sampled_from(PROVENANCES), min_size=1))
def test_weakest_is_never_stronger_than_a_part(parts):
    assert all(PROVENANCES.index(weakest(parts)) >= PROVENANCES.index(part) for part in parts)
    assert weakest(parts) in parts


def test_weakest_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        weakest([])


@pytest.mark.parametrize("absent", [None, math.nan, math.inf, -math.inf, np.float64("nan"), np.float32("inf")])
def test_what_is_not_known_is_null_and_never_zero(absent):
    document = json.loads(Estimate(absent, np.float32(2.0)).to_json())
    assert document == {"tpot_s": None, "power_w": 2.0, "breakdown": None}


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))
def test_every_value_becomes_valid_json(value):
    text = to_json(value)
    assert json.loads(text, parse_constant=pytest.fail) == plain(value)


def test_tables_become_records_and_stay_out_of_frames():
    result = Estimate(0.01, 700.0, pd.DataFrame({"operation": ["gemm"], "time_s": [math.nan]}))
    assert result.to_dict()["breakdown"] == [{"operation": "gemm", "time_s": None}]
    assert list(result.to_frame().columns) == ["tpot_s", "power_w", "breakdown"][:2]


def test_arrays_become_rows():
    frame = Estimate(np.array([0.1, 0.2]), 700.0).to_frame()
    assert frame["tpot_s"].tolist() == [0.1, 0.2]
    assert frame["power_w"].tolist() == [700.0, 700.0]


def test_flatten_keeps_every_leaf():
    assert flatten({"a": {"b": {"c": 1}}, "d": 2}) == {"a.b.c": 1, "d": 2}


def test_quantity_refuses_an_interval_beside_its_value():
    with pytest.raises(ValueError, match="low <= value <= high"):
        Quantity(1.0, "s", 2.0, 3.0)
    with pytest.raises(ValueError, match="two ends"):
        Quantity(1.0, "s", low=0.5)


def test_quantities_are_immutable_and_comparable_only_in_the_same_unit():
    quantity = Quantity(1.0, "s")
    with pytest.raises(FrozenInstanceError):
        quantity.value = 2.0
    with pytest.raises(ValueError, match="cannot compare"):
        quantity.relative_to(Quantity(1.0, "J"))


def test_relative_difference_to_nothing_is_absent():
    assert Quantity(1.0, "s").relative_to(Quantity(0.0, "s")) is None
    assert Quantity(None, "s").relative_to(Quantity(1.0, "s")) is None
    assert Quantity(1.5, "s").relative_to(Quantity(1.0, "s")) == 0.5


def _report():
    base = Variant("base", {"power_w": Quantity(100.0, "W", 90.0, 120.0)}, {})
    better = Variant("limit", {"power_w": Quantity(80.0, "W")}, {"fleet.0.power_limit": "500 W"})
    broken = Variant("tiny", {}, {}, infeasible="does not fit")
    return ScenarioReport("chat", "serving", (base, better, broken), {"power_w": "Power"}, {"x": math.nan}, {})


def test_report_holds_differences_and_reasons():
    document = json.loads(_report().to_json())
    assert document["variants"][1]["metrics"]["power_w"]["difference_to_base"] == pytest.approx(-0.2)
    assert document["variants"][0]["metrics"]["power_w"]["difference_to_base"] is None
    assert document["variants"][2]["infeasible"] == "does not fit"
    assert document["summary"] == {"x": None}


def test_report_frame_has_one_row_per_variant_and_metric():
    frame = _report().to_frame()
    assert frame[["variant", "metric", "value"]].values.tolist() == [["base", "power_w", 100.0], ["limit", "power_w", 80.0]]
