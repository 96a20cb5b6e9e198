"""Time and energy of operations: the equations, one function each, floats or arrays alike."""

from typing import Any

import numpy as np

TINY = 1e-300  # keeps 0 / 0 at 0


def overlap(compute_s: Any, memory_s: Any, softness: float) -> tuple[Any, Any]:
    """Return the time of a kernel whose arithmetic and traffic overlap, but not perfectly, and the part of it bound by the core [s].

    Time ``t = (a + b + r) / 2`` with ``r = sqrt((a - b)^2 + 4 k a b)``: the maximum of both for k = 0 (Williams, Waterman,
    Patterson, CACM 52(4), 2009, doi:10.1145/1498765.1498785), their sum for k = 1; never below the one nor above the other. The
    part that stretches when the clock drops is ``a · dt/da``.

    >>> overlap(3.0, 1.0, 0.0), overlap(3.0, 1.0, 1.0), overlap(1.0, 3.0, 0.0)
    ((3.0, 3.0), (4.0, 3.0), (3.0, 0.0))
    """
    difference = compute_s - memory_s
    root = (difference * difference + 4.0 * softness * compute_s * memory_s) ** 0.5
    slope = 0.5 * (1.0 + (difference + 2.0 * softness * memory_s) / (root + TINY))
    return 0.5 * (compute_s + memory_s + root), compute_s * slope


SORTED_TOGETHER, SORTED_APART = 128.0, 0.35


def sorting_share(rows: Any) -> Any:
    """Return the time to sort the logits of so many rows over that if all took what the first do.

    PyTorch sorts up to 128 rows as one long list, and more of them row by row, side by side: rows beyond cost about a third
    (assumed). Source: PyTorch, aten/src/ATen/native/cuda/SortStable.cu.

    >>> float(sorting_share(64.0)), float(sorting_share(256.0))
    (1.0, 0.675)
    """
    beyond = np.maximum(rows - SORTED_TOGETHER, 0.0)
    return 1.0 - (1.0 - SORTED_APART) * beyond / np.maximum(rows, 1.0)


LAUNCH_SOFTNESS = 0.05  # launches and kernels take turns at being late


def launched(kernels_s: Any, launches_s: Any) -> Any:
    """Return the time of an iteration whose kernels are launched one by one while earlier ones run: nearly the longer of both [s].

    >>> round(launched(3.0, 1.0), 2), round(launched(1.0, 1.0), 2)
    (3.07, 1.22)
    """
    return overlap(kernels_s, launches_s, LAUNCH_SOFTNESS)[0]


TILE_ROWS, TILE_COLS, SMALL_ROWS = 128.0, 128.0, 16.0
SPLIT_INNER = 512.0  # shortest K that a split product gives one unit
MATRIX_VECTOR_ROWS = 8.0  # up to which engines have kernels without tiles (llama.cpp, mmvq.cuh: MMVQ_MAX_BATCH_SIZE; ggml-metal mul_mv)


def tile_quantization(rows: Any, groups: Any, cols: Any, inner: Any, units: float, least_rows: Any = SMALL_ROWS) -> Any:
    """Return the factor by which whole tiles and whole waves lengthen a product, at least 1.

    Rows are padded to ``least_rows`` up to 128 of them, then to 128; tiles of 128 x 128 are dealt to ``units`` in whole waves. Fewer
    tiles than units are split along K down to 512 (split-K, stream-K). Source: NVIDIA, Matrix Multiplication Background User's
    Guide (2023-02), sections on tile and wave quantization; Osama et al., arXiv:2301.03598.

    Args:
        rows: M summed over the group, shape (operation, iteration).
        groups: Products in the group, likewise.
        cols: N, shape (operation, 1).
        inner: K, likewise.
        units: Compute units.
        least_rows: Of the smallest tile.

    >>> float(tile_quantization(128.0, 1.0, 128.0 * 132, 4096.0, 132.0))
    1.0
    """
    each = rows / groups
    step = np.where(each > TILE_ROWS, TILE_ROWS, least_rows)
    padded = np.ceil(each / step - 1e-9) * step
    waves = groups * np.ceil(padded / TILE_ROWS) * np.ceil(cols / TILE_COLS) / units
    whole = np.ceil(waves - 1e-9) / waves
    split = 1.0 / np.minimum(waves * np.maximum(inner / SPLIT_INNER, 1.0), 1.0)
    return padded / each * np.where(waves > 1.0, whole, split)


BISECTIONS = 24  # the clock to 1e-7 of its range


def voltage(clock: Any, floor: float) -> Any:
    """Return supply voltage over that at full clock, linear in the clock: ``floor + (1 - floor) clock``.

    >>> voltage(1.0, 0.5), voltage(0.5, 0.5)
    (1.0, 0.75)
    """
    return floor + (1.0 - floor) * clock


def power_at(clock: Any, parts: tuple[Any, Any, Any, Any], idle_w: float, static_w: float, floor: float) -> tuple[Any, Any, Any, Any]:
    """Return time [s], static energy, core energy and power at a clock (share of full).

    Time: what is bound by the core stretches as 1 / clock. Core energy per operation falls with the square of the voltage; so does
    static power above idle; memory and link energy stay.

    Args:
        clock: Share of the full clock.
        parts: Time at full clock, core-bound part of it, core energy, memory and link energy, of an iteration.
        idle_w: Idle power.
        static_w: Static power at full voltage.
        floor: See :func:`voltage`.
    """
    time_s, core_s, core_j, other_j = parts
    square = voltage(clock, floor) ** 2
    stretched = time_s + core_s * (1.0 / clock - 1.0)
    static_j = (idle_w + (static_w - idle_w) * square) * stretched
    core = core_j * square
    return stretched, static_j, core, (static_j + core + other_j) / stretched


