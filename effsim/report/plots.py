"""Pictures of a serving run as SVG: latencies, what runs and waits, the KV cache, power by part over time."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.errors import MissingExtraError
from effsim.report.validation_plots import COLOURS
from effsim.sim.recorder import Histogram
from effsim.sim.result import SimulationResult

DASHES: Final = ("-", "--", "-.", ":")
MOST_POINTS: Final = 1_500
"""Along the axis of time; more bins are joined."""
CUMULATED: Final = (("TTFT", "ttft_s", "ttft"), ("TPOT", "tpot_s", "tpot"), ("ITL", None, "itl"), ("end to end", "e2e_latency_s", "e2e"))
LEAST_S: Final = 1e-4


def files(result: SimulationResult, summary: Mapping[str, Any], power: pd.DataFrame) -> dict[str, str]:
    """Return the pictures by the name of their file.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 -- an extra
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("matplotlib", "report", "a run's folder with plots") from None
    series = joined(power)
    settings: Any = {"svg.hashsalt": "effsim", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
    with mpl.rc_context(settings):
        pictures = {
            "latency.svg": (_latency(Figure, result, summary), "Latencies, cumulated"),
            "load.svg": (_load(Figure, series, () if result.operation is None else result.operation.replicas), "Requests and KV cache over time"),
            "power.svg": (_power(Figure, series), "Power over time by part"),
        }
        return {name: _svg(figure, f"{title}: {summary['name']}") for name, (figure, title) in pictures.items()}


def joined(power: pd.DataFrame, most: int = MOST_POINTS) -> pd.DataFrame:
    """Return a time series of at most so many bins: neighbours are joined to means that weigh by their length, so that power keeps its joules."""
    step = -(-len(power) // most)
    if step == 1:
        return power
    starts = np.arange(0, len(power), step)
    length_s = power["duration_s"].to_numpy()
    total_s = np.add.reduceat(length_s, starts)
    means = {name: np.add.reduceat(power[name].to_numpy() * length_s, starts) / total_s for name in power.columns if name not in {"time_s", "duration_s"}}
    return pd.DataFrame({"time_s": power["time_s"].to_numpy()[starts], "duration_s": total_s, **means})


def _svg(figure: Any, title: str) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Title": title})
    return re.sub(r"^.*?(?=<svg)", "", stream.getvalue(), count=1, flags=re.DOTALL)


def _latency(figure_of: Any, result: SimulationResult, summary: Mapping[str, Any]) -> Any:
    """Return the share of requests (of pairs of tokens for ITL) within a latency; triangles are objectives."""
    figure = figure_of(figsize=(7.0, 4.2), layout="constrained")
    axis = figure.subplots()
    limits = summary["slo"]["objectives"]
    ends_s: list[float] = []
    for (label, column, short), colour, dash in zip(CUMULATED, COLOURS, DASHES, strict=False):
        known = result.inter_token if column is None else result.latency[column].histogram
        times_s, shares = cumulated(known)
        if not times_s.size:
            continue
        axis.step(times_s, 100.0 * shares, where="post", color=colour, linestyle=dash, linewidth=1.4, label=label)
        ends_s += [float(times_s[0]), float(times_s[-1])]
        for name, one in limits.items():
            if name.startswith(f"{short}_p"):
                axis.plot(one["limit_s"], int(name.rpartition("p")[2]), marker="<", color=colour, markersize=7.0, linestyle="none", clip_on=False)
                ends_s.append(one["limit_s"])
    axis.set(xscale="log", xlabel="latency (s)", ylabel="share within it (%)", ylim=(0.0, 101.0))
    if ends_s:
        axis.set_xlim(max(min(ends_s) / 1.5, LEAST_S), max(ends_s) * 1.5)
    axis.grid(visible=True, which="major", color="0.9", linewidth=0.6)
    if ends_s:
        figure.legend(loc="outside upper center", ncols=4, frameon=False, title="triangle: limit" if limits else None)
    return figure


def cumulated(histogram: Histogram) -> tuple[Any, Any]:
    """Return the ends of the bins that hold something [s] and the share up to there, beginning with 0.

    >>> histogram = Histogram()
    >>> histogram.add(0.02, 3); histogram.add(5.0)
    >>> cumulated(histogram)[1].tolist()
    [0.0, 0.75, 1.0]
    """
    counts = np.array(histogram.counts)
    places = np.flatnonzero(counts)
    if not places.size:
        return np.empty(0), np.empty(0)
    ends_s = np.array([1e-6 * 10.0 ** ((place + 1) / 400) for place in (places[0] - 1, *places)])
    return ends_s, np.concatenate(([0.0], np.cumsum(counts[places]) / counts.sum()))


def _edges_s(series: pd.DataFrame) -> Any:
    return np.append(series["time_s"].to_numpy(), series["time_s"].iloc[-1] + series["duration_s"].iloc[-1])


def _load(figure_of: Any, series: pd.DataFrame, changes: Sequence[tuple[float, int, int]]) -> Any:
    """Return requests above the KV cache; under them the replicas, where their number changes."""
    panels = 3 if len(changes) > 1 else 2
    figure = figure_of(figsize=(8.0, 2.0 + 1.5 * panels), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, height_ratios=(3, 2, 2)[:panels])
    above, below = axes[:2]
    edges_s = _edges_s(series)
    if len(changes) > 1:
        times_s, on, starting = np.array(changes).T
        axes[2].stairs(on, np.append(times_s, max(edges_s[-1], times_s[-1])), color=COLOURS[0], linewidth=1.2, baseline=None)
        axes[2].stairs(starting, np.append(times_s, max(edges_s[-1], times_s[-1])), color=COLOURS[1], linewidth=1.0, linestyle="--", baseline=None)
        axes[2].set(ylabel="replicas on\n(dashed: starting)", ylim=(0.0, 1.05 * float(max(on.max(), starting.max(), 1.0))))
    above.stairs(series["running"], edges_s, color=COLOURS[0], linewidth=1.2, label="running")
    above.stairs(series["waiting"], edges_s, color=COLOURS[1], linewidth=1.2, linestyle="--", label="waiting")
    above.set(ylabel="requests", ylim=(0.0, None))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    below.stairs(100.0 * series["kv_usage"], edges_s, color=COLOURS[2], linewidth=1.2, fill=False)
    below.set(ylabel="KV cache used (%)", ylim=(0.0, max(1.0, 105.0 * float(series["kv_usage"].max()))), xlim=(0.0, edges_s[-1]))
    axes[-1].set_xlabel("time (s)")
    for axis in axes:
        axis.set_axisbelow(True)
        axis.grid(visible=True, color="0.93", linewidth=0.6)
    return figure


def _power(figure_of: Any, series: pd.DataFrame) -> Any:
    """Return accelerators, the rest of the servers and the rest of the site upon each other; the top is the site's power, or the servers'."""
    figure = figure_of(figsize=(8.0, 4.0), layout="constrained")
    axis = figure.subplots()
    edges_s = _edges_s(series)
    levels = [np.zeros(len(series)), *(series[name].to_numpy() for name in ("accelerator_w", "server_w", "site_w") if series[name].notna().all())]
    unit_w, unit = _unit(float(levels[-1].max()))
    labels = ("accelerators", "hosts, fans, power supplies", "cooling and distribution of the site")
    for low_w, high_w, colour, label in zip(levels, levels[1:], COLOURS, labels, strict=False):
        axis.stairs(high_w / unit_w, edges_s, baseline=low_w / unit_w, fill=True, color=colour, alpha=0.55, label=label)
        axis.stairs(high_w / unit_w, edges_s, color=colour, linewidth=0.8)
    axis.set(xlabel="time (s)", ylabel=f"power ({unit})", ylim=(0.0, None), xlim=(0.0, edges_s[-1]))
    axis.grid(visible=True, color="0.93", linewidth=0.6)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def _unit(most_w: float) -> tuple[float, str]:
    """Return the unit [W] in which a power reads well.

    >>> _unit(5600.0)
    (1000.0, 'kW')
    """
    return next(((size_w, name) for size_w, name in ((1e6, "MW"), (1e3, "kW")) if most_w >= size_w), (1.0, "W"))
