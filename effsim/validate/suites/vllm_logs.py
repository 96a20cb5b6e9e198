"""Request logs of real vLLM runs, replayed through the simulator: latencies by percentile, throughput, running requests."""

import csv
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.catalog import find
from effsim.documents import dump_yaml
from effsim.errors import EffSimError, SpecError
from effsim.validate.comparison import Comparison, Skipped, SuiteResult
from effsim.validate.context import Context, Simulate, half_as_sure

ORDER: Final = 2
TITLE: Final = "Request logs of vLLM, replayed"
SOURCE: Final = "LLMServingSim repository (MIT): vLLM 0.19.0, ShareGPT at 10 sessions per second"
FOLDER: Final = "vllm_runs"
PERCENTILES: Final = (50, 90, 99)
LATENCIES: Final = {"ttft_s": "ttft_s", "tpot_s": "tpot_s", "e2e_s": "e2e_latency_s"}
"""Name in the report -> column of simulated requests."""
ACCELERATORS: Final = {"rtx-pro-6000": "rtx_pro_6000_server"}
NOT_FITTED: Final = "best of the catalog, nothing of these runs"
TRACE: Final = "trace.csv"  # beside the scenario
FAST, MEDIAN, SLOW = -1, 0, 1


def run(context: Context) -> SuiteResult:
    """Return the comparison of every run folder: ``<accelerator>_<model>`` with ``meta.json``, ``requests.jsonl``, ``timeseries.csv``.

    Raises:
        SpecError: The folder is not there, or the caller gives no simulator.
    """
    folder = context.find(FOLDER)
    if folder is None or context.simulate is None:
        raise SpecError(f"{FOLDER}: not found; name its folder with --data or in EFFSIM_DATA" if folder is None else "no simulator was given")
    found: list[Comparison] = []
    left: list[Skipped] = []
    for one in sorted(path.parent for path in folder.glob("*/meta.json")):
        try:
            found += _replayed(one, context.simulate, context.calibration)
        except EffSimError as error:
            left.append(Skipped("vllm_logs", one.name, str(error)))
    return SuiteResult(
        name="vllm_logs",
        title=TITLE,
        source=SOURCE,
        basis="The best calibration of the catalog for the card; nothing fitted to these runs.",
        comparisons=tuple(found),
        skipped=tuple(left),
        notes=(
            "Arrival, first and last token are those of the engine's clock, so that the HTTP server is left out on both sides.",
            "The fast and the slow end of the 90 % interval of step times are replayed too; the 50 % interval follows from them.",
            "More requests come than the card serves, so that TTFT is mostly waiting: it holds the error of the throughput several times over.",
        ),
    )


ASYNCHRONOUS_SINCE: Final = (0, 14)  # asynchronous scheduling by default


def _engine(version: str) -> str:
    """Return the catalog's engine for a version of vLLM."""
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return "vllm-async" if parts >= ASYNCHRONOUS_SINCE else "vllm"


