"""Wall time of a simulated year of training on 16,384 accelerators, beside SimPy's bare timeouts.

Run: python benchmarks/training_cluster.py
"""

import argparse
import time

from bare import timeouts_per_s

from effsim.sim.training.simulation import simulate_training
from effsim.specs.cluster import Cluster, Job

CLUSTER = {
    "spare_nodes": 32,
    "nodes_per_domain": 64,
    "failures": {"node_mtbf": "264 d", "detection": "5 min", "repair": "1 d", "transient_share": 0.15},
    "checkpoint": {"size": "5.7 TB", "storage_bandwidth": "2 TB/s"},
    "restart": {"time": "15 min", "with_spare": "8 min"},
    "horizon": "365 d",
}
JOB = {"name": "year", "nodes": 2048, "work": "3650 d", "power": {"useful": 4000.0, "checkpoint": 1000.0, "restart": 1000.0, "idle": 600.0}}


def main():
    """Print times and the ratio, best of several runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    job = Job.model_validate(JOB)
    for name, failures in (("exponential", {}), ("Weibull, shape 0.8", {"distribution": "weibull", "shape": 0.8})):
        cluster = Cluster.model_validate({**CLUSTER, "failures": {**CLUSTER["failures"], **failures}})
        best_s = float("inf")
        for seed in range(given.repeat):
            start = time.perf_counter()
            run = simulate_training(cluster, [job], seed)
            best_s = min(best_s, time.perf_counter() - start)
        bare = timeouts_per_s(200_000)
        interruptions = run.jobs[0].failures
        print(f"{name}: a year of 16,384 accelerators in {best_s:.3f} s with {interruptions:,} interruptions, goodput {run.goodput:.3f}")
        print(f"  as much as {bare * best_s:,.0f} bare SimPy timeouts, {bare * best_s / interruptions:.0f} for each interruption")


if __name__ == "__main__":
    main()
