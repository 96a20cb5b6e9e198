"""Training scenarios: the run's totals follow from the step, at the site, with intervals."""

import pytest

from effsim.cost.training import estimate_training
from effsim.errors import EffSimError
from effsim.run import Settings, run
from effsim.specs import loading

SCENARIO = {
    "name": "train",
    "kind": "training",
    "model": "llama-3.2-1b",
    "fleet": [{"accelerator": "h100_sxm", "node": "dgx_h100", "parallelism": {"data": 8}}],
    "training": {"global_batch_size": 64, "sequence_length": 2048, "tokens": "1B", "recompute": "full"},
    "site": "france",
    "what_if": [{"name": "twice the steps", "set": {"training.tokens": "2B"}}, {"name": "too long", "set": {"training.sequence_length": 4_194_304}}],
}
ONE = Settings(workers=1)


def test_totals_follow_from_the_step():
    report = run(SCENARIO, settings=ONE)
    step = estimate_training("llama-3.2-1b", "h100_sxm", 8, 64, 1, 2048, sequence_parallel=False, recompute="full", node="dgx_h100")
    value = {key: metric.value for key, metric in report.base.metrics.items()}
    steps = -(-(10**9) // (64 * 2048))
    assert value["step_time_s"] == pytest.approx(float(step.step_time_s))
    assert value["duration_days"] == pytest.approx(steps * float(step.step_time_s) / 86_400)
    assert value["accelerator_j_per_token"] == pytest.approx(float(step.energy_j_per_step) / (64 * 2048), rel=1e-6)
    assert value["server_kw"] == pytest.approx(float(step.server_power_w) / 1e3, rel=1e-6)
    site = loading.site("france")
    beside_mwh = steps * float(step.network_energy_j_per_step + step.storage_energy_j_per_step) / 3.6e9
    assert value["part_network_mwh"] + value["part_storage_mwh"] == pytest.approx(beside_mwh)
    assert value["site_mwh"] == pytest.approx(site.pue.value * (value["server_kw"] * value["duration_days"] * 24 / 1e3 + beside_mwh))
    assert value["operational_kg"] == pytest.approx(value["site_mwh"] * 3.6e9 * site.carbon_intensity.value)
    assert value["owned_usd"] == pytest.approx(value["hardware_usd"] + value["electricity_usd"])


def test_what_ifs_and_what_does_not_fit():
    base, twice, too_long = run(SCENARIO, settings=ONE).variants
    assert twice.metrics["site_mwh"].value == pytest.approx(2 * base.metrics["site_mwh"].value, rel=1e-3)
    assert twice.metrics["mfu"].value == base.metrics["mfu"].value
    assert too_long.infeasible


def test_intervals_of_time_and_power():
    metrics = run(SCENARIO, settings=ONE).base.metrics
    for key in ("step_time_s", "mfu", "server_kw", "site_mwh", "operational_kg"):
        assert metrics[key].low < metrics[key].value < metrics[key].high
    time, mfu = metrics["step_time_s"], metrics["mfu"]
    assert mfu.high / mfu.value == pytest.approx(time.value / time.low)


def test_a_fleet_of_two_kinds_is_refused():
    with pytest.raises(EffSimError, match="one entry in its fleet, found 2"):
        run({**SCENARIO, "fleet": SCENARIO["fleet"] * 2, "what_if": []}, settings=ONE)
