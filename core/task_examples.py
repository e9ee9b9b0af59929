"""Examples of one edit: pictures before and after with the words for it, checked, and read from a folder.

A folder is laid out in one of two ways:
- NAME.source.png, NAME.target.png and NAME.txt with the instruction, for each example (other picture formats
  are fine); or
- examples.json (a list) or examples.jsonl (one object a line) of {"source", "target", "instruction"}, with
  file names relative to the folder and inside it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from torch import Tensor

from .errors import EmuEditError
from .images import check_images
from .picture_files import load_picture

LISTINGS = ("examples.jsonl", "examples.json")
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
KEYS = ("source", "target", "instruction")


@dataclass(frozen=True, eq=False)
class TaskExample:
    """`source` and `target`: pictures [1,H,W,3] in 0..1 before and after the edit that `instruction` names.

    The two may differ in size (a small picture and the large one made of it) but not in proportions.
    `name` is what sentences call it.
    """

    source: Tensor
    target: Tensor
    instruction: str
    name: str = ""


def check_examples(examples: Sequence[TaskExample]) -> list[TaskExample]:
    """The same examples, float32 and named, or EmuEditError about the one that cannot be learnt from."""
    if not examples:
        raise EmuEditError("examples: there are none; give at least one picture before and after the edit.")
    checked = []
    for number, example in enumerate(examples, 1):
        name = example.name or f"example {number}"
        source = check_images(example.source, f"{name}, source")
        target = check_images(example.target, f"{name}, target")
        if len(source) != 1 or len(target) != 1:
            raise EmuEditError(
                f"{name}: it holds {len(source)} pictures before and {len(target)} after; give one of each."
            )
        (h, w), (th, tw) = source.shape[1:3], target.shape[1:3]
        # Two roundings to whole pixels may part the proportions by one pixel of the smaller picture.
        if abs(math.log((h * tw) / (w * th))) > max(0.02, 1.0 / min(h, w, th, tw)):
            raise EmuEditError(
                f"{name}: the source is {w}x{h} pixels but the target {tw}x{th}; crop them to the same view."
            )
        if not isinstance(example.instruction, str) or not example.instruction.strip():
            raise EmuEditError(f"{name}: its instruction is empty; write what the edit is called.")
        checked.append(TaskExample(source, target, example.instruction.strip(), name))
    return checked


def read_examples(folder: str | os.PathLike[str]) -> list[TaskExample]:
    """Every example of a folder (see the module), in the order of the listing or of the names.

    Raises EmuEditError for a folder that is missing or empty, a listing that is none, a file that is missing
    or unreadable, and examples that check_examples refuses. Transparent pictures are flattened on white.
    """
    place = Path(folder)
    if not place.is_dir():
        problem = "is a file" if place.exists() else "does not exist"
        raise EmuEditError(
            f"examples: {place} {problem}; give a folder with NAME.source.png, NAME.target.png and NAME.txt "
            "for each example."
        )
    listing = next((place / name for name in LISTINGS if (place / name).is_file()), None)
    rows = _named_rows(place) if listing is None else _listed_rows(listing)
    examples = []
    for name, source, target, instruction in rows:
        try:
            examples.append(TaskExample(load_picture(source), load_picture(target), instruction, name))
        except EmuEditError as slip:
            raise EmuEditError(f"{name}: {slip}") from slip
    return check_examples(examples)


def _named_rows(folder: Path) -> list[tuple[str, Path, Path, str]]:
    """(name, source, target, instruction) by the names of the files."""
    sides: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        stem, dot, side = path.stem.rpartition(".")
        if path.suffix.lower() in PICTURE_ENDINGS and dot and side in ("source", "target"):
            held = sides.setdefault(stem, {})
            if side in held:
                raise EmuEditError(
                    f"examples: {held[side].name} and {path.name} are both the {side} of {stem!r}; keep one."
                )
            held[side] = path
    if not sides:
        raise EmuEditError(
            f"examples: {folder} holds no NAME.source.png and no examples.json; name the pictures of each "
            "example NAME.source.png and NAME.target.png and write its instruction into NAME.txt."
        )
    rows = []
    for stem, held in sides.items():
        for side in ("source", "target"):
            if side not in held:
                there = next(iter(held.values()))
                raise EmuEditError(f"examples: {there.name} is there but {stem}.{side}.png is not; add it.")
        words = folder / f"{stem}.txt"
        if not words.is_file():
            raise EmuEditError(f"examples: {stem}.txt is missing; write the instruction of {stem!r} into it.")
        try:
            instruction = words.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as problem:
            raise EmuEditError(
                f"examples: {words} cannot be read ({problem}); save it as UTF-8."
            ) from problem
        rows.append((stem, held["source"], held["target"], instruction))
    return rows


def _listed_rows(listing: Path) -> list[tuple[str, Path, Path, str]]:
    """(name, source, target, instruction) from examples.json or examples.jsonl."""
    try:
        text = listing.read_text(encoding="utf-8-sig")
        if listing.suffix == ".jsonl":
            entries: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            entries = json.loads(text)
    except (OSError, ValueError) as problem:
        raise EmuEditError(f"examples: {listing} is not readable as JSON ({problem}); mend it.") from problem
    if not isinstance(entries, list) or not entries:
        raise EmuEditError(f"examples: {listing} holds no list of examples; write [{{{_wanted()}}}, ...].")
    rows = []
    for number, entry in enumerate(entries, 1):
        where = f"{listing.name}, entry {number}"
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in KEYS):
            raise EmuEditError(f"examples: {where} is not {{{_wanted()}}}; mend it.")
        for name in (entry["source"], entry["target"]):
            # A listing may come from elsewhere, and must not reach what lies around its folder.
            if any(path.anchor or ".." in path.parts for path in (Path(name), PureWindowsPath(name))):
                raise EmuEditError(
                    f"examples: {where} names {name!r}, outside its folder; put the picture into it."
                )
        rows.append(
            (where, listing.parent / entry["source"], listing.parent / entry["target"], entry["instruction"])
        )
    return rows


def _wanted() -> str:
    return ", ".join(f'"{key}": "..."' for key in KEYS)
