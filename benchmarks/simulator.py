"""Speed of the one-event-per-iteration simulator: requests and iterations per second, beside SimPy's bare timeouts.

Run: python benchmarks/simulator.py
"""

import argparse
import time

from bare import timeouts_per_s

from effsim.cost.step import serving_step_model
from effsim.sim.setup import ReplicaSetup
from effsim.sim.serving import simulate_serving
from effsim.workload.operations import Parallelism
from effsim.workload.synthetic import synthetic_trace


def main():
    """Print rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5_000)
    given = parser.parse_args()
    step = serving_step_model("llama-3.1-70b", "h100_sxm", Parallelism(tensor=4), max_num_seqs=256)
    replicas = [ReplicaSetup(step_model=step, max_num_seqs=256)] * 2
    trace = synthetic_trace("azure_llm_2023_conv.csv", seed=1, requests=given.requests)
    start = time.perf_counter()
    result = simulate_serving(trace, replicas)
    wall_s = time.perf_counter() - start
    bare = timeouts_per_s(200_000)
    print(f"{given.requests / wall_s:,.0f} requests/s, {result.counts.iterations / wall_s:,.0f} iterations/s; SimPy alone {bare:,.0f} timeouts/s")
    print(f"one iteration costs as much as {bare * wall_s / result.counts.iterations:.1f} bare timeouts")


if __name__ == "__main__":
    main()
