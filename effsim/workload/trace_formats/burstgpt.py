"""BurstGPT: ``Timestamp`` [s], ``Model, Request tokens, Response tokens, Total tokens, Log Type``; from version 2.0 ``Session ID``, too.

Source: HPMLL/BurstGPT, README. Rows of 0 response tokens are failures (same place); they are left out. ``Elapsed time`` is not read:
turns arrive at their recorded times.
"""

from collections.abc import Iterator
from typing import Final

from effsim.workload.trace_rows import Block, Column, Labels, Rows, csv_blocks, seconds, seconds_and_tokens, tokens
from effsim.workload.traces import Trace

KIND: Final = "csv"
RECOGNISED_BY: Final = (("Timestamp", "Request tokens", "Response tokens"),)
CARRIES: Final = ("session",)
WRITTEN: Final = ("the model is unknown to a trace: 'unknown' in every row; 'Conversation log' where a request has a session, else 'API log'",)


def read(rows: Rows, notes: list[str]) -> Iterator[Block]:
    """Yield blocks of requests."""
    columns = [
        Column("Timestamp", "arrival", "arrival_s", seconds),
        Column("Request tokens", "prompt tokens", "prompt_tokens", tokens),
        Column("Response tokens", "output tokens", "output_tokens", tokens),
    ]
    if "Session ID" in rows.names:
        columns.append(Column("Session ID", "Session ID", "session", Labels().numbers))
    failed = 0
    for block in csv_blocks(rows, columns):
        kept = block["output_tokens"] > 0
        failed += int((~kept).sum())
        yield {name: values[kept] for name, values in block.items()}
    if failed:
        notes.append(f"{failed:,} rows with 0 response tokens are failures and left out")


def write(trace: Trace) -> Iterator[str]:
    """Yield the text of a file; the columns of version 2.0 where the trace has sessions (elapsed time, which nobody knows yet, is blank)."""
    sessions = None if trace.session is None else trace.session.tolist()
    yield f"Timestamp,{'' if sessions is None else 'Session ID,Elapsed time,'}Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    row = 0
    for part in seconds_and_tokens(trace):
        lines = []
        for arrival_s, prompt, output in part:
            session = -1 if sessions is None else sessions[row]
            between = "" if sessions is None else ",," if session < 0 else f"{session},,"
            kind = "API log" if session < 0 else "Conversation log"
            lines.append(f"{arrival_s!r},{between}unknown,{prompt},{output},{prompt + output},{kind}\n")
            row += 1
        yield "".join(lines)
