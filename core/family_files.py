"""Editor families as data: the shipped editor_families.json, users' own files of the same form, checked.

A user's file may hold one family or many; one of the same name replaces the shipped one. Whatever is wrong
with a family costs that family alone, with a sentence.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .errors import EmuEditError
from .tasks import TASK_IDS

FORMAT = "emu-edit-editor-families"
VERSION = 1
SHIPPED = Path(__file__).with_name("editor_families.json")
BESIDE = "editor_families.*.json"  # a user's own, in the same folder
SIDES = ("area", "longest", "width")
MOST_PIXELS = 16384

_ENTRIES = ("prompt", "prompts", "without_caption", "multiple", "size", "alpha", "tasks", "note", "sources")
_PLACES = ("instruction", "target_caption")


@dataclass(frozen=True)
class TaskAdvice:
    """What is advised for one task: threshold alpha (see thresholding.py) and mask policy."""

    alpha: float
    mask: str


@dataclass(frozen=True)
class Family:
    """One family of editors. `prompts` holds templates for single tasks, `prompt` the one for all others.

    A template has the places {instruction} and, where the editor wants a description of the result,
    {target_caption}; `without_caption` is taken when there is no description. `multiple`: both sides must
    divide by it. `side` and `pixels`: the usual working size, as "width" or "longest" side, or as an "area"
    of pixels x pixels.
    """

    name: str
    prompt: str
    multiple: int
    side: str
    pixels: int
    prompts: Mapping[str, str] = field(default_factory=dict)
    without_caption: str = ""
    alpha: float | None = None
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    note: str = ""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Families:
    """The families by name, shipped ones first, and one sentence for each that could not be read."""

    families: Mapping[str, Family]
    problems: tuple[str, ...] = ()


@cache
def shipped() -> tuple[dict[str, TaskAdvice], dict[str, str], dict[str, Family]]:
    """Task advice, mask policies with their meaning, families. A fault here is ours and is raised."""
    data = _read(SHIPPED)
    advice = {task: TaskAdvice(float(e["alpha"]), str(e["mask"])) for task, e in data["tasks"].items()}
    masks = {str(name): str(meaning) for name, meaning in data["masks"].items()}
    families = {name: parse_family(name, entry, masks) for name, entry in data["families"].items()}
    return advice, masks, families


def task_advice() -> Mapping[str, TaskAdvice]:
    """What is advised for each of the sixteen tasks, whatever the editor."""
    return dict(shipped()[0])


def mask_policies() -> Mapping[str, str]:
    """The mask policies and what each means."""
    return dict(shipped()[1])


def read_families(folders: Sequence[Path] = ()) -> Families:
    """The shipped families, those in files beside them, and those in `folders` (*.json). Never raises."""
    families = dict(shipped()[2])
    problems: list[str] = []
    mine: dict[str, Path] = {}
    files = sorted(SHIPPED.parent.glob(BESIDE))
    for folder in folders:
        files += sorted(folder.glob("*.json"))
    for file in files:
        try:
            entries = _read(file)["families"]
        except EmuEditError as slip:
            problems.append(str(slip))
            continue
        for name, entry in entries.items():
            try:
                if name in mine and mine[name] != file:
                    raise EmuEditError(
                        f"the family {name!r} is also in {mine[name].name}, which was read first; remove one."
                    )
                families[name] = parse_family(name, entry, mask_policies())
                mine[name] = file
            except EmuEditError as slip:
                problems.append(f"{file.name}: {slip}")
    return Families(families, tuple(problems))


def _read(file: Path) -> dict[str, Any]:
    """A families file's content once its frame is right."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:  # a decoding error is a ValueError too
        raise EmuEditError(f"{file.name} cannot be read as JSON ({problem}); mend or remove it.") from problem
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise EmuEditError(f'{file.name} does not begin with "format": "{FORMAT}"; add that entry.')
    if data.get("version") != VERSION:
        raise EmuEditError(
            f"{file.name} is of version {data.get('version')!r} and this pack reads {VERSION}; "
            "update the pack."
        )
    if not isinstance(data.get("families"), dict) or not data["families"]:
        raise EmuEditError(f'{file.name} holds no "families"; add at least one, by name.')
    return data


