"""What the other benchmarks are measured against."""

import time

import simpy


def timeouts_per_s(count):
    """Return how many timeouts a second one SimPy process gets through."""
    env = simpy.Environment()

    def clock():
        for _ in range(count):
            yield env.timeout(1.0)

    env.process(clock())
    start = time.perf_counter()
    env.run()
    return count / (time.perf_counter() - start)
