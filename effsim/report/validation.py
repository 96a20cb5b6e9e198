"""The validation report: what suites found, as one Markdown and one HTML file with plots, written whole or not at all."""

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from effsim.documents import write_atomically
from effsim.errors import SpecError
from effsim.report.table import number
from effsim.report.validation_peers import peer_table
from effsim.report.validation_plots import plot_svg

Section = Mapping[str, Any]
"""``name``, ``title``, ``source``, ``basis``, ``notes`` and the tables ``rows``, ``drawn``, ``errors``, ``worst``, ``skipped``, ``decisions``."""
Progress = Callable[[str, float], None]
NAME: Final = "report"
ERROR_COLUMNS: Final = {
    "split": "split",
    "quantity": "quantity",
    "cell": "cell",
    "rows": "rows",
    "median_error_pct": "median, signed %",
    "median_ape_pct": "median %",
    "mape_pct": "MAPE %",
    "p90_ape_pct": "p90 %",
    "rank_correlation": "rank",
    "inside_50_pct": "inside 50 %",
    "inside_90_pct": "inside 90 %",
}
DECISION_COLUMNS: Final = {
    "split": "split",
    "limit_s": "ITL limit",
    "choices": "choices",
    "top_1_pct": "best chosen %",
    "mean_regret_pct": "mean regret %",
    "max_regret_pct": "largest regret %",
    "misses_limit_pct": "misses limit %",
    "picks_none_pct": "picks none %",
}
WORST_COLUMNS: Final = {
    "row": "row",
    "quantity": "quantity",
    "measured": "measured",
    "predicted": "predicted",
    "unit": "unit",
    "error_pct": "error %",
    "split": "split",
}
LEGEND: Final = """Errors are of prediction over measurement less 1. *median, signed*: of the signed error; *median*, *MAPE*, *p90*: of its absolute
value; *rank*: Spearman's rank correlation; *inside*: share of measurements in the 50 % and 90 % intervals. *split*: what the prediction was allowed to
see. *best chosen*: share of choices among the measured configurations of a model and a task in which the one of least predicted energy that is
predicted to keep the limit is the one of least measured energy that keeps it. *regret*: how much more measured energy the pick takes, over picks that
keep the limit."""
STYLE: Final = """body{font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#111}
table{border-collapse:collapse;font-size:13px;margin:.8em 0}th,td{padding:.2em .6em;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}th{background:#f4f4f4}.scroll{overflow-x:auto}svg{max-width:100%;height:auto}"""
PEERS_NOTE: Final = """Published errors of others, and EffSim's on the rows that come nearest, fitted rows left out. Data and conditions differ unless the
source says that the rows are the same."""


def write_report(
    sections: Sequence[Section], folder: Path, stamp: Mapping[str, str], *, plots: bool = True, progress: Progress | None = None
) -> tuple[Path, ...]:
    """Write ``report.md``, ``report.html`` and one SVG per section; return the paths.

    Args:
        sections: In their order.
        folder: Is made where it is absent.
        stamp: ``date``, ``version``, ``command``, printed at the top.
        plots: Draw them; needs matplotlib.
        progress: Called with what is being done and the share that is done.

    Raises:
        MissingExtraError: Plots are wanted and matplotlib is not installed.
        SpecError: A file cannot be written.
    """
    drawn = {}
    for index, section in enumerate(sections):
        if progress is not None:
            progress(f"drawing {section['name']}", index / len(sections))
        if plots and len(section["drawn"]):
            drawn[section["name"]] = plot_svg(section["drawn"], section["title"])
    blocks = _blocks(sections, stamp, drawn)
    files = {folder / f"{NAME}.md": _markdown(blocks), folder / f"{NAME}.html": _html(blocks, drawn)}
    files |= {folder / f"{name}.svg": svg for name, svg in drawn.items()}
    try:
        for path, text in files.items():
            write_atomically(path, text)
    except OSError as error:
        raise SpecError(f"{folder}: the report cannot be written: {error.strerror}") from None
    return tuple(files)


Block = tuple[str, Any]
"""Kind (``h1``, ``h2``, ``p``, ``list``, ``table``, ``figure``) and content."""


def _blocks(sections: Sequence[Section], stamp: Mapping[str, str], drawn: Mapping[str, str]) -> list[Block]:
    blocks: list[Block] = [
        ("h1", "How far predictions are from measurements"),
        ("p", f"EffSim {stamp['version']}, {stamp['date']}. Written by `{stamp['command']}`; the measurements are public and named in each section."),
        ("p", LEGEND),
        ("h2", "At a glance"),
        ("table", _glance(sections)),
        ("h2", "Beside other tools"),
        ("p", PEERS_NOTE),
        ("table", peer_table(sections)),
    ]
    for section in sections:
        blocks += _of_section(section, drawn)
    return blocks