def parse_family(name: str, entry: Any, masks: Mapping[str, str]) -> Family:
    """A family from its JSON, or EmuEditError naming the entry that is wrong."""

    def slip(what: str) -> EmuEditError:
        return EmuEditError(f"the family {name!r}: {what}")

    if not name.strip():
        raise EmuEditError("a family has an empty name; give it one.")
    if not isinstance(entry, dict):
        raise slip(f"is a {type(entry).__name__} and should be an object with prompt, multiple and size.")
    for key in entry:
        if key not in _ENTRIES:
            near = difflib.get_close_matches(key, _ENTRIES, 1)
            mend = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_ENTRIES)}."
            raise slip(f"has an unknown entry {key!r}; {mend}")

    def template(value: Any, where: str) -> str:
        if not isinstance(value, str) or "{instruction}" not in value:
            raise slip(f"{where} must be text with the place {{instruction}}, got {value!r}.")
        unknown = [place for place in re.findall(r"\{(\w*)\}", value) if place not in _PLACES]
        if unknown:
            places = "{instruction} and {target_caption}"
            raise slip(f"{where} has an unknown place {{{unknown[0]}}}; known are {places}.")
        return value

    def threshold(value: Any, where: str) -> float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not (math.isfinite(value) and 0 <= value <= 1):
            raise slip(f"{where} must be a number from 0 to 1, got {value!r}; the paper uses 0.03.")
        return float(value)

    def whole(value: Any, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_PIXELS:
            raise slip(f"{where} must be a whole number from 1 to {MOST_PIXELS}, got {value!r}.")
        return value

    def table(key: str) -> dict[str, Any]:
        value = entry.get(key, {})
        if not isinstance(value, dict):
            raise slip(f"{key} must be an object with tasks as its names, got {value!r}.")
        for task in value:
            if task not in TASK_IDS:
                raise slip(f"{key} names an unknown task {task!r}; the tasks are {', '.join(TASK_IDS)}.")
        return value

    size = entry.get("size")
    if not isinstance(size, dict) or size.get("side") not in SIDES or set(size) != {"side", "pixels"}:
        example = '{"side": "area", "pixels": 1024}'
        raise slip(f"size must be such as {example} with a side of {', '.join(SIDES)}, got {size!r}.")
    tasks = table("tasks")
    for task, advice in tasks.items():
        if not isinstance(advice, dict) or not set(advice) <= {"alpha", "mask"}:
            raise slip(f"tasks, {task}: give alpha, mask or both, got {advice!r}.")
        if "alpha" in advice:
            threshold(advice["alpha"], f"tasks, {task}: alpha")
        if "mask" in advice and advice["mask"] not in masks:
            raise slip(f"tasks, {task}: the mask must be one of {', '.join(masks)}, got {advice['mask']!r}.")
    sources = entry.get("sources", [])
    if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
        raise slip("sources must be a list of addresses.")
    if not isinstance(entry.get("note", ""), str):
        raise slip("note must be text.")
    bare = entry.get("without_caption", "")
    return Family(
        name=name,
        prompt=template(entry.get("prompt"), "prompt"),
        multiple=whole(entry.get("multiple"), "multiple"),
        side=size["side"],
        pixels=whole(size["pixels"], "size, pixels"),
        prompts={task: template(text, f"prompts, {task}") for task, text in table("prompts").items()},
        without_caption=template(bare, "without_caption") if bare else "",
        alpha=None if entry.get("alpha") is None else threshold(entry["alpha"], "alpha"),
        tasks=tasks,
        note=entry.get("note", ""),
        sources=tuple(sources),
    )
