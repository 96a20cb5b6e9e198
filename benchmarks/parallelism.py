"""Speed of the search over splits: GPT-3 175B on 1,024 A100, and 100,000 configurations at once.

Prints wall time, configurations per second and peak memory, and the search's time over that of one estimate.

Run: python benchmarks/parallelism.py
"""

import resource
import time

import numpy as np

import effsim
from effsim.optimize.parallelism import Job, search_parallelism

MODEL, ACCELERATOR, COUNT = "gpt-3-175b", "a100_sxm_80gb", 1024
SPLIT = {"tensor_parallel": 8, "pipeline_parallel": 8}


def timed(call):
    """Return the wall time of a call [s] and what it returned."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def main():
    """Print the figures."""
    effsim.estimate_training(MODEL, ACCELERATOR, num_accelerators=COUNT, global_batch_size=1536, sequence_length=2048, recompute="full", **SPLIT)
    one_s, _ = timed(
        lambda: effsim.estimate_training(MODEL, ACCELERATOR, num_accelerators=COUNT, global_batch_size=1536, sequence_length=2048, recompute="full", **SPLIT)
    )
    search_s, found = timed(lambda: search_parallelism(Job(MODEL, ACCELERATOR, COUNT, 1536, 2048)))
    print(f"search: {search_s:.2f} s, {len(found):,} feasible splits, as long as {search_s / one_s:.0f} single estimates of {1e3 * one_s:.1f} ms")
    print(found.head(3)[["tensor_parallel", "pipeline_parallel", "virtual_pipeline_stages", "recompute", "micro_batch_size", "step_time_s", "mfu"]].to_string())
    batches = np.arange(1, 281) * 512
    array_s, many = timed(lambda: search_parallelism(Job(MODEL, ACCELERATOR, COUNT, batches, 2048)))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"array: {len(many):,} feasible configurations in {array_s:.2f} s, {len(many) / array_s:,.0f} per second, {peak_mb:.0f} MB at most")


if __name__ == "__main__":
    main()
