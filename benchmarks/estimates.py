"""Speed of serving estimates: 100,000 configurations in one array call, and one scalar call.

Prints predictions per second, and the array call's time over that of one ``numpy.exp`` per kernel and iteration of the same size (the
least that any array code would spend per value); the scalar call in milliseconds. Pin one core: OPENBLAS_NUM_THREADS=1.

Run: python benchmarks/estimates.py
"""

import argparse
import functools
import time

import numpy as np

import effsim
from effsim.cost.deployment import Settings, deploy
from effsim.workload.operations import Parallelism

CASES = ("decode", "mixed", "median", "first")  # iterations evaluated per configuration
MODELS = (("llama-3.1-70b", 4), ("qwen3-30b-a3b", 1), ("deepseek-v3.1", 16))


def best_of(runs, call):
    """Return the shortest wall time of several runs [s]."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    """Print one line per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    draw = np.random.default_rng(1)
    batch = draw.integers(1, 257, given.configurations)
    prompt = draw.integers(32, 4097, given.configurations)
    output = draw.integers(32, 2049, given.configurations)
    for name, ranks in MODELS:
        print(measured(name, ranks, (batch, prompt, output), given.runs))


def measured(name, ranks, loads, runs):
    """Return one line of figures for a model."""
    batch, prompt, output = loads
    kernels = len(deploy(name, "h100_sxm", Parallelism(tensor=ranks), Settings()).table.operations)
    plain = np.linspace(0.0, 1.0, len(batch))
    estimate = functools.partial(effsim.estimate_serving, name, "h100_sxm", tensor_parallel=ranks)
    array_s = best_of(runs, lambda: estimate(batch=batch, prompt_tokens=prompt, output_tokens=output))
    floor_s = best_of(runs, lambda: [np.exp(plain) for _ in range(kernels * len(CASES))])
    scalar_s = best_of(50 * runs, lambda: estimate(batch=16))
    return (
        f"{name} (TP{ranks}, {kernels} kernels): {len(batch) / array_s:,.0f} predictions/s, "
        f"{array_s / floor_s:.1f} x one exp per kernel and iteration; one scalar call {1e3 * scalar_s:.2f} ms"
    )


if __name__ == "__main__":
    main()