def throttle(
    parts: tuple[Any, Any, Any, Any], device_w: tuple[float, float, float], floor: float, min_clock: float, max_clock: float = 1.0
) -> tuple[Any, Any, Any]:
    """Return time, static and core energy of iterations under a power limit, by bisection on the clock.

    The highest clock is found at which the iteration's mean power is within the limit; NVML's limiter acts on averages of tens of
    milliseconds, longer than a kernel. Where even the lowest clock draws more, the device pauses in between: the same energies are
    spread over the time in which lowest static power leaves room for them. A limit below that static power cannot be met: the power
    stays above it.

    Args:
        parts: As in :func:`power_at`, arrays of one shape.
        device_w: Idle, static and limiting power.
        floor: See :func:`voltage`.
        min_clock: Lowest share of the full clock.
        max_clock: Highest share, as a lock of the clock sets it.
    """
    idle_w, static_w, limit_w = device_w
    time_s, static_j, core_j, power_w = power_at(max_clock, parts, idle_w, static_w, floor)
    over = power_w > limit_w
    if not np.any(over):
        return time_s, static_j, core_j
    low, high = np.where(over, min_clock, max_clock), np.full_like(power_w, max_clock)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        fits = power_at(middle, parts, idle_w, static_w, floor)[3] <= limit_w
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    time_s, static_j, core_j, power_w = power_at(low, parts, idle_w, static_w, floor)
    lowest_w = lowest_static_w(device_w, floor, min_clock)
    if lowest_w >= limit_w:
        return time_s, static_j, core_j
    paused_s = np.where(power_w > limit_w * (1.0 + TOLERANCE), (core_j + parts[3]) / (limit_w - lowest_w), time_s)
    return paused_s, np.where(paused_s > time_s, lowest_w * paused_s, static_j), core_j


TOLERANCE = 1e-6  # of the limit: what the bisection leaves


def lowest_static_w(device_w: tuple[float, float, float], floor: float, min_clock: float) -> float:
    """Return static power at the lowest clock, below which no limit can be met [W].

    >>> round(lowest_static_w((50.0, 150.0, 700.0), 0.5, 0.0), 1)
    75.0
    """
    idle_w, static_w, _ = device_w
    return float(idle_w + (static_w - idle_w) * voltage(min_clock, floor) ** 2)


def throttle_one(
    parts: tuple[float, float, float, float], device_w: tuple[float, float, float], floor: float, min_clock: float, max_clock: float = 1.0
) -> tuple[float, float, float]:
    """Return what :func:`throttle` returns, for one iteration in plain floats: the event loop's form.

    The clock is found by Newton's method and put on the grid of the bisection.
    """
    idle_w, static_w, limit_w = device_w
    time_s, static_j, core_j, power_w = power_at(max_clock, parts, idle_w, static_w, floor)
    if power_w <= limit_w:
        return time_s, static_j, core_j
    grid = (max_clock - min_clock) / 2**BISECTIONS
    found = _clock_at_limit(parts, device_w, floor, min_clock, max_clock)
    clock = min_clock + grid * int((found - min_clock) / grid) if grid > 0.0 else min_clock
    time_s, static_j, core_j, power_w = power_at(clock, parts, idle_w, static_w, floor)
    if power_w <= limit_w * (1.0 + TOLERANCE):
        return time_s, static_j, core_j
    lowest_w = lowest_static_w(device_w, floor, min_clock)
    if lowest_w >= limit_w:
        return time_s, static_j, core_j
    paused_s = (core_j + parts[3]) / (limit_w - lowest_w)
    return (paused_s, lowest_w * paused_s, core_j) if paused_s > time_s else (time_s, static_j, core_j)


NEWTON_STEPS = 40  # three to five are usual
NEWTON_STEP = 1e-8  # of the clock; the step after such a one would be some 1e-15


def _clock_at_limit(parts: tuple[float, float, float, float], device_w: tuple[float, float, float], floor: float, min_clock: float, max_clock: float) -> float:
    """Return the clock at which power meets the limit, by Newton's method from the highest one; the lowest where even that draws more."""
    time_s, core_s, core_j, other_j = parts
    idle_w, static_w, limit_w = device_w
    above_w, below_w = static_w - idle_w, limit_w - idle_w
    slope_of_voltage, fixed_s, clock = 1.0 - floor, time_s - core_s, max_clock
    for _ in range(NEWTON_STEPS):
        voltage_now = floor + slope_of_voltage * clock
        square = voltage_now * voltage_now
        rate = 1.0 / (fixed_s + core_s / clock)
        dynamic_w = (core_j * square + other_j) * rate
        slope_w = 2.0 * slope_of_voltage * voltage_now * (above_w + core_j * rate) + dynamic_w * rate * core_s / (clock * clock)
        excess_w = above_w * square + dynamic_w - below_w
        if slope_w <= 0.0 or (clock == min_clock and excess_w >= 0.0):
            return min_clock
        step = excess_w / slope_w
        clock = max(clock - step, min_clock)
        if abs(step) < NEWTON_STEP:
            break
    return clock
