"""Ranges of figures: each moves the rows that rest on it and no others; power keeps between idle and the limit; common doubt."""

import copy
import math

import pytest

from effsim.cost import step
from effsim.run import Settings, run
from effsim.run.doubt import NODE_FIGURES, SITE_FIGURES, notes, shifts
from effsim.run.metrics import differences
from effsim.run.serving import simulate
from effsim.site.account import Use
from effsim.specs import loading
from tests.run.fakes import SCENARIO, FakeStep, fake_step_model

ONE = Settings(workers=1)
LOAD = {"site": loading.site, "node": loading.node, "accelerator": loading.accelerator}
USED = {"site": "us_california", "node": "dgx_h100", "accelerator": "h100_sxm"}
OWNED = {"owned_usd_per_million_output_tokens", "owned_usd_per_million_tokens"}
BILL = {"electricity_usd_per_million_output_tokens", *OWNED}
PURCHASE = {"hardware_usd_per_million_output_tokens", *OWNED}
METER = {"site_j_per_output_token", "site_kw", "site_kwh_per_day", "operational_kg_per_day", "water_of_grid_l_per_day", *BILL}
PLUG = {"server_j_per_output_token", "server_kw", "water_on_site_l_per_day", *METER}
RESTS_ON = {
    ("site", "pue"): METER,
    ("site", "carbon_intensity"): {"operational_kg_per_day"},
    ("site", "electricity_price"): BILL,
    ("site", "water_on_site"): {"water_on_site_l_per_day"},
    ("site", "water_of_grid"): {"water_of_grid_l_per_day"},
    ("accelerator", "purchase_price"): PURCHASE,
    ("accelerator", "rental_price"): {"rented_usd_per_million_output_tokens"},
    ("accelerator", "embodied_carbon"): {"embodied_kg_per_day"},
    ("node", "host_idle_power"): PLUG,
    ("node", "host_busy_power"): PLUG,
    ("node", "fan_power"): PLUG,
    ("node", "psu_efficiency"): PLUG,
    ("node", "purchase_price"): PURCHASE,
    ("node", "embodied_carbon"): {"embodied_kg_per_day"},
}


def ranged(spec, name, spread):
    figure = getattr(spec, name)
    ends = {"low": None, "high": None} if spread is None else {"low": figure.value / spread, "high": figure.value * spread}
    return spec.model_copy(update={name: figure.model_copy(update=ends)})


@pytest.fixture
def columns(monkeypatch):
    """Return the base with no range in any file but, if asked for, one."""
    monkeypatch.setattr(step, "serving_step_model", fake_step_model)
    bare = {kind: loader(USED[kind]) for kind, loader in LOAD.items()}
    for kind, name in RESTS_ON:
        bare[kind] = ranged(bare[kind], name, None)

    def base(kind=None, name=None, spread=1.0):
        specs = {**bare} if kind is None else {**bare, kind: ranged(bare[kind], name, spread)}
        for each, spec in specs.items():
            monkeypatch.setattr(loading, each, lambda given, spec=spec: spec)
        scenario = {**copy.deepcopy(SCENARIO), "what_if": []}
        scenario["workload"]["requests"] = 12
        return run(scenario, settings=ONE).base

    return base


def spans(column):
    return {key: (metric.low, metric.high) for key, metric in column.metrics.items()}


def test_the_table_is_of_all_figures_of_sites_and_nodes():
    assert {name for kind, name in RESTS_ON if kind == "site"} == set(SITE_FIGURES)
    assert {name for kind, name in RESTS_ON if kind == "node"} == set(NODE_FIGURES)


@pytest.mark.parametrize(("kind", "name"), RESTS_ON, ids=".".join)
def test_a_range_widens_exactly_the_rows_that_rest_on_it(columns, kind, name):
    exact, zero, wide = spans(columns()), spans(columns(kind, name, 1.0)), columns(kind, name, 1.3)
    assert zero == exact
    changed = {key for key, span in spans(wide).items() if span != exact[key]}
    assert changed == RESTS_ON[kind, name]
    for key in changed:
        low, high = exact[key]
        assert wide.metrics[key].low <= low <= wide.metrics[key].value <= high <= wide.metrics[key].high


def test_the_interval_of_rent_is_that_of_its_price_and_of_time(columns):
    """Sd of time s and of the price p on the logarithm: sqrt(s² + p²), and without any doubt about time the range of the price."""
    exact, wide = columns().metrics["rented_usd_per_million_output_tokens"], columns("accelerator", "rental_price", 1.3)
    rent = wide.metrics["rented_usd_per_million_output_tokens"]
    assert math.log(rent.high / rent.value) == pytest.approx(math.hypot(math.log(exact.high / exact.value), math.log(1.3)))


