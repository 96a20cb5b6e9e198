"""Tables: every variant and row is shown, whatever the width; infeasible ones show why; the picture is complete."""

import io
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from effsim.errors import SpecError
from effsim.report.table import change, number, render, save_svg, tables
from effsim.results import Quantity, ScenarioReport, Variant


def report(variants=2, **metrics):
    given_metrics = metrics or {"ttft_p50_s": Quantity(0.05, "s", 0.04, 0.08), "server_kw": Quantity(0.00336, "kW"), "mfu": Quantity(0.413, "1")}
    columns = tuple(Variant(f"variant {index}", given_metrics, {}) for index in range(variants))
    labels = {key: key.split("_")[0] for key in given_metrics}
    return ScenarioReport("test", "serving", columns, labels, {}, {"question": "What is it?", "engine": "vllm, imitating 0.11"})


def text_of(shown, width=200):
    console = Console(width=width, file=io.StringIO())
    render(shown, console)
    return console.file.getvalue()


def test_small_values_are_shown_in_smaller_units():
    text = text_of(report())
    for expected in ("50.0", "[40.0, 80.0]", "ms", "3.36", " W", "41.3", "%", "What is it?", "imitating 0.11"):
        assert expected in text


def test_training_takes_days_or_milliseconds():
    text = text_of(report(duration_days=Quantity(0.001, "days"), step_s=Quantity(15.4, "s")))
    assert "1.44" in text
    assert " min" in text
    assert "15.4" in text


@given(st.integers(1, 12), st.integers(60, 250))
def test_every_variant_is_in_some_table_and_the_base_in_all(variants, width):
    shown = tables(report(variants), width)
    headers = [[column.header for column in table.columns][1:] for table in shown]
    assert all(header[0] == "variant 0" for header in headers)
    assert {name for header in headers for name in header} == {f"variant {index}" for index in range(variants)}


def test_an_infeasible_variant_shows_its_reason_instead_of_numbers():
    base = report(1).base
    broken = Variant("huge", {}, {}, infeasible="weights need 40 GiB more")
    shown = ScenarioReport("test", "serving", (base, broken), {"server_kw": "power"}, {}, {})
    text = text_of(shown)
    assert "weights need 40" in text
    alone = ScenarioReport("test", "serving", (broken,), {}, {}, {})
    assert "weights need 40" in text_of(alone)


def test_an_absent_number_is_a_dash_and_never_zero():
    base = Variant("base", {"owned_usd": Quantity(3.0, "$"), "server_kw": Quantity(1.0, "kW")}, {})
    other = Variant("phone", {"server_kw": Quantity(2.0, "kW")}, {})
    shown = ScenarioReport("test", "serving", (base, other), {"owned_usd": "cost", "server_kw": "power"}, {}, {})
    line = next(line for line in text_of(shown).splitlines() if "cost" in line)
    assert "–" in line  # noqa: RUF001
    assert "+100 %" in text_of(shown)


def columns(base, other, labels, **given_other):
    return ScenarioReport("t", "serving", (Variant("base", base, {}), Variant("other", other, {}, **given_other)), labels, {}, {})


def test_rows_of_one_family_have_the_unit_that_suits_the_base():
    base = {"ttft_p90_s": Quantity(0.4, "s"), "ttft_p99_s": Quantity(3.0, "s"), "tpot_p50_s": Quantity(0.05, "s"), "part_usd": Quantity(1.0, "$")}
    lines = text_of(columns(base, base, {"ttft_p90_s": "TTFT p90", "ttft_p99_s": "TTFT p99", "tpot_p50_s": "TPOT p50"})).splitlines()
    unit = {words: next(line for line in lines if words in line).split("│")[1].split()[-1] for words in ("TTFT p90", "TTFT p99", "TPOT p50")}
    assert unit == {"TTFT p90": "s", "TTFT p99": "s", "TPOT p50": "ms"}
    assert "0.400" in next(line for line in lines if "TTFT p90" in line)
    small, large = {"server_kw": Quantity(0.012, "kW")}, {"server_kw": Quantity(1.2, "kW")}
    assert "12.0" in text_of(columns(small, large, {"server_kw": "power, device"}))


def test_shares_differ_in_percentage_points():
    text = text_of(columns({"slo": Quantity(0.9, "1")}, {"slo": Quantity(0.45, "1")}, {"slo": "within the SLO"}))
    assert "45.0  −45 pp" in text  # noqa: RUF001


def test_the_legend_speaks_of_intervals_only_where_there_are_some():
    exact, wide = {"server_kw": Quantity(1.0, "kW")}, {"server_kw": Quantity(1.0, "kW", 0.5, 2.0)}
    assert "quantile" not in text_of(columns(exact, exact, {"server_kw": "power"}))
    assert "quantile" in text_of(columns(wide, wide, {"server_kw": "power"}))
    assert "difference" not in text_of(report(1))


def test_the_interval_of_a_difference_stands_where_it_fits():
    base, other = {"server_kw": Quantity(1.0, "kW", 0.5, 2.0)}, {"server_kw": Quantity(0.65, "kW", 0.3, 1.4)}
    shown = columns(base, other, {"server_kw": "power"}, difference_intervals={"server_kw": (-0.38, -0.33)})
    assert "−35 % [−38, −33]" in text_of(shown)  # noqa: RUF001
    assert "[−38" not in text_of(shown, 80)  # noqa: RUF001
    metric = shown.to_dict()["variants"][1]["metrics"]["server_kw"]
    assert (metric["difference_low"], metric["difference_high"]) == (-0.38, -0.33)


def test_a_note_of_all_is_said_once():
    shown = columns({}, {}, {}, notes=("no price",))
    assert "other: no price" in text_of(shown)
    both = ScenarioReport("t", "serving", tuple(Variant(name, {}, {}, notes=("no price",)) for name in ("a", "b")), {}, {}, {})
    assert text_of(both).count("no price") == 1


def test_a_picture_that_cannot_be_written_is_one_message():
    with pytest.raises(SpecError, match="the picture cannot be written"):
        save_svg(report(), Path("/proc/a.svg"))


@given(st.floats(1e-12, 1e12))
def test_three_digits_are_kept(value):
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


@given(st.floats(-0.99, 8.0))
def test_changes_carry_their_sign(relative):
    text = change(relative)
    assert text == "±0 %" or text[0] == ("+" if relative > 0 else "−")  # noqa: RUF001


def test_the_picture_is_whole(tmp_path):
    path = tmp_path / "sub" / "table.svg"
    save_svg(report(3), path)
    words = "".join(ET.parse(path).getroot().itertext()).replace("\xa0", " ")  # noqa: S314 -- written a line above
    assert "variant 2" in words
    assert "[40.0, 80.0]" in words
