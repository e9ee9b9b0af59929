"""Public edit datasets as folders: InstructPix2Pix's own layout and MagicBrush's.

InstructPix2Pix: NAME/prompt.json ("edit" is the instruction) with SEED_0.jpg before and SEED_1.jpg after,
NAME perhaps inside shard-NN/; a seeds.json at the top, [[NAME, [SEED, ...]], ...], is followed if there.
MagicBrush: edit_sessions.json, {IMAGE: [{"input", "mask", "output", "instruction"}, ...]}, one entry a turn,
with the pictures in images/IMAGE/.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ...core.errors import EmuEditError
from .pairs import BadPair, RawPair, StoredPair, file_stamp, no_pairs

BUNDLE = 256
"""Folders or sessions in a unit."""


class InstructPix2PixFolder:
    """A folder in InstructPix2Pix's layout; a unit is a bundle of prompt folders."""

    def __init__(self, place: Path) -> None:
        self.name = f"ip2p:{place.name}"
        self._place = place
        self._seeds: dict[str, list[str]] = {}
        listed = place / "seeds.json"
        if listed.is_file():
            entries = _json(listed)
            if not all(isinstance(entry, list) and len(entry) == 2 for entry in entries):
                raise EmuEditError(f"{listed}: expected a list of [folder, [seeds]]; make it again.")
            self._seeds = {str(name): [str(seed) for seed in seeds] for name, seeds in entries}
            names = list(self._seeds)
        else:
            found = [*place.glob("*/prompt.json"), *place.glob("*/*/prompt.json")]
            names = [path.parent.relative_to(place).as_posix() for path in found]
        self._names = sorted(names)
        if not self._names:
            raise no_pairs(place, "InstructPix2Pix's layout has folders with a prompt.json")

    def units(self) -> list[str]:
        return _bundles(len(self._names))

    def stamp(self, unit: str) -> str:
        digest = hashlib.sha256()
        for name in self._names[_range(unit)]:
            prompt = self._place / name / "prompt.json"
            words = file_stamp(prompt) if prompt.is_file() else ""
            digest.update(f"{name} {words} {_changed(prompt.parent)}".encode())
        return digest.hexdigest()[:16]

    def read(self, unit: str) -> list[RawPair | BadPair]:
        found: list[RawPair | BadPair] = []
        for name in self._names[_range(unit)]:
            found += self._pairs(name)
        return found

    def _pairs(self, name: str) -> list[RawPair | BadPair]:
        folder = self._place / name
        try:
            instruction = json.loads((folder / "prompt.json").read_text(encoding="utf-8"))["edit"]
        except FileNotFoundError:
            return [BadPair(name, "its prompt.json is missing")]
        except (ValueError, KeyError, TypeError, OSError) as problem:
            return [BadPair(name, f"its prompt.json cannot be used ({type(problem).__name__}: {problem})")]
        if not isinstance(instruction, str) or not instruction.strip():
            return [BadPair(name, "its instruction is empty")]
        seeds = self._seeds.get(name) or sorted(
            {p.name.rsplit("_", 1)[0] for p in (*folder.glob("*_0.jpg"), *folder.glob("*_1.jpg"))}
        )
        if not seeds:
            return [BadPair(name, "it holds no SEED_0.jpg and SEED_1.jpg")]
        return [
            StoredPair(f"{name}/{s}", instruction, folder / f"{s}_0.jpg", folder / f"{s}_1.jpg")
            for s in seeds
        ]


class MagicBrushFolder:
    """A split of MagicBrush as a folder; a unit is a bundle of sessions, a pair is a turn."""

    def __init__(self, place: Path) -> None:
        self.name = f"magicbrush:{place.name}"
        self._place = place
        self._file = place / "edit_sessions.json"
        sessions = _json(self._file)
        if not isinstance(sessions, dict) or not sessions:
            raise no_pairs(place, "MagicBrush's edit_sessions.json names the turns of each picture")
        self._sessions = sorted(sessions.items())

    def units(self) -> list[str]:
        return _bundles(len(self._sessions))

    def stamp(self, unit: str) -> str:
        digest = hashlib.sha256(file_stamp(self._file).encode())
        for image, _ in self._sessions[_range(unit)]:
            digest.update(f"{image} {_changed(self._place / 'images' / image)}".encode())
        return digest.hexdigest()[:16]

    def read(self, unit: str) -> list[RawPair | BadPair]:
        found: list[RawPair | BadPair] = []
        for image, turns in self._sessions[_range(unit)]:
            folder = self._place / "images" / image
            for number, turn in enumerate(turns, 1):
                name = f"{image}/{number}"
                try:
                    before, after, words = turn["input"], turn["output"], turn["instruction"]
                    # Plain names: a session must not point outside its own folder.
                    pair = StoredPair(
                        name, words.strip(), folder / Path(before).name, folder / Path(after).name
                    )
                except (KeyError, TypeError, AttributeError) as problem:
                    found.append(BadPair(name, f"its entry in edit_sessions.json lacks {problem}"))
                    continue
                found.append(pair if pair.instruction else BadPair(name, "its instruction is empty"))
        return found


def _bundles(count: int) -> list[str]:
    return [f"{start:09d}-{min(start + BUNDLE, count):09d}" for start in range(0, count, BUNDLE)]


def _range(unit: str) -> slice:
    start, end = unit.split("-")
    return slice(int(start), int(end))


def _changed(folder: Path) -> int:
    """When something was last put into a folder or taken out; 0 where there is none."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise EmuEditError(f"{path} cannot be read ({problem}); download it again.") from problem
