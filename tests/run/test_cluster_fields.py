"""Each thing that can befall a cluster is reached from a scenario file and leaves its mark."""

import pytest

from effsim.run import Settings, run

ONE = Settings(workers=1, intervals=False)
SCENARIO = {
    "name": "train",
    "kind": "training",
    "model": "llama-3.2-1b",
    "fleet": [{"accelerator": "h100_sxm", "node": "dgx_h100", "parallelism": {"data": 32}}],
    "training": {"global_batch_size": 128, "sequence_length": 2048, "tokens": "100B", "recompute": "full"},
    "cluster": {"seeds": 2, "checkpoint": {"interval": "1 h", "write": "30 s"}, "restart": {"time": "5 min"}, "nodes_per_domain": 2},
}
HOURLY = ["100 g/kWh"] * 12 + ["500 g/kWh"] * 12

CASES = [
    ("Weibull lives", {"failures": {"node_mtbf": "3 d", "distribution": "weibull", "shape": 0.7, "repair": "2 h"}}, "restart"),
    ("switches", {"failures": {"switch_mtbf": "3 d", "switch_repair": "1 h"}}, "waiting"),
    ("transient failures", {"failures": {"node_mtbf": "3 d", "transient_share": 1.0, "detection": "10 min"}}, "detection"),
    ("stragglers", {"failures": {"straggler": {"node_mtbs": "2 d", "slowdown": 1.5, "detection": "6 h"}}}, "straggling"),
    ("spares", {"spare_nodes": 1}, "idle"),
    ("elastic", {"failures": {"node_mtbf": "3 d", "repair": "6 h"}, "elastic_min_nodes": 1}, "repair"),
    ("maintenance", {"maintenance": [{"start": "6 h", "duration": "2 h", "every": "1 d", "domain": 0}]}, "maintenance"),
    ("power budget", {"power_budget": {"limit": "12 kW", "curve": [[0.3, 0.5], [1.0, 1.0]]}}, "throttled"),
    ("carbon signal", {"pause": {"kind": "carbon", "values": HOURLY, "threshold": "300 g/kWh"}}, "paused"),
    ("price signal", {"pause": {"kind": "price", "values": ["0.3 USD/kWh", "0.05 USD/kWh"], "threshold": "0.1 USD/kWh"}}, "paused"),
]


@pytest.mark.parametrize(("changes", "cause"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_it_is_reached(changes, cause):
    scenario = {**SCENARIO, "cluster": {**SCENARIO["cluster"], **changes}}
    quiet = run(SCENARIO, settings=ONE).summary["cluster"]
    found = run(scenario, settings=ONE).summary["cluster"]
    assert quiet["node_s"][cause]["mean"] == 0.0
    assert found["node_s"][cause]["mean"] > 0.0
    matrix = found["mean_energy_j_by_cause_and_part"]
    assert sum(parts["accelerator"] for parts in matrix.values()) == pytest.approx(found["accelerator_energy_j"]["mean"], rel=1e-9)
    assert matrix[cause]["host"] > 0.0
    assert (found["signal_total"] is not None) == ("pause" in changes)
