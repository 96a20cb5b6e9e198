"""Azure LLM inference traces of 2023 and 2024: ``TIMESTAMP, ContextTokens, GeneratedTokens``, the one of 2025 with ``NumImages``, too.

Source: Azure Public Dataset, AzureLLMInferenceDataset2023.md, ...2024.md and AzureLMMInferenceDataset2025.md (context tokens count those
of images).
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from effsim.workload.trace_rows import ROWS_AT_ONCE, Block, Column, Rows, csv_blocks, timestamps, tokens
from effsim.workload.traces import Trace

KIND: Final = "csv"
RECOGNISED_BY: Final = (("TIMESTAMP", "ContextTokens", "GeneratedTokens"),)
CARRIES: Final = ()
START: Final = "2000-01-01 00:00:00"
WRITTEN: Final = (f"times are rounded to 0.1 us and count from {START}, as a trace has no date",)


def read(rows: Rows, notes: list[str]) -> Iterator[Block]:
    """Yield blocks of requests."""
    if "NumImages" in rows.names:
        notes.append("images are counted with the context tokens; their number is not read")
    columns = (
        Column("TIMESTAMP", "arrival", "arrival_ns", timestamps),
        Column("ContextTokens", "prompt tokens", "prompt_tokens", tokens),
        Column("GeneratedTokens", "output tokens", "output_tokens", tokens),
    )
    yield from csv_blocks(rows, columns)


def write(trace: Trace) -> Iterator[str]:
    """Yield the text of a file."""
    yield ",".join(RECOGNISED_BY[0]) + "\n"
    start = np.datetime64(START.replace(" ", "T"), "us")
    for first in range(0, len(trace), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        ticks = np.rint(trace.arrival_s[part] * 1e7).astype(np.int64)
        times = np.datetime_as_string(start + (ticks // 10).astype("timedelta64[us]"), unit="us").tolist()
        columns = zip(times, (ticks % 10).tolist(), trace.prompt_tokens[part].tolist(), trace.output_tokens[part].tolist(), strict=True)
        yield "".join(f"{time.replace('T', ' ')}{tick},{prompt},{output}\n" for time, tick, prompt, output in columns)
