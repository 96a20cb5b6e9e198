"""Requests written to a Parquet file while a run goes on, so that memory does not grow with their number."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from effsim.errors import MissingExtraError, SpecError
from effsim.sim.log import COLUMNS

WHOLE: Final = ("id", "prompt_tokens", "output_tokens", "preemptions", "replica")
GROUP_ROWS: Final = 131_072
"""Rows of a row group: about 12 MB in memory."""


class RequestFile:
    """A sink of :class:`~effsim.sim.log.RequestLog` that writes row groups; used with ``with``, the file is there whole at the end or not at all.

    Rows are in the order of completion; requests that were not served have none.

    Args:
        path: Of the Parquet file.

    Raises:
        MissingExtraError: pyarrow is not installed.
        SpecError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 -- an extra
            import pyarrow.parquet as pq  # noqa: PLC0415
        except ImportError:
            raise MissingExtraError("pyarrow", "parquet", f"{path.name}, a log of more requests than are kept in memory,") from None
        self._arrow, self._path = pa, path
        self._schema = pa.schema([(name, pa.int64() if name in WHOLE else pa.float64()) for name in COLUMNS])
        self._blocks: list[Mapping[str, NDArray[np.float64]]] = []
        self._rows = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        except OSError as error:
            raise SpecError(f"{path}: cannot be written: {error.strerror}") from None
        os.close(handle)
        self._temporary = Path(name)
        self._writer: Any = pq.ParquetWriter(name, self._schema, compression="zstd")

    def __call__(self, columns: Mapping[str, NDArray[np.float64]]) -> None:
        """Take a block of columns."""
        self._blocks.append(columns)
        self._rows += columns["id"].size
        if self._rows >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        whole = {name: np.concatenate([block[name] for block in self._blocks]) for name in COLUMNS}
        arrays = [self._arrow.array(values.astype(np.int64) if name in WHOLE else values, from_pandas=True) for name, values in whole.items()]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self._blocks.clear()
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Put the file in its place, or take it away where the run has failed."""
        try:
            if kind is None:
                self._flush()
            self._writer.close()
            if kind is None:
                self._temporary.chmod(0o644)
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)
