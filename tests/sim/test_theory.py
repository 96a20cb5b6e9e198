"""The serving simulator against closed forms of queueing, and one request against the analytic estimate."""

import numpy as np
import pytest

import effsim
from effsim.cost.step import serving_step_model
from effsim.sim.serving import ServingOptions, simulate_serving
from effsim.sim.setup import ReplicaSetup
from effsim.workload.operations import Parallelism
from effsim.workload.traces import Trace


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_mg1_waiting_time(linear_step, load):
    """Pollaczek-Khinchine: mean wait = λ E[S²] / (2 (1 - ρ)); a prompt of n tokens takes n ms, n uniform from 5 to 35."""
    waits = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        prompts = random.integers(5, 35, 20_000, endpoint=True)
        arrival_s = np.cumsum(random.exponential(0.02 / load, prompts.size))
        requests = Trace("poisson", "test", arrival_s, prompts, np.ones_like(prompts))
        setup = ReplicaSetup(linear_step(0.0, 1e-3, 0.0), max_num_seqs=1)
        waits.append(simulate_serving(requests, [setup]).requests.queue_s.mean())
    lengths = np.arange(5, 36)
    assert np.mean(waits) == pytest.approx(load / 0.02 * np.mean((lengths * 1e-3) ** 2) / (2.0 * (1.0 - load)), rel=0.04)


@pytest.mark.parametrize("batching", ["continuous", "prefill_first", "static"])
def test_littles_law_and_conservation(linear_step, batching):
    """Requests in the system, averaged over time, are arrivals per second times the mean latency; joules of requests and of rest are all."""
    random = np.random.default_rng(3)
    arrival_s = np.cumsum(random.exponential(0.05, 2_000))
    requests = Trace("poisson", "test", arrival_s, random.integers(1, 400, 2_000), random.integers(1, 60, 2_000))
    result = simulate_serving(requests, [ReplicaSetup(linear_step(), batching=batching, max_num_seqs=64)] * 2, ServingOptions(bin_s=0.1))
    power, columns = result.power, result.requests
    inside_s = ((power.running + power.waiting) * power.duration_s).sum()
    assert inside_s == pytest.approx(columns.e2e_latency_s.sum(), rel=1e-9)
    assert (power.waiting * power.duration_s).sum() == pytest.approx(columns.queue_s.sum(), rel=1e-9)
    assert columns.energy_j.sum() + result.energy.idle_j == pytest.approx(result.energy.total_j, rel=1e-9)
    assert (power.accelerator_w * power.duration_s).sum() == pytest.approx(result.energy.total_j, rel=1e-9)
    assert result.counts.arrived == result.counts.completed == 2_000


@pytest.mark.parametrize(("model", "tensor"), [("llama-3.1-8b", 1), ("llama-3.1-70b", 4)])
def test_one_request_alone_is_the_analytic_estimate(model, tensor):
    """The first token to the last digit; the others within the interpolation over contexts; energy within its curvature."""
    expected = effsim.estimate_serving(model, "h100_sxm", tensor_parallel=tensor, batch=1, prompt_tokens=1000, output_tokens=300)
    step = serving_step_model(model, "h100_sxm", Parallelism(tensor=tensor), max_num_seqs=8)
    found = simulate_serving(Trace("one", "test", np.zeros(1), [1000], [300]), [ReplicaSetup(step, max_num_seqs=8)]).requests
    assert found.ttft_s[0] == pytest.approx(expected.ttft_s, rel=1e-12)
    assert found.tpot_s[0] == pytest.approx(expected.itl_s, rel=1e-4)
    assert found.energy_j[0] == pytest.approx(expected.energy_per_request_j, rel=2e-3)
