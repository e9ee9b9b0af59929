"""Our own shards: tars in webdataset's manner, with NNNN.source.png, NNNN.target.png, NNNN.json of each pair.

core/pairs/shards.py writes them. Any webdataset tar with these three endings (png, jpg or webp pictures)
will do; other members are left alone. Only the tar's headers and the JSON are read until a pair is drawn.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from .pairs import BadPair, RawPair, Slice, StoredPair, file_stamp, no_pairs

PICTURES = tuple(f"{side}.{kind}" for side in ("source", "target") for kind in ("png", "jpg", "jpeg", "webp"))


class ShardSource:
    """The tars in a folder (or in its subfolder shards/), or one tar; a unit is a tar."""

    def __init__(self, place: Path) -> None:
        self.name = f"shards:{place.name}"
        folder = place / "shards" if (place / "shards").is_dir() else place
        self._files = {p.name: p for p in ([place] if place.is_file() else sorted(folder.glob("*.tar")))}
        if not self._files:
            raise no_pairs(place, "a folder of shards holds .tar files")

    def units(self) -> list[str]:
        return list(self._files)

    def stamp(self, unit: str) -> str:
        return file_stamp(self._files[unit])

    def read(self, unit: str) -> list[RawPair | BadPair]:
        path = self._files[unit]
        members, damage = _members(path)
        found: list[RawPair | BadPair] = [_pair(path, key, parts) for key, parts in members.items()]
        if damage or not found:
            found.append(BadPair(unit, damage or "the shard is empty"))
        return found


def _members(path: Path) -> tuple[dict[str, dict[str, Slice]], str]:
    """Where each pair's members lie, by key and ending; and what is wrong with the tar, or ""."""
    found: dict[str, dict[str, Slice]] = {}
    length = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isfile():
                    folder, _, name = member.name.rpartition("/")
                    key, _, ending = name.partition(".")
                    if member.offset_data + member.size > length:
                        return found, f"the shard is cut off in {member.name}"
                    place = Slice(path, member.offset_data, member.size)
                    found.setdefault(f"{folder}/{key}" if folder else key, {})[ending.lower()] = place
    except (tarfile.TarError, OSError, EOFError) as problem:
        return found, f"the shard is damaged ({problem})"
    return found, ""


def _pair(path: Path, key: str, parts: dict[str, Slice]) -> RawPair | BadPair:
    name = f"{path.stem}/{key}"
    if "json" not in parts:
        return BadPair(name, "its .json is missing")
    pictures = {side: [parts[e] for e in PICTURES if e.startswith(side) and e in parts] for side in SIDES}
    for side in SIDES:
        if not pictures[side]:
            return BadPair(name, f"its {side} picture is missing")
    try:
        record = json.loads(parts["json"].read())
        instruction = record["instruction"]
    except (ValueError, KeyError, TypeError, OSError) as problem:
        return BadPair(name, f"its .json cannot be used ({type(problem).__name__}: {problem})")
    if not isinstance(instruction, str) or not instruction.strip():
        return BadPair(name, "its instruction is empty")
    task = record.get("task")
    return StoredPair(
        name, instruction, pictures["source"][0], pictures["target"][0], task if isinstance(task, str) else ""
    )


SIDES = ("source", "target")
