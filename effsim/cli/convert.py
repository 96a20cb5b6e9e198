"""``effsim convert``: a request trace from one format to another, cut and scaled on the way."""

from pathlib import Path
from typing import Annotated

import typer

from effsim.cli.output import AsJson, cell, print_json, print_table


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Trace file; its format is seen from its columns or keys.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, whole or not at all.")],
    to: Annotated[str, typer.Option(help="plain, azure, burstgpt, llmservingsim, mooncake, splitwise or vidur.")],
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N requests.")] = None,
    window: Annotated[str | None, typer.Option(metavar="START,END", help='Only arrivals from START to END, as "10 min, 1 h"; START becomes time 0.')] = None,
    rate_scale: Annotated[float, typer.Option(help="Divide the gaps between arrivals by it.")] = 1.0,
    volume_scale: Annotated[float, typer.Option(help="Lay copies over each other, or thin: so many times the requests in the same span.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the copies' shifts and of the thinning.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Convert a request trace, and say what the other format cannot hold."""
    from effsim.cli.progress import progress_bar
    from effsim.workload.conversion import Changes, convert_trace, window_of

    changes = Changes(window_of(window), volume_scale, rate_scale, limit, seed)
    with progress_bar() as step:
        done = convert_trace(source, target, to, changes, step)
    if as_json:
        return print_json(done.to_dict())
    print_table(("", "format", "requests", "span (s)", "prompt tokens", "output tokens"), done.rows())
    for kind, sentences in (("note", done.notes), ("lost", done.lost), ("written", done.written)):
        for sentence in sentences:
            print(f"{kind}: {cell(sentence)}")
    return None
