"""Training scenarios on a cluster that fails."""

import pytest

from effsim.errors import EffSimError
from effsim.run import Settings, run
from effsim.run.metrics import CAUSE_WORDS
from effsim.sim.training.parts import PARTS
from effsim.specs import loading
from effsim.specs.scenario import load_scenario, variants

SCENARIO = {
    "name": "train",
    "kind": "training",
    "model": "llama-3.2-1b",
    "fleet": [{"accelerator": "h100_sxm", "node": "dgx_h100", "parallelism": {"data": 32}}],
    "training": {"global_batch_size": 128, "sequence_length": 2048, "tokens": "500B", "recompute": "full"},
    "site": "france",
}
QUIET = {"checkpoint": {"interval": "1 h", "write": 0}, "seeds": 2}
ROUGH = {
    "spare_nodes": 1,
    "failures": {"node_mtbf": "2 d", "detection": "5 min", "repair": "6 h"},
    "checkpoint": {"write": "30 s"},
    "restart": {"time": "10 min"},
    "seeds": 6,
}
ONE = Settings(workers=1)


def values(**changes):
    return {key: metric.value for key, metric in run({**SCENARIO, **changes}, settings=ONE).base.metrics.items()}


def test_an_undisturbed_cluster_changes_nothing():
    plain, quiet = values(), values(cluster=QUIET)
    assert quiet["goodput"] == pytest.approx(1.0)
    assert quiet["interruptions"] == 0.0
    assert set(plain) <= set(quiet)
    for key, value in plain.items():
        stored = key.startswith(("site", "part_storage", "operational", "electricity", "owned"))  # hourly checkpoints are written
        assert quiet[key] == pytest.approx(value, rel=1e-3 if stored else 1e-6), key


def test_failures_cost_time_and_energy_and_the_parts_sum():
    scenario = {**SCENARIO, "cluster": ROUGH}
    report = run({**scenario, "what_if": [{"name": "sound", "set": {"cluster.failures.node_mtbf": None}}]}, settings=ONE)
    rough, sound = ({key: metric.value for key, metric in variant.metrics.items()} for variant in report.variants)
    assert rough["goodput"] < sound["goodput"] <= 1.0
    assert rough["duration_days"] > sound["duration_days"]
    assert rough["accelerator_j_per_token"] > sound["accelerator_j_per_token"]
    assert rough["interruptions"] == pytest.approx(4 * rough["duration_days"] / 2.0, rel=0.5)
    whole_mwh = rough["accelerator_j_per_token"] * rough["trained_billion_tokens"] * 1e9 / 3.6e9
    assert sum(rough.get(f"energy_{cause}_mwh", 0.0) for cause in CAUSE_WORDS) == pytest.approx(whole_mwh, rel=1e-9)
    parts_mwh = [rough[f"part_{part}_mwh"] for part in PARTS]
    assert sum(parts_mwh) * loading.site("france").pue.value == pytest.approx(rough["site_mwh"], rel=1e-9)
    assert min(parts_mwh) > 0.0
    shares = [rough.get(f"time_{cause}_share", 0.0) for cause in CAUSE_WORDS]
    assert sum(shares) + rough["goodput"] == pytest.approx(1.0, abs=0.02)
    summary = report.summary["cluster"]
    assert len(summary["runs"]) == summary["seeds"] == 6
    assert summary["nodes"] == 5
    matrix = summary["mean_energy_j_by_cause_and_part"]
    assert sum(joules for parts in matrix.values() for joules in parts.values()) / 3.6e9 == pytest.approx(sum(parts_mwh), rel=1e-9)
    assert sum(matrix[cause]["host"] for cause in matrix) / 3.6e9 == pytest.approx(rough["part_host_mwh"], rel=1e-9)
    assert matrix["restart"]["storage"] > matrix["restart"]["network"] == 0.0
    assert summary["job_mtbf_s"] == pytest.approx(2 * 86_400 / 4)


def test_intervals_join_chance_time_and_power():
    metrics = run({**SCENARIO, "cluster": ROUGH}, settings=ONE).base.metrics
    for key in ("duration_days", "site_mwh", "goodput", "energy_useful_mwh", "interruptions"):
        assert metrics[key].low < metrics[key].value < metrics[key].high, key


def test_a_budget_without_a_curve_takes_the_estimates_at_lower_limits():
    free = values(cluster=QUIET)
    kilowatts = free["energy_useful_mwh"] / free["duration_days"] / 24 * 1e3
    held = values(cluster={**QUIET, "power_budget": {"limit": f"{0.8 * kilowatts} kW"}})
    assert held["duration_days"] > free["duration_days"]
    assert held["time_throttled_share"] > 0.0
    assert (held["energy_useful_mwh"] + held["energy_throttled_mwh"]) / held["duration_days"] / 24 * 1e3 <= 0.8 * kilowatts * (1 + 1e-9)


