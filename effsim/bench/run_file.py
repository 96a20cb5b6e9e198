"""The file that a benchmark run leaves: one JSON with a schema version and a checksum, refused where it is cut short or altered."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from effsim.errors import SpecError, shown

FORMAT: Final = "effsim-bench"
SCHEMA_VERSION: Final = 1
MAX_BYTES: Final = 20_000_000
MAX_ROWS: Final = 20_000
MAX_DEPTH: Final = 12
STATUSES: Final = ("running", "interrupted", "complete")


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one kernel and shape. What was not measured is ``None``.

    Args:
        kind: The kernel, named as the file of :mod:`effsim.bench.kernels` that holds it, or one of the kinds listed there.
        dtype: Of the operands.
        shape: Whole numbers and words that fix the work: ``m, n, k``; ``batch, context, heads, kv_heads, head_dim`` ...
        flop: Of one call; multiplies and adds counted apart [FLOP].
        bytes: That one call must move between memory and chip at least [bytes].
        duty_ratio: Share of the window in which calls were issued, as asked for.
        power_limit_w: Set for this row at the user's request [W]; ``None``: left alone.
        implementation: What ran, e.g. ``torch.matmul``.
        launch: ``graph``: recorded and replayed; ``eager``: each call issued from Python.
        buffers: Sets of operands used in turn, so that caches hold none of them.
        time_s: Median time of a call [s].
        time_low_s: Lower end of its confidence interval [s].
        time_high_s: Upper end [s].
        confidence: Of that interval.
        samples: Timed samples.
        calls_per_sample: Calls in each.
        window_s: Length of the sustained window [s].
        window_calls: Calls in it.
        sustained_time_s: ``window_s`` over ``window_calls``: what a call takes when hot; absent with pauses [s].
        energy_j: Per call, in the window; idle power included [J].
        energy_low_j: Lower end of its interval, from the meter's resolution and period [J].
        energy_high_j: Upper end [J].
        power_w: Mean over the window [W].
        power_low_w: Lower end [W].
        power_high_w: Upper end [W].
        metered: Devices whose energy this is.
        conditions: Clocks, temperature and throttling, ``before`` and ``after``.
        notes: What a reader must know, e.g. that the interval is wider than asked.
    """

    kind: str
    dtype: str
    shape: Mapping[str, int | str]
    flop: float
    bytes: float
    duty_ratio: float = 1.0
    power_limit_w: float | None = None
    implementation: str = ""
    launch: str = "eager"
    buffers: int = 1
    time_s: float | None = None
    time_low_s: float | None = None
    time_high_s: float | None = None
    confidence: float | None = None
    samples: int = 0
    calls_per_sample: int = 0
    window_s: float | None = None
    window_calls: int = 0
    sustained_time_s: float | None = None
    energy_j: float | None = None
    energy_low_j: float | None = None
    energy_high_j: float | None = None
    power_w: float | None = None
    power_low_w: float | None = None
    power_high_w: float | None = None
    metered: tuple[str, ...] = ()
    conditions: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What tells this row from the others of its run."""
        return row_key(self.kind, self.dtype, self.shape, self.duty_ratio, self.power_limit_w)

    @property
    def flop_per_s(self) -> float | None:
        """Rate of arithmetic [FLOP/s]."""
        return self.flop / self.time_s if self.time_s and self.flop else None

    @property
    def bytes_per_s(self) -> float | None:
        """Rate of memory traffic [bytes/s], at least."""
        return self.bytes / self.time_s if self.time_s and self.bytes else None


@dataclass(frozen=True, slots=True)
class Run:
    """A benchmark run.

    Args:
        effsim_version: That took it.
        started: Date and time, UTC, ISO 8601.
        updated: Of the last row.
        status: ``complete``, ``interrupted``, or ``running``: ended without a word.
        settings: What was asked for, as numbers and words.
        machine: Processor, memory, operating system.
        device: What was measured: library, kind, model, memory, dtypes.
        libraries: Versions, and the driver's.
        meter: Channels that were read; empty: none.
        rows: In the order measured.
        skipped: ``{case, reason}`` of what was not.
    """

    effsim_version: str
    started: str
    updated: str
    status: str
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    device: Mapping[str, Any]
    libraries: Mapping[str, str]
    meter: tuple[Mapping[str, Any], ...]
    rows: tuple[Row, ...]
    skipped: tuple[Mapping[str, str], ...] = ()


def row_key(kind: str, dtype: str, shape: Mapping[str, int | str], duty_ratio: float, power_limit_w: float | None) -> str:
    """Return the text that identifies a measurement within a run.

    >>> row_key("gemm", "bf16", {"m": 8, "n": 4096, "k": 4096}, 1.0, None)
    'gemm bf16 k=4096 m=8 n=4096'
    """
    parts = [kind, dtype, *(f"{name}={value}" for name, value in sorted(shape.items()))]
    if duty_ratio != 1.0:
        parts.append(f"duty={duty_ratio:g}")
    if power_limit_w is not None:
        parts.append(f"limit={power_limit_w:g}W")
    return " ".join(part for part in parts if part)


def checksum(document: Mapping[str, Any]) -> str:
    """Return ``sha256:`` and the digest of a document without its own checksum: JSON, keys sorted, no blanks, UTF-8.

    >>> checksum({"b": 1, "a": 2}) == checksum({"a": 2, "b": 1, "checksum": "sha256:0"})
    True
    """
    content = {name: value for name, value in document.items() if name != "checksum"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def to_document(run: Run) -> dict[str, Any]:
    """Return a run as its file holds it, with the checksum."""
    document: dict[str, Any] = {"format": FORMAT, "schema_version": SCHEMA_VERSION, **asdict(run)}
    plain: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))  # tuples become lists, as a reader will find them
    plain["checksum"] = checksum(plain)
    return plain


def write_run(path: Path, run: Run) -> None:
    """Write a run whole or not at all: to a temporary file beside it, then renamed.

    Raises:
        SpecError: The file cannot be written.
    """
    text = json.dumps(to_document(run), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        temporary = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise SpecError(f"{path}: the run file cannot be written: {error.strerror}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def read_run(path: str | Path) -> Run:
    """Return the run that a file holds.

    Raises:
        SpecError: No such file, too large, cut short, altered, of another schema version, or not a run at all.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise SpecError(f"{path}: no such file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SpecError(f"{path}: {size:,} bytes; a run file may have at most {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not a run file: not text in UTF-8 (byte {error.start})") from None
    return parse_run(text, str(path))


def parse_run(text: str, where: str) -> Run:
    """Return the run that a JSON text holds; ``where`` names it in messages.

    Raises:
        SpecError: As :func:`read_run`.
    """
    try:
        document = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise SpecError(f"{where}, line {error.lineno}: not valid JSON ({error.msg}): the file is cut short or was altered") from None
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{where}: {str(error) or 'nested too deeply'}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise SpecError(f"{where}: not a run file: expected the field format to be {FORMAT!r}")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise SpecError(f"{where}: schema_version {shown(version)}; this EffSim reads {SCHEMA_VERSION}")
    try:
        found = checksum(document)
    except (ValueError, RecursionError):
        raise SpecError(f"{where}: a number that is not finite, or nested too deeply") from None
    if found != document.get("checksum"):
        raise SpecError(
            f"{where}: the checksum does not fit the content (written {shown(document.get('checksum'), 20)}, found {found[:17]}...): it was altered"
        )
    return _to_run(document, where)


def _no_constant(name: str) -> float:
    raise ValueError(f"the number {name} is not accepted: what is absent is null")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is given twice")
    return found


_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    **dict.fromkeys(("effsim_version", "started", "updated", "status"), str),
    **dict.fromkeys(("settings", "machine", "device", "libraries"), dict),
    **dict.fromkeys(("meter", "rows", "skipped"), list),
}


def _to_run(document: dict[str, Any], where: str) -> Run:
    for name, kind in _TYPES.items():
        if not isinstance(document.get(name), kind):
            raise SpecError(f"{where}: {name}: expected {getattr(kind, '__name__', kind)}, got {shown(document.get(name))}")
    if document["status"] not in STATUSES:
        raise SpecError(f"{where}: status: expected one of {', '.join(STATUSES)}, got {shown(document['status'])}")
    if len(document["rows"]) > MAX_ROWS:
        raise SpecError(f"{where}: {len(document['rows']):,} rows; at most {MAX_ROWS:,}")
    given = {name: document[name] for name in _TYPES}
    rows = tuple(_to_row(row, f"{where}: rows[{index}]") for index, row in enumerate(document["rows"]))
    return Run(**{**given, "rows": rows, "meter": tuple(document["meter"]), "skipped": tuple(document["skipped"])})


_ROW_FIELDS: Final = {one.name for one in fields(Row)}
_WORDS: Final = ("kind", "dtype", "implementation", "launch")
_COUNTS: Final = ("buffers", "samples", "calls_per_sample", "window_calls")
_MAPPINGS: Final = ("shape", "conditions")
_LISTS: Final = ("metered", "notes")
_REQUIRED: Final = ("flop", "bytes", "duty_ratio")


def _to_row(given: Any, where: str) -> Row:
    if not isinstance(given, dict) or set(given) != _ROW_FIELDS:
        odd = sorted(set(given) ^ _ROW_FIELDS) if isinstance(given, dict) else [type(given).__name__]
        raise SpecError(f"{where}: missing or unknown: {', '.join(map(str, odd))}")
    for name, value in given.items():
        if not _fits(name, value):
            raise SpecError(f"{where}: {name}: {shown(value)} is not accepted here")
    return Row(**{**given, **{name: tuple(given[name]) for name in _LISTS}})


def _fits(name: str, value: Any) -> bool:
    if name in _WORDS:
        return isinstance(value, str)
    if name in _COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if name in _MAPPINGS:
        return isinstance(value, dict) and (name != "shape" or all(isinstance(one, (int, str)) and not isinstance(one, bool) for one in value.values()))
    if name in _LISTS:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if value is None:
        return name not in _REQUIRED
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0.0
