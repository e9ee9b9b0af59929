"""The index of a folder of pairs: a row for each, as Parquet where pyarrow is there, else as JSON lines."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import EmuEditError
from . import durable, shards

PARQUET, LINES = "index.parquet", "index.jsonl"
AT_ONCE = 4096  # rows of a Parquet row group, and all that is held in memory
_NUMBERS = {"width": "int32", "height": "int32", "seed": "int64", "rank": "float64"}


def write_index(folder: Path, rows: Iterable[Mapping[str, Any]], parquet: bool | None = None) -> Path:
    """Write the rows (INDEX_COLUMNS each) and return the file; the other kind of index is taken away.

    parquet: True, False, or None for what this machine can.
    """
    arrow = _pyarrow() if parquet in (None, True) else None
    if parquet and arrow is None:
        raise EmuEditError("index: Parquet needs the Python package 'pyarrow'; run: pip install pyarrow")
    path, other = folder / PARQUET, folder / LINES
    if arrow is None:
        path, other = other, path
        durable.write_whole(path, (shards.dump(_row(row)) + b"\n" for row in rows))
    else:
        durable.write_whole(path, _parquet(arrow, iter(rows)))
    durable.remove(other)
    return path


def read_index(folder: Path) -> list[dict[str, Any]]:
    """The rows of whichever index there is."""
    if (folder / LINES).is_file():
        return [json.loads(line) for line in (folder / LINES).read_bytes().splitlines()]
    arrow = _pyarrow()
    if not (folder / PARQUET).is_file() or arrow is None:
        raise EmuEditError(
            f"index: {folder} holds no index that can be read; build it again, or run: pip install pyarrow"
        )
    return arrow.parquet.read_table(folder / PARQUET).to_pylist()


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row.get(name) for name in shards.INDEX_COLUMNS}


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return None
    return pyarrow


def _parquet(arrow: Any, rows: Iterator[Mapping[str, Any]]) -> Iterator[bytes]:
    """The file in pieces, a row group at a time."""
    kinds = {name: _NUMBERS.get(name, "string") for name in shards.INDEX_COLUMNS}
    schema = arrow.schema([(name, getattr(arrow, kind)()) for name, kind in kinds.items()])
    made = io.BytesIO()
    with arrow.parquet.ParquetWriter(made, schema) as writer:
        while some := [_row(row) for row in islice(rows, AT_ONCE)]:
            writer.write_table(arrow.Table.from_pylist(some, schema=schema))
            yield made.getvalue()
            made.seek(0)
            made.truncate()
    yield made.getvalue()
