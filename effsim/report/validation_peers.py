"""What other tools publish of their accuracy on such measurements, each with its source, beside what EffSim reaches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

FITTED: Final = "fitted to these rows"


@dataclass(frozen=True, slots=True)
class Peer:
    """A published error, and the comparisons of ours that are nearest.

    Args:
        tool: Name and version.
        claim: The figure as published, with what it is of.
        source: Where.
        suite: Of ours.
        quantity: Start of the names of ours, such as ``tpot_s``.
        cell: Start of the cells of ours; empty: all.
        decision: The figure is the share of best choices.
        splits: Of ours, by their ends; empty: all but fitted rows.
    """

    tool: str
    claim: str
    source: str
    suite: str
    quantity: str
    cell: str = ""
    decision: bool = False
    splits: tuple[str, ...] = ()


_BLIND: Final = ("kernel tables", "leave one model out")
_LENS: Final = "EnergyLens, 2026"
_LENS_2: Final = "another paper of that name, 2026"
_LLMSS: Final = "casys-kaist/LLMServingSim, CHANGELOG"
_AIC: Final = "run on the same rows (326 that it supports); github.com/ai-dynamo/aiconfigurator"
_CALCULON: Final = "Isaev et al., SC 23, and its shipped settings on the same rows"
PEERS: Final = (
    Peer("AIConfigurator 0.12", "TPOT, ML.ENERGY rows: MAPE 23.8 %", _AIC, "mlenergy", "tpot_s", splits=_BLIND),
    Peer("AIConfigurator 0.12", "power, ML.ENERGY rows, B200: MAPE 28.4 %", _AIC, "mlenergy", "power_w", "B200", splits=_BLIND),
    Peer("AIConfigurator 0.12", "J per token, ML.ENERGY rows, B200: MAPE 36.9 %", _AIC, "mlenergy", "energy_per_output_token_j", "B200", splits=_BLIND),
    Peer(
        "EnergyLens (2026)", "energy of inference on several GPUs: MAPE 9 to 13 %", "EnergyLens, 2026", "mlenergy", "energy_per_output_token_j", splits=_BLIND
    ),
    Peer(
        "EnergyLens, symbolic regression (2026)",
        "best configuration chosen: 88.2 %",
        "paper of the same name, 2026",
        "mlenergy",
        "",
        decision=True,
        splits=_BLIND,
    ),
    Peer("LLMServingSim 2.0", "TPOT, layers of that model profiled on that card: 0.2 to 1.7 %", _LLMSS, "vllm_logs", "tpot_s"),
    Peer("LLMServingSim 2.0", "latency, likewise: within 2.2 %", _LLMSS, "vllm_logs", "e2e_s"),
    Peer("Vidur", "latency, own profiles: within 9 %", "Agrawal et al., MLSys 2024, arXiv:2405.05465", "vllm_logs", "e2e_s"),
    Peer("Calculon", "step time, SC'21 Table 1: mean 10.3 %", _CALCULON, "training", "step_time_s", "megatron_sc21 "),
    Peer("LLMCarbon", "energy of training: within 8.2 %", "Faiz et al., ICLR 2024, arXiv:2309.14393", "power", "energy_per_token_j", "MLPerf Training"),
    Peer(
        "Newkirk et al. (2025)",
        "node power: 11.4 %; models that stand on the TDP 27 to 37 %",
        "Newkirk et al., 2025",
        "power",
        "node_power_w",
        "MLPerf Training",
    ),
)


def peer_table(sections: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per published figure and split of ours: MAPE of rows that were not fitted, or the share of best choices, in percent.

    Args:
        sections: With ``name``, ``rows`` and ``decisions``.
    """
    by_name = {one["name"]: one for one in sections}
    lines = [line for peer in PEERS if peer.suite in by_name for line in _lines(peer, by_name[peer.suite])]
    return pd.DataFrame(lines, columns=["tool", "published", "source", "EffSim", "rows", "of", "split"])


def _lines(peer: Peer, section: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    common = (peer.tool, peer.claim, peer.source)
    if peer.decision:
        table = section["decisions"]
        whole = table[table.limit_s.isna()] if len(table) else table
        return [(*common, f"{row.top_1_pct:.1f} %", int(row.choices), "best choice", row.split) for row in whole.itertuples() if _wanted(peer, row.split)]
    rows = section["rows"]
    own = rows[rows.quantity.str.startswith(peer.quantity) & rows.cell.str.startswith(peer.cell) & (rows.split != FITTED)]
    what = f"{peer.suite} {peer.quantity}" + (f", {peer.cell.strip()}" if peer.cell else "")
    return [
        (*common, f"{part.error_pct.abs().mean():.1f} %", len(part), f"{what}: MAPE", split)
        for split, part in own.groupby("split", sort=True)
        if _wanted(peer, split)
    ]


def _wanted(peer: Peer, split: str) -> bool:
    return not peer.splits or split.endswith(peer.splits)
