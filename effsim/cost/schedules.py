"""Pipeline schedules: the time in which a stage has nothing to do, and the micro-batches that it keeps."""

from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np

from effsim.catalog import suggest
from effsim.errors import SpecError

SCHEDULES: Final = ("1f1b", "gpipe", "zero_bubble")


class StageTimes(NamedTuple):
    """Times of one micro-batch on one stage [s]: forward, backward (recomputation included), and of that the weight gradients."""

    forward_s: Any
    backward_s: Any
    weight_gradient_s: Any


def check_schedule(name: str, virtual_stages: int) -> str:
    """Return the schedule's name.

    Raises:
        SpecError: Unknown, or interleaved where it cannot be.
    """
    if name not in SCHEDULES:
        raise SpecError(f"pipeline_schedule: unknown {name!r}; {suggest(str(name), SCHEDULES)}allowed: {', '.join(SCHEDULES)}")
    if virtual_stages > 1 and name != "1f1b":
        raise SpecError(f"virtual_pipeline_stages: {virtual_stages} chunks per stage are for 1f1b; {name} has one")
    return name


TAKE_A_PLACE: Final = 3
"""What may stand in a chunk in place of a layer: embedding, head (Llama 3, arXiv:2407.21783, section 3.3.2: 126 layers in 128 chunks) and a
layer that predicts further tokens (Megatron Core's pipeline layouts of DeepSeek V3: 61 layers in 64 places)."""


def check_chunks(layers: int, stages: int, virtual_stages: int) -> None:
    """Check that interleaved chunks hold equal numbers of layers, or of what takes their place.

    Raises:
        SpecError: They cannot; the message has the numbers of chunks that would do.
    """
    if virtual_stages == 1:
        return
    most = (layers + TAKE_A_PLACE) // stages
    allowed = [1, *(v for v in range(2, most + 1) if stages > 1 and any((layers + taken) % (stages * v) == 0 for taken in range(TAKE_A_PLACE + 1)))]
    if virtual_stages not in allowed:
        given = f"{virtual_stages} chunks in each of {stages} stages for {layers} layers"
        raise SpecError(f"virtual_pipeline_stages: {given}; each chunk needs as many layers as the others; allowed: {', '.join(map(str, allowed))}")


def slowest_stage_s(whole_s: Any, head_s: Any, layers: int, split: tuple[int, int]) -> Any:
    """Return the time of the stage that sets the pace for one micro-batch [s].

    Where the layers fill the chunks, the last stage runs the head beside its share. Where they do not, the head stands in the place of
    a layer, so that a stage has that many places, and the last one fewer layers (:data:`TAKE_A_PLACE`). A stage without chunks may
    leave more places empty: 32 layers on 6 stages take as long as 36.

    Args:
        whole_s: All stages together.
        head_s: Of that, logits and loss.
        layers: Of the model.
        split: Stages, and chunks of each.

    >>> slowest_stage_s(34.0, 2.0, 32, (4, 1)), slowest_stage_s(32.0, 2.0, 30, (4, 1)), slowest_stage_s(30.5, 0.5, 30, (4, 1))
    (10.0, 9.0, 8.0)
    >>> slowest_stage_s(32.0, 0.0, 32, (6, 1))
    6.0
    """
    stages, chunks = split
    if stages == 1:
        return whole_s
    layer_s = (whole_s - head_s) / layers
    taken = -layers % (stages * chunks)
    if taken == 0:
        return layers / stages * layer_s + head_s
    places = (layers + taken) / stages
    found = np.maximum(places * layer_s, (places - 1.0) * layer_s + head_s)
    return float(found) if np.ndim(found) == 0 else found


def bubble_s(schedule: str, stages: int, virtual_stages: int, times: StageTimes) -> Any:
    """Return the idle time of a stage in one step [s].

    GPipe and 1F1B: ``(p - 1)(F + B)``; interleaved over v chunks: that over v (Narayanan et al., arXiv:2104.04473, section 2.2).
    Zero bubble (ZB-H1): ``(p - 1)(F + B - 2 W)`` with W the weight gradients, which fill what they can of the gaps (Qi et al.,
    arXiv:2401.10241, table 1, where B is the input gradient alone).

    >>> bubble_s("1f1b", 4, 1, StageTimes(1.0, 2.0, 1.0)), bubble_s("1f1b", 4, 3, StageTimes(1.0, 2.0, 1.0))
    (9.0, 3.0)
    >>> float(bubble_s("zero_bubble", 4, 1, StageTimes(1.0, 2.0, 1.0)))
    3.0
    """
    whole = times.forward_s + times.backward_s
    if schedule == "zero_bubble":
        return (stages - 1) * np.maximum(whole - 2.0 * times.weight_gradient_s, 0.0)
    return (stages - 1) / virtual_stages * whole


def kept_micro_batches(schedule: str, stages: int, virtual_stages: int, micro_batches: Any) -> Any:
    """Return how many micro-batches' activations the first stage keeps.

    GPipe: all. 1F1B and ZB-H1: as many as there are stages; interleaved: ``1 + (p - 1) / (p v)`` times as many; never more than there are. Sources: as above;
    Korthikanti et al., arXiv:2205.05198, section 4.2.3.

    >>> float(kept_micro_batches("gpipe", 4, 1, 16)), float(kept_micro_batches("1f1b", 4, 1, 16)), float(kept_micro_batches("1f1b", 4, 2, 16))
    (16.0, 4.0, 5.5)
    """
    if schedule == "gpipe":
        return np.asarray(micro_batches, dtype=float)
    factor = 1.0 + (stages - 1) / (stages * virtual_stages) if virtual_stages > 1 else 1.0
    return np.minimum(micro_batches, stages * factor)


def slowest_of(ranks: int, relative_sd: float) -> float:
    """Return the expected slowest of synchronous ranks over their mean, for normal times with a relative standard deviation.

    ``1 + sd · E[max of n]`` with Blom's approximation of the expected largest of n standard normals,
    ``Φ⁻¹((n - 0.375) / (n + 0.25))`` (Blom, 1958).

    >>> slowest_of(1, 0.1), round(slowest_of(1024, 0.01), 3)
    (1.0, 1.032)
    """
    if ranks == 1 or relative_sd == 0.0:
        return 1.0
    return 1.0 + relative_sd * NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25))
