"""ML.ENERGY: ``results.json`` of a run of the benchmark, and the leaderboard's JSON files by task and by model.

Source: github.com/ml-energy/leaderboard, scripts/build_data.py (v3). Energies are those of the steady state, of all GPUs.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from effsim.calibrate.logs.fields import MILLISECOND, count, nested, positive, ratio, text
from effsim.calibrate.logs.record import Measurement, Spread

TITLE: Final = "ML.ENERGY (JSON)"
_RUN: Final = {"steady_state_energy", "steady_state_energy_per_token", "output_throughput", "completed"}
_ROW: Final = {"gpu_model", "num_gpus", "energy_per_token_joules", "median_itl_ms", "output_throughput_tokens_per_sec", "avg_batch_size"}


def sniff(document: Any) -> bool:
    """Return whether it is a run, or a list of configurations of the leaderboard."""
    if not isinstance(document, Mapping):
        return False
    rows = document.get("configurations")
    return set(document) >= _RUN or (isinstance(rows, list) and bool(rows) and all(isinstance(row, Mapping) and set(row) >= _ROW for row in rows))


def read(document: Any, where: str) -> list[Measurement]:
    """Return the run, or the configurations."""
    if "configurations" in document:
        return [_row(row, document, f"{where}, configurations[{index}]") for index, row in enumerate(document["configurations"])]
    return _run(document, where)


def _row(row: Mapping[str, Any], document: Mapping[str, Any], where: str) -> Measurement:
    def at(name: str) -> float | None:
        return positive(row.get(name), f"{where}, {name}")

    def ranks(name: str) -> int | None:
        return count(nested(row, "parallelization", name), f"{where}, {name}")

    token_j, throughput, itl_ms = at("energy_per_token_joules"), at("output_throughput_tokens_per_sec"), at("median_itl_ms")
    return Measurement(
        source=where,
        tool=TITLE,
        model=text(row.get("model_id")) or text(document.get("model_id")),
        accelerator=text(row.get("gpu_model")),
        num_accelerators=count(row.get("num_gpus"), f"{where}, num_gpus"),
        tensor_parallel=ranks("tensor_parallel"),
        expert_parallel=ranks("expert_parallel"),
        data_parallel=ranks("data_parallel"),
        concurrency=at("max_num_seqs"),
        batch=at("avg_batch_size"),
        output_tokens=ratio(at("energy_per_request_joules"), token_j),
        itl=Spread(median_s=None if itl_ms is None else itl_ms * MILLISECOND),
        output_tokens_per_s=throughput,
        power_w=None if token_j is None or throughput is None else token_j * throughput,
        energy_per_output_token_j=token_j,
    )


def _run(document: Mapping[str, Any], where: str) -> list[Measurement]:
    def at(name: str) -> float | None:
        return positive(document.get(name), f"{where}, {name}")

    requests = count(document["completed"], f"{where}, completed")
    if requests is None:
        return []
    done = [one for one in document.get("results") or [] if isinstance(one, Mapping) and one.get("success", True)]
    gaps_s = [float(gap) for one in done for gap in one.get("itl") or ()]
    return [
        Measurement(
            source=where,
            tool=TITLE,
            model=text(document.get("model_id")),
            num_accelerators=count(document.get("num_gpus"), f"{where}, num_gpus"),
            concurrency=at("max_num_seqs") or at("max_concurrency"),
            prompt_tokens=ratio(at("total_input_tokens"), requests),
            output_tokens=ratio(at("total_output_tokens"), requests),
            requests=requests,
            duration_s=at("duration"),
            ttft=_spread([float(one["ttft"]) for one in done if one.get("ttft")]),
            itl=_spread(gaps_s),
            output_tokens_per_s=at("output_throughput"),
            requests_per_s=at("request_throughput"),
            power_w=ratio(at("steady_state_energy"), at("steady_state_duration")),
            energy_j=at("steady_state_energy"),
            energy_per_output_token_j=at("steady_state_energy_per_token"),
        )
    ]


def _spread(values_s: list[float]) -> Spread:
    if not values_s:
        return Spread()
    return Spread(float(np.mean(values_s)), *(float(np.percentile(values_s, p)) for p in (50, 90, 99)))
