"""``effsim capacity``: the highest request rate that a scenario's fleet holds its objectives at, or the fewest replicas for a rate."""

from typing import Annotated, Any

import typer

from effsim.cli.output import AsJson, cell, print_json, print_pairs, print_table


def capacity(
    scenario: Annotated[str, typer.Argument(help="Path to a YAML file, or the name of a shipped scenario.")],
    rate: Annotated[float | None, typer.Option("--rate", "--request-rate", metavar="PER_S", help="Find the fewest replicas for so many requests/s.")] = None,
    entry: Annotated[int, typer.Option(min=0, help="Of the fleet, whose replicas are counted with --rate; the first is 0.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Independent draws of the requests; the spread over them is the interval.")] = 3,
    tolerance: Annotated[float, typer.Option(help="Relative width of the bracket of the rate.")] = 0.02,
    warm_up: Annotated[float, typer.Option("--warm-up", help="Share of the first requests that do not count.")] = 0.1,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N requests.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the highest request rate that holds the scenario's SLO, or with --rate the fewest replicas that hold it."""
    from effsim.cli.progress import progress_bar
    from effsim.run.capacity import Search, fewest_replicas, highest_rate

    search = Search(seeds, tolerance, warm_up, limit, entry)
    found: Any
    with progress_bar() as progress:
        found = highest_rate(scenario, search, progress) if rate is None else fewest_replicas(scenario, rate, search, progress)
    if as_json:
        return print_json(found.to_dict())
    said = {"scenario": found.scenario}
    if rate is None:
        interval = "" if found.low_per_s is None else f" ({found.low_per_s:.4g} to {found.high_per_s:.4g})"
        said |= {"highest rate (requests/s)": f"{found.rate_per_s:.4g}{interval}", "of each draw": ", ".join(f"{one:.4g}" for one in found.rates_per_s)}
        said |= {"replicas": cell(found.replicas), "fails first above it": ", ".join(found.binding)}
    else:
        said |= {"rate (requests/s)": cell(rate), "fewest replicas": cell(found.replicas), "of each draw": ", ".join(map(str, found.replicas_of_seeds))}
        said |= {"accelerators": cell(found.accelerators), "fails with one less": ", ".join(found.binding)}
    print_pairs(said)
    print_table(("objective", "limit", "value"), [(one.name, one.limit, one.value) for one in found.objectives])
    for sentence in found.notes:
        print(f"note: {cell(sentence)}")
    return None