def measured_requests(path: Path) -> pd.DataFrame:
    """Return one row per request of ``requests.jsonl``: arrival, prompt and output tokens, TTFT, TPOT and latency [s].

    Raises:
        SpecError: A line is no record of a request.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            one = json.loads(line)
            queued, first, last = (float(one[name]) for name in ("queued_ts", "first_token_ts", "last_token_ts"))
            rows.append((queued, int(one["input_toks"]), int(one["output_toks"]), first - queued, last - queued, last - first))
        except (ValueError, KeyError, TypeError) as error:
            raise SpecError(f"{path}, line {number}: not a request with queued_ts, first_token_ts, last_token_ts, input_toks, output_toks ({error})") from None
    frame = pd.DataFrame(rows, columns=["arrival_s", "prompt_tokens", "output_tokens", "ttft_s", "e2e_s", "decode_s"]).sort_values("arrival_s")
    frame["arrival_s"] -= frame["arrival_s"].min()
    frame["tpot_s"] = (frame["decode_s"] / (frame["output_tokens"] - 1)).where(frame["output_tokens"] > 1)
    return frame.reset_index(drop=True)


def scenario_of(folder: Path, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scenario of a run: its engine settings, and its requests as a plain trace.

    Raises:
        SpecError: The card in the folder's name is not in the catalog.
    """
    card, _, model = folder.name.partition("_")
    key = ACCELERATORS.get(card, card.replace("-", "_"))
    if find("accelerators", key) is None:
        raise SpecError(f"{folder.name}: the accelerator {key} is not in the catalog")
    engine = meta["engine_kwargs"]
    return {
        "name": folder.name,
        "kind": "serving",
        "model": model,
        "precision": {"bfloat16": "bf16", "float16": "fp16"}.get(engine["dtype"], "bf16"),
        "fleet": [{"accelerator": key, "replicas": engine["data_parallel_size"], "parallelism": {"tensor": engine["tensor_parallel_size"]}}],
        "workload": {"trace": TRACE},
        "engine": {
            "name": _engine(str(meta.get("vllm_version", ""))),
            "max_num_seqs": engine["max_num_seqs"],
            "max_num_batched_tokens": engine["max_num_batched_tokens"],
        },
    }


def _replayed(folder: Path, simulate: Simulate, calibration: str) -> list[Comparison]:
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    measured = measured_requests(folder / "requests.jsonl")
    with tempfile.TemporaryDirectory() as scratch:
        measured[["arrival_s", "prompt_tokens", "output_tokens"]].to_csv(Path(scratch) / TRACE, index=False)
        path = Path(scratch) / "scenario.yaml"
        path.write_text(dump_yaml(scenario_of(folder, meta) | {"calibration": calibration}), encoding="utf-8")
        ends = {end: _figures(simulate(path, end)) for end in (FAST, MEDIAN, SLOW)}
    seen = _measured_figures(measured, folder / "timeseries.csv")
    return [_comparison(folder.name, name, seen[name], {end: figures[name] for end, figures in ends.items()}) for name in seen]


def _figures(run: Any) -> dict[str, float]:
    """Return the figures of a simulated run by the names of :func:`_measured_figures`."""
    done = run.requests[run.requests.dropped == ""]
    found = {f"{name} p{p}": float(np.nanpercentile(done[column], p)) for name, column in LATENCIES.items() for p in PERCENTILES}
    makespan_s = float((done.arrival_s + done.e2e_latency_s).max())
    found["output_tokens_per_s"] = float(done.output_tokens.sum()) / makespan_s
    for name in ("running", "waiting"):
        found[f"{name}, mean"] = float(np.average(run.power[name], weights=run.power.duration_s))
    return found


def _measured_figures(rows: pd.DataFrame, series: Path) -> dict[str, float]:
    found = {f"{name} p{p}": float(np.nanpercentile(rows[name], p)) for name in LATENCIES for p in PERCENTILES}
    found["output_tokens_per_s"] = float(rows.output_tokens.sum()) / float((rows.arrival_s + rows.e2e_s).max())
    with series.open(encoding="utf-8", newline="") as stream:
        seconds = list(csv.DictReader(stream))
    for name in ("running", "waiting"):
        found[f"{name}, mean"] = float(np.mean([float(row[name]) for row in seconds]))
    return found


def _comparison(name: str, quantity: str, measured: float, ends: Mapping[int, float]) -> Comparison:
    low, high = sorted((ends[FAST], ends[SLOW]))
    predicted = ends[MEDIAN]
    low, high = min(low, predicted), max(high, predicted)
    low_50, high_50 = half_as_sure(predicted, low, high)
    what, _, percentile = quantity.partition(" ")
    return Comparison(
        suite="vllm_logs",
        cell=name,
        row=f"{name} {percentile}".strip(),
        quantity=quantity,
        unit={"ttft_s": "s", "tpot_s": "s", "e2e_s": "s", "output_tokens_per_s": "tokens/s"}.get(what, "requests"),
        measured=measured,
        predicted=predicted,
        low_50=low_50,
        high_50=high_50,
        low_90=low,
        high_90=high,
        split=NOT_FITTED,
    )
