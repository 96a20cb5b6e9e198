"""How ``effsim optimize parallelism`` reads its limits and shows its answer."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from effsim.catalog import suggest
from effsim.cli.basis import basis, basis_lines
from effsim.cli.estimate import power_w
from effsim.cli.output import print_json, print_table
from effsim.cli.progress import progress_bar
from effsim.cost.deployment import Settings, deploy
from effsim.cost.recipe import Recipe
from effsim.errors import SpecError, shown
from effsim.optimize.parallelism import Comparison, Job, ParallelismSearch, Space, compare, search_parallelism
from effsim.results import plain
from effsim.units import BYTES_PER_GIB
from effsim.workload.operations import Parallelism

DIMENSIONS: Final = {
    "tp": "tensor_parallel",
    "pp": "pipeline_parallel",
    "vpp": "virtual_pipeline_stages",
    "cp": "context_parallel",
    "ep": "expert_parallel",
    "dp": "data_parallel",
    "sp": "sequence_parallel",
    "micro_batch_size": "micro_batch_size",
    "recompute": "recompute",
    "zero_stage": "zero_stage",
    "shard_group": "shard_group",
    "schedule": "pipeline_schedule",
    "precision": "precision",
}
"""Option -> dimension of the search."""
SHORT: Final = {"mbs": "micro_batch_size", "zero": "zero_stage", "shard": "shard_group", "pipeline_schedule": "schedule"}
OBJECTIVES: Final = {"time": "step_time_s", "energy": "energy_j_per_step", "j_per_token": "energy_per_token_j", "memory": "memory_bytes"}
TEXTS: Final = {"recompute", "schedule", "precision"}


def print_splits(options: Mapping[str, Any]) -> None:
    """Search, and print the table, what became of the other combinations, and the splits to compare."""
    job, space = _job(options), _space(options)
    objective = _objective(options["objective"])
    wanted = [_pairs(text) for text in options["compare"] or ()]
    with progress_bar() as progress:
        found = search_parallelism(job, objective, space=space, top=options["top"], progress=progress)
        compared = [compare(job, found, given) for given in wanted]
    if options["csv"] is not None:
        _write(options["csv"], found.best.to_csv(index=False))
    rests_on = basis(options["accelerator"], options["node"], options["engine"], options["calibration"])
    if options["as_json"]:
        return print_json({**found.to_dict(), "compared": plain(compared), "basis": rests_on})
    _print_best(found, f"{options['model']} on {job.num_accelerators} x {options['accelerator']}")
    _print_refused(found)
    for comparison in compared:
        _print_comparison(comparison)
    provenance = deploy(job.model, job.accelerator, Parallelism(), job.settings).prior.provenance
    print("\n".join(basis_lines(rests_on, provenance)))
    return None


def _job(options: Mapping[str, Any]) -> Job:
    precision = str(options["precision"]).split(",")[0]
    limit_w = power_w("--power-limit", options["power_limit"])
    settings = Settings(precision, None, options["engine"], options["node"], options["network"], limit_w, None, options["calibration"], "train")
    sizes = _values("global_batch_size", options["global_batch_size"])
    return Job(
        options["model"],
        options["accelerator"],
        options["num_accelerators"],
        sizes if len(sizes) > 1 else sizes[0],
        options["sequence_length"],
        settings,
        Recipe(optimizer=options["optimizer"]),
        options["memory_headroom"],
    )


def _space(options: Mapping[str, Any]) -> Space:
    given = {dimension: _values(name, options[name]) for name, dimension in DIMENSIONS.items() if options[name] is not None}
    if len(given["precision"]) == 1:
        del given["precision"]
    return Space(**given)


def _values(name: str, text: str) -> list[Any]:
    """Return the values of an option or of one side of a comparison.

    >>> _values("tp", "2,4"), _values("sp", "true"), _values("schedule", "zero-bubble")
    ([2, 4], [True], ['zero_bubble'])

    Raises:
        SpecError: Not of the kind that the dimension takes.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    option = f"--{name.replace('_', '-')}"
    if not parts:
        raise SpecError(f"{option}: no value given")
    if name in TEXTS:
        return [part.replace("-", "_") if name == "schedule" else part for part in parts]
    if name == "sp":
        flags = {"true": True, "false": False}
        for part in parts:
            if part.lower() not in flags:
                raise SpecError(f"{option}: expected true, false or true,false, got {shown(part)}")
        return [flags[part.lower()] for part in parts]
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) < 19):  # noqa: PLR2004 -- what fits in 64 bits
            raise SpecError(f"{option}: expected whole numbers such as 8 or 2,4,8, got {shown(part)}")
    return [int(part) for part in parts]


