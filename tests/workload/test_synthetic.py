"""Synthetic traces beside the recorded ones."""

import hashlib

import numpy as np
import pytest

from effsim.workload.synthetic import TRACES, synthetic_trace
from effsim.workload.trace_files import read_trace


@pytest.mark.parametrize(("name", "longest"), [("azure_llm_2023_conv.csv", 0.99), ("azure_llm_2023_code.csv", 0.9)])
def test_synthetic_trace_is_like_the_recorded_one(reference_file, name, longest):
    real, drawn = read_trace(reference_file(name)), synthetic_trace(name, 7)
    assert drawn.origin.startswith("synthetic")
    assert abs(len(drawn) - len(real)) <= 1
    assert drawn.duration_s == pytest.approx(real.duration_s, rel=0.03)
    for column in ("prompt_tokens", "output_tokens"):
        assert getattr(drawn, column).mean() == pytest.approx(getattr(real, column).mean(), rel=0.06)
        shares = [0.1, 0.25, 0.75, 0.9, longest]
        assert np.quantile(getattr(drawn, column), shares) == pytest.approx(np.quantile(getattr(real, column), shares), rel=0.12)
    per_twelfth = [np.histogram(trace.arrival_s, bins=np.linspace(0.0, real.duration_s, 13))[0] for trace in (drawn, real)]
    assert np.corrcoef(*per_twelfth)[0, 1] > 0.9


def test_long_conversations_have_short_answers(reference_file):
    name = "azure_llm_2023_conv.csv"
    real, drawn = read_trace(reference_file(name)), synthetic_trace(name, 7)
    long_drawn, long_real = drawn.prompt_tokens > 3000, real.prompt_tokens > 3000
    assert drawn.output_tokens[long_drawn].mean() == pytest.approx(real.output_tokens[long_real].mean(), rel=0.1)


@pytest.mark.parametrize("name", TRACES)
def test_synthetic_trace_repeats_and_extends(name):
    def digest(trace):
        return hashlib.sha256(trace.arrival_s.tobytes() + trace.prompt_tokens.tobytes() + trace.output_tokens.tobytes()).hexdigest()

    assert digest(synthetic_trace(name, 1)) == digest(synthetic_trace(name, 1)) != digest(synthetic_trace(name, 2))
    known = TRACES[name]
    twice = synthetic_trace(name, 1, 2 * known.requests)
    assert twice.duration_s == pytest.approx(2 * known.duration_s, rel=0.04)
    assert len(synthetic_trace(name, 1, 5)) == 5
