"""Vidur's processed traces: ``arrived_at`` [s], ``num_prefill_tokens``, ``num_decode_tokens``.

Source: microsoft/vidur, data/processed_traces and TraceRequestGenerator.
"""

from collections.abc import Iterator
from typing import Final

from effsim.workload.trace_rows import Block, Column, Rows, csv_blocks, seconds, seconds_and_tokens, tokens
from effsim.workload.traces import Trace

KIND: Final = "csv"
RECOGNISED_BY: Final = (("arrived_at", "num_prefill_tokens", "num_decode_tokens"),)
CARRIES: Final = ()


def read(rows: Rows, notes: list[str]) -> Iterator[Block]:
    """Yield blocks of requests."""
    columns = (
        Column("arrived_at", "arrival", "arrival_s", seconds),
        Column("num_prefill_tokens", "prompt tokens", "prompt_tokens", tokens),
        Column("num_decode_tokens", "output tokens", "output_tokens", tokens),
    )
    yield from csv_blocks(rows, columns)


def write(trace: Trace) -> Iterator[str]:
    """Yield the text of a file."""
    yield ",".join(RECOGNISED_BY[0]) + "\n"
    for part in seconds_and_tokens(trace):
        yield "".join(f"{arrival_s!r},{prompt},{output}\n" for arrival_s, prompt, output in part)