def test_what_ifs_reach_into_the_cluster():
    scenario = load_scenario(
        {**SCENARIO, "cluster": ROUGH, "what_if": [{"name": "h", "set": {"cluster.checkpoint.interval": "1 h", "cluster.failures.repair": "1 d"}}]}
    )
    (_, base), (_, changed) = variants(scenario)
    assert base.cluster == scenario.cluster
    assert (changed.cluster.checkpoint.interval, changed.cluster.failures.repair) == (3600.0, 86_400.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cluster": {**ROUGH, "nodes": 3}}, "cluster.nodes: 3 given; the fleet has 4"),
        ({"cluster": {**ROUGH, "queue": "lifo"}}, "unknown queue policy"),
        ({"cluster": ROUGH, "fleet": [{**SCENARIO["fleet"][0], "parallelism": {"data": 4}}]}, "do not fill whole nodes"),
        ({"cluster": {"checkpoint": {"write": 1, "size": "1 TB"}}}, "expected write, or size and storage_bandwidth"),
        ({"cluster": ROUGH, "storage": "tectonik"}, "did you mean 'tectonic'"),
        ({"jobs": [{"name": "a", "nodes": 1, "work": "1 h"}]}, "jobs need a cluster block"),
        ({"cluster": ROUGH, "jobs": [{"name": "a", "nodes": 1}]}, "expected nodes and work, or model, parallelism and training"),
        ({"cluster": ROUGH, "jobs": [{"name": "a", "nodes": 99, "work": "1 h"}]}, "takes 99 nodes, the cluster has 4"),
        ({"cluster": {**ROUGH, "horizont": "1 d"}}, "horizont"),
        ({"cluster": {"failures": {"distribution": "weibull"}}}, "shape belongs to the weibull"),
        ({"cluster": {"pause": {"kind": "carbon", "values": ["1 g/kWh"], "threshold": "0.5 g/kWh"}}}, "nothing would ever run"),
    ],
)
def test_mistakes_are_said(changes, message):
    with pytest.raises(EffSimError, match=message):
        run({**SCENARIO, **changes}, settings=ONE)


def test_the_llama_3_405b_report():
    scenario = load_scenario("llama3-405b-54-days")
    assert scenario.cluster.failures.node_mtbf == pytest.approx(2048 * 54 * 86_400 / 419, rel=1e-3)
    changes = {key: value for key, value in scenario.model_dump(mode="json").items() if key not in {"what_if", "extends"}}
    metrics = run(changes, settings=ONE).base.metrics
    assert metrics["interruptions"].value == pytest.approx(419, rel=0.05)
    assert metrics["goodput"].value > 0.9
    assert metrics["goodput"].high < 0.95
    assert metrics["duration_days"].value == pytest.approx(54.0)


JOBS = [
    {"name": "small", "nodes": 1, "work": "2 h", "submit": "1 h", "count": 3, "every": "1 h"},
    {
        "name": "large",
        "model": "llama-3.2-1b",
        "parallelism": {"data": 32},
        "training": {**SCENARIO["training"], "tokens": "20B"},
        "submit": "30 min",
        "priority": 5,
    },
]
SHARED = {
    **SCENARIO,
    "training": {**SCENARIO["training"], "tokens": "10B"},
    "fleet": [{"accelerator": "h100_sxm", "node": "dgx_h100", "parallelism": {"data": 16}}],
    "cluster": {"nodes": 4, "seeds": 2, "checkpoint": {"interval": "1 h"}},
    "jobs": JOBS,
}


def test_queue_policies_are_compared_on_the_same_jobs():
    policies = ("backfill", "priority")
    report = run({**SHARED, "what_if": [{"name": name, "set": {"cluster.queue": name}} for name in policies]}, settings=ONE)
    fifo, backfill, priority = ({key: metric.value for key, metric in variant.metrics.items()} for variant in report.variants)
    assert [one["finished_jobs"] for one in (fifo, backfill, priority)] == [5.0, 5.0, 5.0]
    assert backfill["queue_wait_1_h"] < fifo["queue_wait_1_h"]  # small jobs pass the large one where that does not delay it
    assert backfill["queue_wait_2_h"] <= fifo["queue_wait_2_h"] + 1e-9
    assert priority["queue_wait_2_h"] < fifo["queue_wait_2_h"]
    assert priority["preemptions"] >= 1.0
    assert fifo["preemptions"] == 0.0
    assert backfill["cluster_utilization"] >= fifo["cluster_utilization"]
    assert "accelerator_j_per_token" not in fifo
    assert report.labels["queue_wait_2_h"] == "- large"
    rows = report.summary["cluster"]["jobs"]
    assert [row["name"] for row in rows] == ["train", "small 1", "small 2", "small 3", "large"]
    assert sum(row["accelerator_energy_j"] for row in rows) < report.summary["cluster"]["accelerator_energy_j"]["mean"]


def test_a_checkpoint_follows_from_model_and_storage():
    summary = run({**SCENARIO, "storage": "file_server_10g", "cluster": {**ROUGH, "checkpoint": {}}}, settings=ONE).summary["cluster"]
    assert summary["checkpoint_write_s"] == pytest.approx(1_235_814_400 * 14 / 0.8e9)  # 14 bytes a parameter over 0.8 GB/s
    assert summary["checkpoint_blocking_s"] == summary["checkpoint_write_s"]
    copied = run({**SCENARIO, "storage": "file_server_10g", "cluster": {**ROUGH, "checkpoint": {"asynchronous": "host_copy"}}}, settings=ONE).summary["cluster"]
    assert copied["checkpoint_blocking_s"] == pytest.approx(1_235_814_400 * 14 / 32 / 64e9, rel=1e-6)  # each over its own PCIe 5 link
    assert copied["checkpoint_write_s"] == summary["checkpoint_write_s"]
