"""What the other benchmarks are measured against."""

import time

import simpy


def timeouts_per_s(count, clock=time.perf_counter):
    """Return how many timeouts a second, as the clock counts it, one SimPy process gets through."""
    env = simpy.Environment()

    def tick():
        for _ in range(count):
            yield env.timeout(1.0)

    env.process(tick())
    start = clock()
    env.run()
    return count / (clock() - start)
