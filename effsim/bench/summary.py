"""A run as people read it."""

from collections.abc import Sequence

from effsim.bench.run_file import Row, Run

COLUMNS = ("kernel", "dtype", "shape", "time", "±", "TFLOP/s", "GB/s", "W", "J/call", "notes")


def table(run: Run) -> list[tuple[str, ...]]:
    """Return one line of words per row; what was not measured is blank."""
    return [_cells(row) for row in run.rows]


def _cells(row: Row) -> tuple[str, ...]:
    shape = " ".join(str(value) if name in {"operation", "mode", "method"} else f"{name}={value}" for name, value in row.shape.items())
    extras = ([f"{row.duty_ratio:.0%} of the time"] if row.duty_ratio != 1.0 else []) + ([f"limit {row.power_limit_w:g} W"] if row.power_limit_w else [])
    half = 0.5 * (row.time_high_s - row.time_low_s) / row.time_s if row.time_s and row.time_high_s is not None and row.time_low_s is not None else None
    return (
        row.kind,
        row.dtype,
        shape,
        duration(row.time_s),
        "" if half is None else f"{half:.1%}",
        _number(row.flop_per_s, 1e-12),
        _number(row.bytes_per_s, 1e-9),
        _number(row.power_w, 1.0),
        _number(row.energy_j, 1.0),
        "; ".join((*extras, *row.notes)),
    )


def duration(time_s: float | None) -> str:
    """Return a time in the unit in which it is easy to read.

    >>> duration(4.2e-6), duration(0.0123), duration(None)
    ('4.2 us', '12.3 ms', '')
    """
    if time_s is None:
        return ""
    for factor, unit in ((1e-6, "us"), (1e-3, "ms")):
        if time_s < 1e3 * factor:
            return f"{time_s / factor:.3g} {unit}"
    return f"{time_s:.3g} s"


def _number(value: float | None, factor: float) -> str:
    return "" if value is None else f"{value * factor:.3g}"


def closing(run: Run) -> str:
    """Return the sentences under the table: what was measured on, how far it got, and what was left out."""
    device = run.device
    meters = ", ".join(sorted({str(channel["device"]) for channel in run.meter})) or "none: energy is blank (see `effsim meters`)"
    lines = [f"{device['model']} ({device['name']}, {device['library']}); {len(run.rows)} rows, {run.status}; meter: {meters}"]
    lines += [f"skipped {one['case']}: {one['reason']}" for one in run.skipped]
    return "\n".join(lines)


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in plain text.

    >>> print(plain_table(("a", "b"), [("1", "22"), ("333", "4")]))
    a    b
    1    22
    333  4
    """
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (columns, *rows))
