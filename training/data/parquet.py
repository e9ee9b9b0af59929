"""Public edit datasets as parquet files: InstructPix2Pix, MagicBrush and UltraEdit as published, and alike.

Which data set it is shows in the columns; pictures are {"bytes", "path"} as the `datasets` library stores
them, or plain bytes. A unit is a row group, of which only the columns that are used are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import EmuEditError
from ...core.packages import need
from .pairs import BadPair, Blob, RawPair, StoredPair, file_stamp, no_pairs


@dataclass(frozen=True)
class Columns:
    """The columns of one data set: pictures before and after, instruction; parts of a row's name."""

    source: str
    target: str
    instruction: str
    id: tuple[str, ...] = ()


LAYOUTS: Mapping[str, Columns] = {
    "ip2p": Columns("original_image", "edited_image", "edit_prompt"),
    "magicbrush": Columns("source_img", "target_img", "instruction", ("img_id", "turn_index")),
    "ultraedit": Columns("source_image", "edited_image", "edit_prompt"),
    "emu-edit": Columns("image", "edited_image", "instruction", ("hash",)),
}
TASK_COLUMNS = ("task", "edit_type")


class ParquetSource:
    """The parquet files in a folder (and below), or one such file."""

    def __init__(self, place: Path) -> None:
        self._parquet: Any = need("pyarrow.parquet", "to read parquet files", "pip install pyarrow")
        self._arrow: Any = need("pyarrow", "to read parquet files", "pip install pyarrow")
        self._files = [place] if place.is_file() else sorted(place.rglob("*.parquet"))
        if not self._files:
            raise no_pairs(place, "a parquet data set holds .parquet files")
        self._root = place.parent if place.is_file() else place
        self._units: dict[str, tuple[Path, int]] = {}
        self._damaged: dict[str, str] = {}
        self.layout, names = "", ""
        for path in self._files:
            name = path.relative_to(self._root).as_posix()
            try:
                with self._parquet.ParquetFile(path) as file:
                    columns, groups = set(file.schema_arrow.names), file.num_row_groups
            except (OSError, self._arrow.ArrowException) as problem:
                self._damaged[name] = f"the file is damaged ({str(problem).splitlines()[0]})"
                continue
            names = ", ".join(sorted(columns))
            fitting = [k for k, c in LAYOUTS.items() if {c.source, c.target, c.instruction} <= columns]
            if not fitting:
                known = "; ".join(f"{k}: {c.source}, {c.target}, {c.instruction}" for k, c in LAYOUTS.items())
                raise EmuEditError(f"{path} has the columns {names}; known are those of {known}.")
            self.layout = self.layout or fitting[0]
            if self.layout not in fitting:
                raise EmuEditError(
                    f"{path} holds {fitting[0]} pairs but the files before it {self.layout} pairs; give each "
                    "data set a folder and a --data of its own."
                )
            self._units |= {f"{name}:{group:06d}": (path, group) for group in range(groups)}
        self.name = f"{self.layout or 'parquet'}:{place.name}"

    def units(self) -> list[str]:
        return [*self._units, *self._damaged]

    def stamp(self, unit: str) -> str:
        return file_stamp(self._units[unit][0]) if unit in self._units else "damaged"

    def read(self, unit: str) -> list[RawPair | BadPair]:
        if unit in self._damaged:
            return [BadPair(unit, self._damaged[unit])]
        path, group = self._units[unit]
        columns = LAYOUTS[self.layout]
        try:
            with self._parquet.ParquetFile(path) as file:
                names = set(file.schema_arrow.names)
                tasks = [name for name in TASK_COLUMNS if name in names][:1]
                ids = columns.id if names.issuperset(columns.id) else ()
                wanted = [columns.source, columns.target, columns.instruction, *ids, *tasks]
                rows = file.read_row_group(group, columns=wanted).to_pylist()
        except (OSError, self._arrow.ArrowException) as problem:
            return [BadPair(unit, f"the row group is damaged ({str(problem).splitlines()[0]})")]
        return [self._pair(row, f"{unit}:{i}", ids, tasks, path.parent) for i, row in enumerate(rows)]

    def _pair(self, row: Mapping[str, Any], place: str, ids: Any, tasks: list[str], folder: Path):
        columns = LAYOUTS[self.layout]
        name = "/".join(str(row[key]) for key in ids) if ids else place
        words = row[columns.instruction]
        if not isinstance(words, str) or not words.strip():
            return BadPair(name, "its instruction is empty")
        blobs = [_blob(row[side], folder) for side in (columns.source, columns.target)]
        for blob, side in zip(blobs, ("source", "target"), strict=True):
            if blob is None:
                return BadPair(name, f"its {side} picture is missing")
        task = row[tasks[0]] if tasks else ""
        return StoredPair(name, words, blobs[0], blobs[1], task if isinstance(task, str) else "")  # type: ignore[arg-type]


def _blob(cell: Any, folder: Path) -> Blob | None:
    if isinstance(cell, Mapping):
        if cell.get("bytes"):
            return cell["bytes"]
        return folder / str(cell["path"]) if cell.get("path") else None
    return cell if isinstance(cell, bytes) and cell else None
