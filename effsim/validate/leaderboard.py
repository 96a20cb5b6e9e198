"""The public ML.ENERGY leaderboard's own data files as rows of the benchmark.

Layout: github.com/ml-energy/leaderboard, ``public/data``: ``index.json`` and ``models/<org>__<model>__<task>.json`` (scripts/build_data.py, v3).
"""

from pathlib import Path
from typing import Final

import pandas as pd

from effsim.calibrate.logs import Measurement, read_log
from effsim.errors import EffSimError, SpecError
from effsim.specs.models import model
from effsim.validate.mlenergy import ACCELERATORS

PROMPT_TOKENS: Final = {"lm-arena-chat": 500, "gpqa": 280, "sourcegraph-fim": 1000}
"""Mean prompt by task, estimated from the data sets: the leaderboard does not state it. Tasks with images, video or audio have none."""
MAX_NUM_BATCHED_TOKENS: Final = 8192  # vLLM 0.11's default on these GPUs, where a configuration names none
INDEX: Final = "index.json"


def is_leaderboard(folder: Path) -> bool:
    """Return whether a folder is laid out as the leaderboard's data."""
    return (folder / INDEX).is_file() and (folder / "models").is_dir()


def rows_of(folder: Path) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Return the configurations as rows with the columns of :data:`effsim.validate.mlenergy.COLUMNS`, and files left out with the reason.

    Whether the GPU waited for the host is not published: all rows count (``host_bound`` 0).

    Raises:
        SpecError: No configuration of a known task, model and GPU.
    """
    rows, left = [], []
    for path in sorted((folder / "models").glob("*.json")):
        name, _, task = path.stem.rpartition("__")
        try:
            if task not in PROMPT_TOKENS:
                raise SpecError(f"the task {task} has prompts that are not text, or of unknown length")
            model(name.replace("__", "/"))
            rows += [found for one in read_log(path) if (found := _row(one, task)) is not None]
        except EffSimError as error:
            left.append((path.stem, str(error)))
    if not rows:
        raise SpecError(f"{folder}: no configuration of {', '.join(PROMPT_TOKENS)} on {' or '.join(ACCELERATORS)} with a model of the catalog")
    return pd.DataFrame(rows), left


def _row(one: Measurement, task: str) -> dict[str, object] | None:
    """Return a configuration as a row; None where a part of it is not stated or the GPU is another."""
    gpus, data = one.num_accelerators, one.data_parallel or 1
    parts = (one.batch, one.output_tokens, one.itl.median_s, one.output_tokens_per_s, one.power_w, one.energy_per_output_token_j)
    if one.accelerator not in ACCELERATORS or gpus is None or None in parts:
        return None
    expert = one.expert_parallel or 1
    # With expert parallelism vLLM ran with as many tensor ranks as GPUs; the files name those that the configuration names.
    tensor = gpus // data if expert > 1 else one.tensor_parallel or gpus // data
    batch, output, itl_s, throughput, power_w, token_j = parts
    return {
        "task": task,
        "model_id": one.model,
        "gpu": one.accelerator,
        "num_gpus": gpus,
        "tensor_parallel": tensor,
        "expert_parallel": expert,
        "data_parallel": data,
        "avg_batch_size": batch,
        "prompt_tokens_estimate": PROMPT_TOKENS[task],
        "avg_output_tokens": output,
        "median_itl_ms": 1e3 * (itl_s or 0.0),
        "output_tokens_per_s": throughput,
        "power_w_all_gpus": power_w,
        "energy_per_output_token_j": token_j,
        "max_num_batched_tokens": MAX_NUM_BATCHED_TOKENS,
        "host_bound": 0,
    }
