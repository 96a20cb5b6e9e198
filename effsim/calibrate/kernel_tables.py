"""Measured kernels from the tables of NVIDIA AIConfigurator, as Parquet files or in an installed ``aiconfigurator-core``.

Each table holds latencies [ms] of one kind of kernel under an engine, by shape and dtype; those of some systems also power and power
limit [W]. Only columns that the fit needs are read; of several versions of a kernel the newest counts. Rows whose latency is that of
the host's launches, not of the kernel, are dropped: there latency does not grow with the work (see :func:`host_bound_s`).
"""

import dataclasses
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from effsim.errors import CalibrationError

DTYPES: Final = {"bfloat16": "bf16", "float16": "bf16", "fp8": "fp8", "fp8_block": "fp8"}
"""Names of dtypes in the tables, of those that the fit uses."""
KEYS: Final = {
    "gemm": ("m", "n", "k"),
    "moe": ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"),
    "context_attention": ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim"),
    "generation_attention": ("batch_size", "step", "num_heads", "num_key_value_heads", "head_dim"),
    "custom_allreduce": ("num_gpus", "message_size"),
}
"""Columns that give a kernel's shape, by table."""


@dataclasses.dataclass(frozen=True)
class KernelTable:
    """Measured kernels of one kind.

    Args:
        kind: A key of :data:`KEYS`.
        rows: Shape columns, ``dtype`` and ``kernel`` where there are any, ``latency_s``, and ``power_w`` and ``limit_w`` where measured.
        version: Of the engine.
        device: As the driver names it.
    """

    kind: str
    rows: pd.DataFrame
    version: str
    device: str


def read(folder: Path) -> dict[str, KernelTable]:
    """Return the tables of one system by kind.

    Args:
        folder: With files such as ``gemm_perf.parquet``.

    Raises:
        CalibrationError: No such folder, no table in it, or a table that lacks columns.
    """
    if not folder.is_dir():
        raise CalibrationError(f"{folder}: no such folder of kernel tables")
    found = {}
    for kind in KEYS:
        paths = sorted(folder.glob(f"{kind}_perf*.parquet"), key=_version)
        if paths:
            found[kind] = _table(kind, paths[-1])
    if not found:
        raise CalibrationError(f"{folder}: no kernel tables; expected files such as gemm_perf.parquet")
    return found


def _version(path: Path) -> tuple[int, ...]:
    digits = "".join(c if c.isdigit() else " " for c in path.stem.rsplit("_", 1)[-1]).split()
    return tuple(int(part) for part in digits)


def _table(kind: str, path: Path) -> KernelTable:
    try:
        raw = pd.read_parquet(path)
    except ImportError as error:
        raise CalibrationError(f"{path}: reading Parquet files needs pyarrow (pip install pyarrow)") from error
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path}: not a Parquet file ({error})") from None
    missing = [column for column in (*KEYS[kind], "latency") if column not in raw]
    if missing:
        raise CalibrationError(f"{path}: lacks the columns {', '.join(missing)}")
    kept = _used(kind, raw)
    rows = kept[list(KEYS[kind])].astype(float)
    rows["latency_s"] = 1e-3 * kept["latency"].astype(float)
    for name, column in (("dtype", _DTYPE_COLUMN.get(kind)), ("kernel", "kernel_source")):
        if column in kept:
            rows[name] = kept[column].astype(str)
    if "power" in kept:
        rows["power_w"], rows["limit_w"] = kept["power"].astype(float), kept["power_limit"].astype(float)
    rows = rows[np.isfinite(rows.latency_s) & (rows.latency_s > 0.0)].drop_duplicates([*KEYS[kind], *(["dtype"] if "dtype" in rows else [])])
    return KernelTable(kind, rows.reset_index(drop=True), _only(raw, "version"), _only(raw, "device"))


_PLAIN: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "context_attention": {"window_size": ("0",), "kv_cache_dtype": ("bfloat16", "float16")},
    "generation_attention": {"window_size": ("0",), "kv_cache_dtype": ("bfloat16", "float16")},
    "moe": {"distribution": ("balanced",)},
    "custom_allreduce": {"backend": ("vllm_graph",)},
}
"""What plain kernels have in columns that not every table has."""
_DTYPE_COLUMN: Final = {"gemm": "gemm_dtype", "moe": "moe_dtype", "custom_allreduce": "allreduce_dtype"}


def _used(kind: str, raw: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of plain kernels: 16-bit caches without windows, evenly loaded experts, all-reduces in captured graphs."""
    keep = pd.Series(data=True, index=raw.index)
    for column, wanted in _PLAIN.get(kind, {}).items():
        if column in raw:
            keep &= raw[column].astype(str).isin(wanted)
    return raw[keep]


def _only(raw: pd.DataFrame, column: str) -> str:
    return ", ".join(sorted(raw[column].astype(str).unique())) if column in raw else ""


def host_bound_s(rows: pd.DataFrame, share: float = 0.1) -> float:
    """Return the latency below which rows of one dtype say nothing of the kernel: 1.2 times the median of their least ``share`` [s].

    Where launches take longer than kernels, the shortest latencies crowd at the launch time.
    """
    shortest = rows.latency_s.nsmallest(max(int(share * len(rows)), 1))
    return 1.2 * float(shortest.median())


def installed(system: str) -> Path:
    """Return the folder of a system's tables in the installed package ``aiconfigurator-core``.

    Raises:
        CalibrationError: Not installed, or it has no such system.
    """
    try:
        import aiconfigurator_core  # type: ignore[import-not-found]  # noqa: PLC0415
    except ImportError as error:
        raise CalibrationError("aiconfigurator-core is not installed (pip install aiconfigurator-core), or give the folder of the tables") from error
    root = Path(aiconfigurator_core.__file__).parent
    folders = sorted({path.parent for path in root.rglob("gemm_perf*.parquet") if system in path.parts})
    if not folders:
        named: set[Any] = {path.parent.name for path in root.rglob("gemm_perf*.parquet")}
        raise CalibrationError(f"aiconfigurator-core: no tables of {system!r}; it has {', '.join(sorted(named)) or 'none'}")
    return folders[-1]