def _of_section(section: Section, drawn: Mapping[str, str]) -> list[Block]:
    blocks: list[Block] = [("h2", section["title"]), ("p", f"Measurements: {section['source']}. Predictions: {section['basis']}")]
    if len(section["errors"]):
        blocks.append(("table", _renamed(section["errors"], ERROR_COLUMNS)))
    if section["name"] in drawn:
        blocks.append(("figure", (section["name"], f"Predicted against measured: {section['title']}")))
    if len(section["decisions"]):
        table = _renamed(section["decisions"], DECISION_COLUMNS)
        table["ITL limit"] = ["all" if pd.isna(limit) else "none" if limit == float("inf") else f"{1e3 * limit:g} ms" for limit in table["ITL limit"]]
        blocks += [("p", "**Choice of a configuration**"), ("table", table)]
    if len(section["worst"]):
        blocks += [("p", "**Largest errors of rows that were not fitted**"), ("table", _renamed(section["worst"], WORST_COLUMNS))]
    if section["notes"]:
        blocks.append(("list", list(section["notes"])))
    if len(section["skipped"]):
        blocks += [("p", f"**Not compared: {int(section['skipped'].rows.sum())} rows**"), ("table", section["skipped"].rename(columns={"reason": "because"}))]
    return blocks


def _glance(sections: Sequence[Section]) -> pd.DataFrame:
    """Return one row per suite, split and quantity, over all cells."""
    lines = []
    for section in sections:
        rows = section["rows"]
        if not len(rows):
            lines.append({"suite": section["name"], "split": "not run"})
        for (split, quantity), part in rows.groupby(["split", "quantity"], sort=True):
            inside = part.inside_90.dropna()
            line = {"suite": section["name"], "split": split, "quantity": quantity, "rows": len(part), "median %": part.error_pct.abs().median()}
            lines.append(line | {"MAPE %": part.error_pct.abs().mean(), "inside 90 %": 100.0 * inside.astype(float).mean() if len(inside) else None})
    return pd.DataFrame(lines)


def _renamed(table: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    return table[list(names)].rename(columns=dict(names))


def _cell(value: Any, column: str) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return str(value)
    if float(value).is_integer() and not column.endswith("%"):
        return f"{int(value):,}"
    return f"{float(value):.1f}" if "%" in column else number(float(value))


def _markdown(blocks: Sequence[Block]) -> str:
    lines: list[str] = []
    for kind, content in blocks:
        if kind in {"h1", "h2"}:
            lines += ["#" * int(kind[1]) + f" {content}", ""]
        elif kind == "list":
            lines += [*(f"- {one}" for one in content), ""]
        elif kind == "figure":
            lines += [f"![{content[1]}]({content[0]}.svg)", ""]
        elif kind == "table":
            columns = list(content.columns)
            lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
            lines += [
                "| " + " | ".join(_cell(value, str(name)).replace("|", "/") for name, value in zip(columns, row, strict=True)) + " |" for row in _plain(content)
            ]
            lines.append("")
        else:
            lines += [" ".join(str(content).split()), ""]
    return "\n".join(lines)


def _html(blocks: Sequence[Block], drawn: Mapping[str, str]) -> str:
    parts: list[str] = []
    for kind, content in blocks:
        if kind in {"h1", "h2"}:
            parts.append(f"<{kind}>{html.escape(content)}</{kind}>")
        elif kind == "list":
            parts.append("<ul>" + "".join(f"<li>{_inline(one)}</li>" for one in content) + "</ul>")
        elif kind == "figure":
            parts.append(f'<figure role="img" aria-label="{html.escape(content[1])}">{drawn[content[0]]}</figure>')
        elif kind == "table":
            parts.append(_html_table(content))
        else:
            parts.append(f"<p>{_inline(content)}</p>")
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>EffSim: validation</title><style>{STYLE}</style></head>'
    return head + "<body>\n" + "\n".join(parts) + "\n</body></html>\n"


def _inline(text: str) -> str:
    """Return Markdown's emphasis and code of one paragraph as HTML."""
    found = html.escape(text, quote=False)
    for mark, tag in (("**", "b"), ("*", "i"), ("`", "code")):
        pieces = found.split(mark)
        if len(pieces) % 2:
            found = "".join(piece if index % 2 == 0 else f"<{tag}>{piece}</{tag}>" for index, piece in enumerate(pieces))
    return found


def _html_table(table: pd.DataFrame) -> str:
    columns = [str(name) for name in table.columns]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = []
    for row in _plain(table):
        cells = [(_cell(value, name), "" if isinstance(value, str) else ' class="n"') for name, value in zip(columns, row, strict=True)]
        body.append("<tr>" + "".join(f"<td{css}>{html.escape(text)}</td>" for text, css in cells) + "</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _plain(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(table.itertuples(index=False, name=None))
