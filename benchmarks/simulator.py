"""Speed of the serving simulator: requests per second of one core's time beside SimPy's bare timeouts, with every metric and the power trace on.

Lengths are those of the Azure conversation trace, arrivals are Poisson at 70 % of what the replicas can serve, requests are not kept one by one.

Run: python benchmarks/simulator.py [--requests 10000 100000] [--replicas 1 4] [--profile]
"""

import argparse
import cProfile
import pstats
import resource
import time
from statistics import median

import numpy as np
from bare import timeouts_per_s

from effsim.cost.step import serving_step_model
from effsim.sim.serving import ServingOptions, simulate_serving
from effsim.sim.setup import ReplicaSetup
from effsim.workload.operations import Parallelism
from effsim.workload.synthetic import synthetic_trace
from effsim.workload.traces import Trace


def workload(requests, rate_per_s):
    """Return requests of the conversation trace's lengths."""
    lengths = synthetic_trace("azure_llm_2023_conv.csv", seed=1, requests=min(requests, 20_000))
    random = np.random.default_rng(1)
    rows = random.integers(0, len(lengths), requests)
    arrival_s = np.cumsum(random.exponential(1.0 / rate_per_s, requests))
    return Trace("azure-like", "seed 1", arrival_s, lengths.prompt_tokens[rows], lengths.output_tokens[rows])


def rate_at(load, setup):
    """Return the requests per second that keep one replica busy for a share of what it serves when it never waits."""
    trace = workload(2_000, 1e6)
    return load * len(trace) / simulate_serving(trace, [setup]).makespan_s


def main():
    """Print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--model", default="llama-3.1-8b")
    parser.add_argument("--accelerator", default="h100_sxm")
    parser.add_argument("--router", default="round_robin")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    step = serving_step_model(given.model, given.accelerator, Parallelism(), max_num_seqs=256)
    setup = ReplicaSetup(step, max_num_seqs=256, prefix_caching=True)
    rate_per_s = rate_at(0.7, setup)
    options = ServingOptions(keep_requests=False, router=given.router)
    for replicas in given.replicas:
        for requests in given.requests:
            trace = workload(requests, rate_per_s * replicas)
            bare = [timeouts_per_s(200_000, time.process_time) for _ in range(3)]
            profile = cProfile.Profile() if given.profile else None
            start = time.process_time()
            if profile:
                profile.enable()
            result = simulate_serving(trace, [setup] * replicas, options)
            core_s = time.process_time() - start
            if profile:
                profile.disable()
            bare = median(bare + [timeouts_per_s(200_000, time.process_time) for _ in range(3)])
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
            print(
                f"{replicas} replicas, {requests:,} requests at {rate_per_s * replicas:.1f}/s: {requests / core_s:,.0f} requests/s, "
                f"{result.counts.iterations / core_s:,.0f} iterations/s, {bare * core_s / requests:.1f} bare timeouts per request "
                f"({bare:,.0f}/s), peak {memory:,.0f} MiB"
            )
            if profile:
                pstats.Stats(profile).sort_stats("tottime").print_stats(24)


if __name__ == "__main__":
    main()