def _pairs(text: str) -> dict[str, Any]:
    """Return a split to compare as values of dimensions.

    >>> _pairs("tp=8, PP=16, zero=1")
    {'tensor_parallel': 8, 'pipeline_parallel': 16, 'zero_stage': 1}

    Raises:
        SpecError: No pair of name and value, or an unknown name.
    """
    given: dict[str, Any] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, sign, value = pair.partition("=")
        name = key.strip().lower().replace("-", "_")
        name = next((short for short, full in DIMENSIONS.items() if name == full), SHORT.get(name, name))
        if not sign or name not in DIMENSIONS:
            hint = suggest(name, [*DIMENSIONS, *SHORT])
            raise SpecError(f"--compare: expected NAME=VALUE with commas between, got {shown(pair)}; {hint}names: {', '.join(DIMENSIONS)}")
        given[DIMENSIONS[name]] = _values(name, value)[0]
    if not given:
        raise SpecError("--compare: no dimension given; for example tp=8,pp=8")
    return given


def _objective(name: str) -> str:
    key = name.strip().lower().replace("-", "_").replace("/", "_per_")
    if key in OBJECTIVES or key in OBJECTIVES.values():
        return OBJECTIVES.get(key, key)
    raise SpecError(f"--objective: {suggest(key, OBJECTIVES)}expected {', '.join(OBJECTIVES)}, got {shown(name)}")


COLUMNS: Final = (
    ("TP", "tensor_parallel"),
    ("SP", "sequence_parallel"),
    ("PP", "pipeline_parallel"),
    ("VPP", "virtual_pipeline_stages"),
    ("CP", "context_parallel"),
    ("EP", "expert_parallel"),
    ("DP", "data_parallel"),
    ("schedule", "pipeline_schedule"),
    ("micro", "micro_batch_size"),
    ("recompute", "recompute"),
    ("ZeRO", "zero_stage"),
    ("group", "shard_group"),
    ("precision", "precision"),
    ("batch", "global_batch_size"),
    ("step s", "step_time_s"),
    ("MFU %", "mfu"),
    ("GiB", "memory_bytes"),
    ("kW", "power_w"),
    ("kJ/step", "energy_j_per_step"),
    ("J/token", "energy_per_token_j"),
    ("bubble s", "bubble_s"),
    ("exchange s", "exchange_s"),
)
IN_UNITS: Final = {"mfu": 100.0, "memory_bytes": 1.0 / BYTES_PER_GIB, "power_w": 1e-3, "energy_j_per_step": 1e-3}
ALWAYS: Final = {"tensor_parallel", "pipeline_parallel", "data_parallel", "micro_batch_size", "recompute", "zero_stage"}


def _print_best(found: ParallelismSearch, what: str) -> None:
    """Print the rows; dimensions that are the same throughout stand in the title."""
    rows = plain(found.best)
    dimensions = [(label, name) for label, name in COLUMNS if name in DIMENSIONS.values() or name == "global_batch_size"]
    same = [(label, name) for label, name in dimensions if name not in ALWAYS and len({row[name] for row in rows}) == 1]
    columns = [(label, name) for label, name in COLUMNS if (label, name) not in same]
    listed = [[_cell(row[name], name) for _, name in columns] for row in rows]
    alike = ", ".join(f"{label} {rows[0][name]}" for label, name in same if rows[0][name] is not None)
    title = f"{what}: the best {len(rows)} of {found.feasible:,} that fit"
    print_table([label for label, _ in columns], listed, f"{title}; all with {alike}" if alike else title)


def _cell(value: Any, name: str) -> Any:
    return value * IN_UNITS[name] if name in IN_UNITS and value is not None else value


def _print_refused(found: ParallelismSearch) -> None:
    counted = "".join(f"; {count:,} refused: {reason} ({found.examples[reason]})" for reason, count in found.refused.items())
    ended = "" if found.complete else "; interrupted before the end: there may be better ones"
    print(f"{found.considered:,} combinations considered{counted}; {found.timed:,} timed, the others are slower by a bound{ended}")


def _print_comparison(comparison: Comparison) -> None:
    print(comparison.summary)
    if comparison.parts is not None:
        total = comparison.parts.sum(numeric_only=True)
        rows = [*comparison.parts.itertuples(index=False), ("step", total.best_s, total.given_s, total.difference_s)]
        print_table(("part of a step", "best s", "given s", "difference s"), rows)


def _write(path: Path, text: str) -> None:
    """Write a file by way of a temporary one beside it.

    Raises:
        SpecError: It cannot be written.
    """
    temporary: str | None = None
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=path.name, suffix=".part", delete=False) as file:
            temporary = file.name
            file.write(text)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise SpecError(f"--csv: cannot write {path}: {error.strerror}") from None