def test_what_has_no_range_and_what_is_not_known_is_said():
    use = Use(loading.accelerator("rtx_4090"), loading.node("workstation"), 1, 10.0, 10.0, 100.0)
    bare = ranged(loading.site("sweden"), "pue", None)
    said = " ".join(notes([use], bare))
    assert "no interval from what has no range: pue of sweden" in said
    assert "carbon_intensity" not in said
    unknown = use.accelerator.model_copy(update={"embodied_carbon": None})
    assert "not known, so left out: embodied carbon of rtx_4090" in " ".join(notes([Use(unknown, use.node, 1, 1.0, 1.0, 1.0)], None))


def test_no_end_is_beyond_what_can_be():
    node = ranged(ranged(loading.node("dgx_h100"), "psu_efficiency", 2.0), "host_idle_power", 100.0)
    found = shifts([Use(loading.accelerator("h100_sxm"), node, 8, 1.0, 1.0, 1.0)], ranged(loading.site("sweden"), "pue", 3.0))
    assert found["site.sweden.pue"][0].value == 1.0
    assert found["node.dgx_h100.psu_efficiency"][1].value == 1.0
    assert found["node.dgx_h100.host_idle_power"][1].value == node.host_busy_power.value


@pytest.mark.parametrize(("log_sd", "limit"), [(3.0, None), (3.0, "400 W"), (0.01, None)])
def test_power_stays_between_idle_and_the_limit_at_both_ends(monkeypatch, log_sd, limit):
    monkeypatch.setattr(step, "serving_step_model", lambda *a, **k: FakeStep(power_log_sd=log_sd, idle_power_w=300.0))
    scenario = {**copy.deepcopy(SCENARIO), "what_if": []}
    scenario["fleet"][0]["power_limit"] = limit
    scenario["workload"] = {"arrivals": {"process": "poisson", "rate": 1}, "prompt_tokens": 200, "output_tokens": 20, "requests": 5}
    result = simulate(scenario)
    group, use = result.groups[0], result.uses[0]
    each_w = [group.power_factor(use, end) * use.accelerator_energy_j / use.duration_s / group.num_accelerators for end in (-1, 0, 1)]
    assert each_w == sorted(each_w)
    assert each_w[0] >= 75.0 * (1 - 1e-12)
    assert each_w[2] <= (700.0 if limit is None else 400.0) * (1 + 1e-12)


def test_doubt_that_both_share_leaves_their_ratio_alone():
    base, twice = {"server_kw": 1.0}, {"server_kw": 2.0}
    shared = {"power": ({"server_kw": 0.5}, {"server_kw": 3.0})}
    doubled = {"power": ({"server_kw": 1.0}, {"server_kw": 6.0})}
    assert differences(twice, doubled, base, shared)["server_kw"] == pytest.approx((1.0, 1.0))
    elsewhere = {"another": doubled["power"]}
    low, high = differences(twice, elsewhere, base, {})["server_kw"]
    assert (low, high) == pytest.approx((0.0, 5.0))


def test_chance_is_not_shared():
    ends = {"chance": ({"server_kw": 0.5}, {"server_kw": 2.0})}
    low, high = differences({"server_kw": 1.0}, ends, {"server_kw": 1.0}, ends)["server_kw"]
    assert 1.0 + high == pytest.approx(2.0 ** math.sqrt(2.0))
    assert 1.0 + low == pytest.approx(0.5 ** math.sqrt(2.0))


def test_shares_differ_in_points():
    ends = {"time": ({"slo_attainment": 0.8}, {"slo_attainment": 0.5})}
    base = {"time": ({"slo_attainment": 1.0}, {"slo_attainment": 0.9})}
    assert differences({"slo_attainment": 0.7}, ends, {"slo_attainment": 0.95}, base)["slo_attainment"] == pytest.approx((-0.4, -0.2))


@pytest.mark.usefixtures("columns")
def test_the_report_holds_the_interval_of_each_difference():
    scenario = {**copy.deepcopy(SCENARIO), "what_if": [{"name": "elsewhere", "set": {"site": "sweden"}}]}
    report = run(scenario, settings=ONE)
    metrics = report.to_dict()["variants"][1]["metrics"]
    for key, metric in metrics.items():
        if metric["difference_to_base"] is None:
            continue
        assert metric["difference_low"] <= metric["difference_to_base"] + 1e-12, key
        assert metric["difference_to_base"] <= metric["difference_high"] + 1e-12, key
    exact = metrics["server_kw"]
    assert (exact["difference_low"], exact["difference_high"]) == pytest.approx((0.0, 0.0))
    assert metrics["operational_kg_per_day"]["difference_high"] < 0.0
