"""Pipeline schedules beside a simulation of their dependencies, and the published bubbles."""

import numpy as np
import pytest

from effsim.cost.schedules import SCHEDULES, StageTimes, bubble_s, check_chunks, check_schedule, kept_micro_batches, slowest_of, slowest_stage_s
from effsim.errors import SpecError


def simulated_step_s(stages, micro_batches, forward_s, backward_s):
    """Play GPipe: every stage runs all forwards in order, then all backwards in order; each waits for its neighbour."""
    ready = np.zeros((stages, micro_batches))
    for stage in range(stages):
        for batch in range(micro_batches):
            before = max(ready[stage - 1, batch] if stage else 0.0, ready[stage, batch - 1] if batch else 0.0)
            ready[stage, batch] = before + forward_s
    done = np.zeros((stages, micro_batches))
    for stage in reversed(range(stages)):
        for batch in range(micro_batches):
            after = done[stage + 1, batch] if stage < stages - 1 else ready[stage].max()
            before = done[stage, batch - 1] if batch else ready[stage].max()
            done[stage, batch] = max(after, before) + backward_s
    return done.max()


@pytest.mark.parametrize(("stages", "micro_batches"), [(1, 4), (2, 4), (4, 8), (8, 8)])
def test_gpipe_takes_its_work_and_its_bubble(stages, micro_batches):
    times = StageTimes(1.0, 2.0, 1.0)
    expected = micro_batches * 3.0 + bubble_s("gpipe", stages, 1, times)
    assert simulated_step_s(stages, micro_batches, 1.0, 2.0) == pytest.approx(expected)


def test_bubbles_in_order():
    times = StageTimes(1.0, 2.0, 1.0)
    plain, interleaved, zero = bubble_s("1f1b", 8, 1, times), bubble_s("1f1b", 8, 4, times), bubble_s("zero_bubble", 8, 1, times)
    assert (plain, interleaved, zero) == pytest.approx((21.0, 5.25, 7.0))
    assert bubble_s("zero_bubble", 8, 1, StageTimes(1.0, 2.0, 2.0)) == 0.0
    assert all(bubble_s(name, 1, 1, times) == 0.0 for name in SCHEDULES)


def test_kept_micro_batches():
    assert kept_micro_batches("1f1b", 8, 1, 4) == 4.0
    assert kept_micro_batches("1f1b", 8, 1, 64) == 8.0
    assert kept_micro_batches("1f1b", 8, 2, 64) == pytest.approx(8 * (1 + 7 / 16))
    assert kept_micro_batches("gpipe", 8, 1, 64) == 64.0


def test_a_schedule_that_does_not_exist():
    with pytest.raises(SpecError, match="did you mean 'gpipe'"):
        check_schedule("gpip", 1)
    with pytest.raises(SpecError, match="4 chunks per stage are for 1f1b"):
        check_schedule("zero_bubble", 4)


def test_the_slowest_rank_by_monte_carlo():
    draws = np.random.default_rng(1).normal(1.0, 0.02, size=(4000, 256)).max(axis=1)
    assert slowest_of(256, 0.02) == pytest.approx(draws.mean(), rel=1e-3)
    assert slowest_of(1, 0.5) == 1.0


class TestChunks:
    """Interleaved chunks hold equal numbers of layers (Narayanan et al., arXiv:2104.04473, section 2.2)."""

    @pytest.mark.parametrize(("layers", "stages", "virtual"), [(96, 8, 4), (96, 8, 12), (32, 4, 1), (31, 4, 1), (126, 16, 8), (61, 8, 4)])
    def test_published_splits_are_taken(self, layers, stages, virtual):
        """The last are Llama 3 405B and DeepSeek V3: embedding and head, and a layer for further tokens, take the place of a layer each."""
        check_chunks(layers, stages, virtual)

    @pytest.mark.parametrize(
        ("layers", "stages", "virtual", "allowed"), [(32, 4, 3, "1, 2, 4, 8"), (32, 4, 16, "1, 2, 4, 8"), (32, 1, 2, "1"), (96, 8, 5, "1, 2, 3, 4, 6, 12")]
    )
    def test_others_are_refused_with_those_that_would_do(self, layers, stages, virtual, allowed):
        with pytest.raises(SpecError, match=rf"virtual_pipeline_stages: {virtual} chunks in each of {stages} stages for {layers} layers.*allowed: {allowed}$"):
            check_chunks(layers, stages, virtual)


@pytest.mark.parametrize(
    ("layers", "split", "slowest_s"),
    [
        (32, (1, 1), 34.0),  # one stage does it all
        (32, (4, 1), 8.0 + 2.0),  # full chunks: the last stage runs the head beside its eight layers
        (32, (4, 4), 8.0 + 2.0),
        (30, (4, 4), 7.0 * 32 / 30 + 2.0),  # 32 places: head and embedding stand in two, the last stage has seven layers
        (31, (4, 4), 7.0 * 32 / 31 + 2.0),  # 32 places: the head stands in one
        (29, (4, 1), 7.0 * 32 / 29 + 2.0),
    ],
)
def test_the_stage_that_sets_the_pace(layers, split, slowest_s):
    """A head of 2 s; of the layers 32 s together."""
    assert slowest_stage_s(34.0, 2.0, layers, split) == pytest.approx(slowest_s)
    assert slowest_stage_s(32.1, 0.1, 30, (4, 4)) == pytest.approx(8.0 * 32 / 30)  # a short head waits for the stages of eight


def test_no_stage_is_faster_than_the_mean_or_slower_than_layers_and_head():
    for layers in range(4, 129):
        for split in ((2, 1), (4, 1), (8, 2), (16, 8)):
            for head_s in (0.0, 0.5, 5.0):
                found = slowest_stage_s(layers + head_s, head_s, layers, split)
                assert (layers + head_s) / split[0] <= found + 1e-9
                assert found <= -(-layers // (split[0] * split[1])) * split[1] + head_s + 1e-9


def test_layers_are_whole():
    """32 layers on 24 stages: eight stages at least have two."""
    assert slowest_stage_s(32.0, 0.0, 32, (24, 1)) == pytest.approx(2.0)
    assert slowest_stage_s(32.5, 0.5, 32, (6, 1)) == pytest.approx(6.0)  # the last has places empty, and the head


def test_slow_stages_of_arrays():
    found = slowest_stage_s(np.array([34.0, 68.0]), np.array([2.0, 4.0]), 31, (4, 4))
    assert found == pytest.approx([7.0 * 32 / 31 + 2.0, 14.0 * 32 / 31 + 4.0])
