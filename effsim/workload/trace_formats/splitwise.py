"""Splitwise-sim's traces: ``request_id, request_type, application_id, arrival_timestamp`` [s], ``batch_size, prompt_size, token_size``.

Source: Mutinifni/splitwise-sim, generate_trace.py (request type 2 is LLM inference, a batch is one request).
"""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final

import numpy as np

from effsim.workload.trace_rows import Block, Column, Rows, csv_blocks, seconds, seconds_and_tokens, tokens
from effsim.workload.traces import IntArray, Trace

KIND: Final = "csv"
RECOGNISED_BY: Final = (("arrival_timestamp", "prompt_size", "token_size"),)
CARRIES: Final = ()
HEADER: Final = "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
WRITTEN: Final = ("request_type 2 (LLM inference), application_id 0 and batch_size 1 are the same in every row",)


def read(rows: Rows, notes: list[str]) -> Iterator[Block]:
    """Yield blocks of requests."""
    columns = [
        Column("arrival_timestamp", "arrival", "arrival_s", seconds),
        Column("prompt_size", "prompt tokens", "prompt_tokens", tokens),
        Column("token_size", "output tokens", "output_tokens", tokens),
    ]
    if "batch_size" in rows.names:
        columns.append(Column("batch_size", "batch_size", "batch", _one))
    for block in csv_blocks(rows, columns):
        block.pop("batch", None)
        yield block


def _one(texts: Sequence[str]) -> IntArray:
    values = tokens(texts)
    if (values != 1).any():
        raise ValueError("a row is one request: expected 1")
    return np.asarray(values)


def write(trace: Trace) -> Iterator[str]:
    """Yield the text of a file."""
    yield HEADER
    number = count()
    for part in seconds_and_tokens(trace):
        yield "".join(f"{next(number)},2,0,{arrival_s!r},1,{prompt},{output}\n" for arrival_s, prompt, output in part)
