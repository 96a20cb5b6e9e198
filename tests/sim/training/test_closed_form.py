import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from effsim.errors import SpecError
from effsim.sim.training.closed_form import daly_interval_s, expected_completion_s, expected_goodput, expected_segment_s, young_interval_s


@pytest.mark.parametrize(("mtbf_min", "published_min"), [(24 * 60, 117), (6 * 60, 57), (15, 9.1)])
def test_daly_optimum_as_in_the_captions_of_figures_3_to_5(mtbf_min, published_min):
    assert daly_interval_s(5 * 60.0, mtbf_min * 60.0) / 60.0 == pytest.approx(published_min, rel=0.006)


@pytest.mark.parametrize("mtbf_s", [3e3, 3e4, 3e5])
def test_daly_optimum_is_that_of_the_exponential_model(mtbf_s):
    best = minimize_scalar(lambda t: -expected_goodput(t, 60.0, mtbf_s, 300.0), bounds=(1.0, 10 * mtbf_s), method="bounded")
    assert expected_goodput(daly_interval_s(60.0, mtbf_s), 60.0, mtbf_s, 300.0) == pytest.approx(-best.fun, rel=1e-4)
    assert expected_goodput(young_interval_s(60.0, mtbf_s), 60.0, mtbf_s, 300.0) <= -best.fun * (1 + 1e-9)


def test_beyond_twice_the_mtbf_the_interval_is_the_mtbf():
    assert daly_interval_s(300.0, 100.0) == 100.0


def test_a_segment_by_monte_carlo():
    mtbf_s, length_s, restart_s, detection_s = 1000.0, 700.0, 200.0, 150.0
    random = np.random.default_rng(3)

    def needed(duration_s, recover):
        spent_s = 0.0
        while (failed_s := random.exponential(mtbf_s)) < duration_s:
            spent_s += failed_s + detection_s + recover()
        return spent_s + duration_s

    samples_s = [needed(length_s, lambda: needed(restart_s, lambda: 0.0)) for _ in range(20_000)]
    error_s = np.std(samples_s) / np.sqrt(len(samples_s))
    assert np.mean(samples_s) == pytest.approx(expected_segment_s(length_s, mtbf_s, restart_s, detection_s), abs=4 * error_s)


def test_without_failures_only_saves_cost():
    assert expected_completion_s(3600.0 * 2.5, (3600.0, 60.0), 1e13) == pytest.approx(3600.0 * 2.5 + 3 * 60.0, rel=1e-3)


def test_a_segment_that_never_passes_is_said():
    with pytest.raises(SpecError, match="never passes"):
        expected_segment_s(1e9, 1.0)
