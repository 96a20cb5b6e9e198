"""Checkpoint intervals and goodput in closed form, for failures that come at a constant rate.

Symbols: ``M`` mean time between failures of the whole job, ``δ`` time of a save, ``τ`` work between two saves, ``R`` time of a
restart, ``D`` time until a failure is noticed; all in seconds.
"""

import math

from effsim.errors import SpecError


def young_interval_s(write_s: float, mtbf_s: float) -> float:
    """Return Young's interval of work between saves [s]: ``sqrt(2 δ M)``.

    Source: J. W. Young, A first order approximation to the optimum checkpoint interval, CACM 17(9), 1974,
    doi:10.1145/361147.361115.

    >>> young_interval_s(300.0, 86_400.0) / 60.0
    120.0
    """
    return math.sqrt(2.0 * write_s * mtbf_s)


def daly_interval_s(write_s: float, mtbf_s: float) -> float:
    """Return Daly's interval of work between saves [s].

    ``sqrt(2 δ M) (1 + sqrt(δ / 2M) / 3 + (δ / 2M) / 9) - δ`` for ``δ < 2M``, else ``M``.

    Source: J. T. Daly, A higher order estimate of the optimum checkpoint interval for restart dumps, FGCS 22(3), 2006,
    doi:10.1016/j.future.2004.11.016; the captions of its figures 3 to 5 state 117, 57 and 9.1 minutes.

    >>> [round(daly_interval_s(5.0, mtbf_min), 1) for mtbf_min in (24 * 60.0, 6 * 60.0, 15.0)]
    [116.7, 56.7, 9.1]
    """
    if write_s >= 2.0 * mtbf_s:
        return mtbf_s
    ratio = write_s / (2.0 * mtbf_s)
    return math.sqrt(2.0 * write_s * mtbf_s) * (1.0 + math.sqrt(ratio) / 3.0 + ratio / 9.0) - write_s


def expected_segment_s(segment_s: float, mtbf_s: float, restart_s: float = 0.0, detection_s: float = 0.0) -> float:
    """Return the mean time until a segment of work and its save have passed without a failure [s].

    ``(M + D) e^(R/M) (e^(L/M) - 1)``: a failed segment starts anew after ``D`` and a restart, which can fail too; another
    failure before the first is noticed adds nothing. With ``D = 0`` it is the exponential model of Daly (2006).

    Raises:
        SpecError: So long that the mean is beyond any number.

    >>> round(expected_segment_s(3600.0, 1e9, 600.0), 2)
    3600.01
    """
    try:
        return (mtbf_s + detection_s) * math.exp(restart_s / mtbf_s) * math.expm1(segment_s / mtbf_s)
    except OverflowError:
        raise SpecError(f"a segment of {segment_s:g} s never passes with a failure every {mtbf_s:g} s") from None


def expected_goodput(interval_s: float, write_s: float, mtbf_s: float, restart_s: float = 0.0, detection_s: float = 0.0) -> float:
    """Return the mean share of wall time that is useful work, 0 to 1: ``τ / expected segment(τ + δ)``.

    >>> round(expected_goodput(3600.0, 60.0, 1e12), 6) == round(3600 / 3660, 6)
    True
    """
    return interval_s / expected_segment_s(interval_s + write_s, mtbf_s, restart_s, detection_s)


def expected_completion_s(work_s: float, checkpoint: tuple[float, float], mtbf_s: float, restart_s: float = 0.0, detection_s: float = 0.0) -> float:
    """Return the mean time of a run [s].

    Whole intervals, then what is left; every one ends with a save.

    Args:
        work_s: Without failures and saves.
        checkpoint: (interval of work, time of a save) [s].
        mtbf_s: Of the job.
        restart_s: Of a restart, reading the checkpoint included.
        detection_s: From a failure to the start of the restart.
    """
    interval_s, write_s = checkpoint
    whole = math.floor(work_s / interval_s)
    rest_s = work_s - whole * interval_s
    last_s = expected_segment_s(rest_s + write_s, mtbf_s, restart_s, detection_s) if rest_s > 0.0 else 0.0
    return whole * expected_segment_s(interval_s + write_s, mtbf_s, restart_s, detection_s) + last_s
