"""Speed of the search over splits: GPT-3 175B on 1,024 A100, larger jobs, and 100,000 configurations worked out in full.

Prints, best of three: wall time, time of the processor, combinations considered per second, how many were timed, peak memory; and what the
best is beside the split that was published.

Run: python benchmarks/parallelism.py [--large]
"""

import resource
import sys
import time

import numpy as np

import effsim
from effsim.optimize.parallelism import Job, Space, compare, search_parallelism

GPT3 = Job("gpt-3-175b", "a100_sxm_80gb", 1024, 1536, 2048)
PUBLISHED = {"tensor_parallel": 8, "pipeline_parallel": 8, "context_parallel": 1, "micro_batch_size": 1, "zero_stage": 0, "sequence_parallel": False}
PUBLISHED |= {"recompute": "full", "pipeline_schedule": ["1f1b", "interleaved"]}  # Megatron-LM, SC'21; chunks are not stated
LARGE = (("llama-3.1-405b", "h100_sxm", 16384, 2048, 8192, "bf16"), ("deepseek-v3", "h100_sxm", 2048, 15360, 4096, "fp8"))


def timed(call, repeats=3):
    """Return the least wall time and processor time of a call [s], and what it returned."""
    walls, works = [], []
    for _ in range(repeats):
        wall, work = time.perf_counter(), time.process_time()
        result = call()
        walls.append(time.perf_counter() - wall)
        works.append(time.process_time() - work)
    return min(walls), min(works), result


def report(what, measured):
    """Print one line."""
    wall_s, work_s, found = measured
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = found.considered / wall_s
    print(
        f"{what}: {wall_s:.2f} s ({work_s:.2f} s of the processor), {found.considered:,} considered, {rate:,.0f}/s, "
        f"{found.feasible:,} fit, {found.timed:,} timed, {peak_mb:.0f} MB at most"
    )


def main():
    """Print the figures."""
    split = {"tensor_parallel": 8, "pipeline_parallel": 8, "recompute": "full"}
    one_s, _, _ = timed(lambda: effsim.estimate_training("gpt-3-175b", "a100_sxm_80gb", 1024, 1536, sequence_length=2048, **split))
    measured = timed(lambda: search_parallelism(GPT3, top=10))
    report("best of GPT-3 175B on 1,024 A100", measured)
    print(f"as long as {measured[0] / one_s:.0f} single estimates of {1e3 * one_s:.1f} ms")
    columns = ["tensor_parallel", "pipeline_parallel", "virtual_pipeline_stages", "context_parallel", "recompute", "micro_batch_size", "step_time_s", "mfu"]
    print(measured[2].best.head(3)[columns].to_string())
    print(compare(GPT3, measured[2], PUBLISHED).summary)
    many = Job("gpt-3-175b", "a100_sxm_80gb", 1024, np.arange(1, 281) * 512, 2048)
    few = Space(context_parallel=1, sequence_parallel=True, recompute=["none", "selective", "full"], virtual_pipeline_stages=[1, 2, 4], zero_stage=[0, 1])
    wall_s, _, every = timed(lambda: search_parallelism(many, space=few), 1)
    print(f"every one of {every.feasible:,} that fit, worked out in {wall_s:.2f} s: {every.feasible / wall_s:,.0f} per second")
    if "--large" in sys.argv:
        for model, accelerator, count, batch, length, precision in LARGE:
            found = timed(lambda job=(model, accelerator, count, batch, length), p=precision: effsim.optimize_training(*job, precision=p), 1)
            report(f"best of {model} on {count:,} {accelerator}", found)


if __name__ == "__main__":
    main()
