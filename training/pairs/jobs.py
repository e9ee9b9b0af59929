"""Where jobs come from: the procedural world, captions with a writer of instructions, or ready instructions.

Job n follows from the plan and n alone: item n // len(tasks) of the source, with task n % len(tasks). Of
ready instructions it is the n-th, with its own task. Pictures of a folder are numbered once, in a list that
the build keeps: later ones come after those it knows, and one that went leaves its number empty.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ...core.errors import EmuEditError
from ...core.pairs.durable import write_whole
from ...core.pairs.records import Dropped, Instruction, PairJob
from .plan import BuildPlan
from .stages import Item
from .world import World

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
NUMBERED = "pictures.jsonl"
"""In a build's folder: the names of the pictures it was given, a JSON text a line; line n is picture n."""


class Jobs(Protocol):
    """`total` jobs, or None for as many as one likes; those of given numbers, in order."""

    @property
    def total(self) -> int | None: ...

    def make(self, numbers: Sequence[int]) -> list[Item]: ...


class WorldJobs:
    """Edits of the procedural world's scenes, in its own words."""

    total = None

    def __init__(self, plan: BuildPlan, world: World) -> None:
        self.plan, self.world = plan, world

    def make(self, numbers: Sequence[int]) -> list[Item]:
        tasks = self.plan.tasks
        return [self.world.job(self.plan.seed, n, tasks[n % len(tasks)], f"{n:08d}") for n in numbers]


class Lines:
    """The lines of a text file by number, their places alone in memory; empty ones are left out."""

    def __init__(self, path: Path, what: str) -> None:
        self.path, self._places = path, np.zeros(0, np.int64)
        places, at = [], 0
        try:
            with open(path, "rb") as file:
                for line in file:
                    if line.strip():
                        places.append(at)
                    at += len(line)
        except OSError as problem:
            raise EmuEditError(
                f"{what}: {path} cannot be read ({problem.strerror}); give a text file."
            ) from problem
        if not places:
            raise EmuEditError(f"{what}: {path} is empty; give a file with one on each line.")
        self._places = np.array(places, np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> str:
        with open(self.path, "rb") as file:
            file.seek(int(self._places[index]))
            return file.readline().decode("utf-8", "replace").strip()


class InstructionJobs:
    """Ready instructions: lines {"task", "instruction", "input_caption", ...}, with "picture" if any."""

    def __init__(self, plan: BuildPlan, path: Path) -> None:
        self.plan, self.lines = plan, Lines(path, "instructions")
        self.total: int | None = len(self.lines)

    def make(self, numbers: Sequence[int]) -> list[Item]:
        return [self._item(n) for n in numbers]

    def _item(self, number: int) -> Item:
        line = self.lines[number]
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise EmuEditError(f"{type(record).__name__} where an object belongs")
            picture = str(record.pop("picture", ""))
            words = Instruction.from_json(record)
            if words.task not in self.plan.tasks:
                return Dropped(
                    "instruction", f"the task {words.task} was not asked for.", words.task, f"{number:08d}"
                )
            return PairJob(f"{number:08d}", job_seed(self.plan, number), words, picture)
        except (ValueError, TypeError) as problem:
            reason = f"line {number + 1} of the instructions cannot be used: {problem}"
            return Dropped("instruction", reason, item=f"{number:08d}", detail={"line": line[:200]})


Write = Callable[[Sequence[tuple[str, str, int]]], Sequence[Instruction | Dropped]]
"""Instructions for (task, caption, seed), one each."""


class _Captioned:
    """Captions by number, each with every task, and whatever writes the instructions."""

    def __init__(self, plan: BuildPlan, write: Write, count: int) -> None:
        self.plan, self.write = plan, write
        self.total: int | None = count * len(plan.tasks)

    def make(self, numbers: Sequence[int]) -> list[Item]:
        found = [self._caption(n // len(self.plan.tasks)) for n in numbers]
        asked = {
            n: (self.plan.tasks[n % len(self.plan.tasks)], one[0], job_seed(self.plan, n))
            for n, one in zip(numbers, found, strict=True)
            if not isinstance(one, str)
        }
        written = dict(zip(asked, self.write(list(asked.values())), strict=True))
        items: list[Item] = []
        for number, one in zip(numbers, found, strict=True):
            if isinstance(one, str):
                task = self.plan.tasks[number % len(self.plan.tasks)]
                items.append(Dropped("caption", one, task, f"{number:08d}"))
                continue
            answer = written[number]
            if isinstance(answer, Dropped):
                items.append(answer)
            else:
                items.append(PairJob(f"{number:08d}", job_seed(self.plan, number), answer, one[1]))
        return items

    def _caption(self, index: int) -> tuple[str, str] | str:
        """(caption, picture or ""), or a sentence about why there is none."""
        raise EmuEditError("captions: there are none.")


class CaptionJobs(_Captioned):
    """Captions from a file: lines of text, or of {"caption", "picture"}."""

    def __init__(self, plan: BuildPlan, write: Write) -> None:
        self.lines = Lines(Path(plan.captions), "captions")
        super().__init__(plan, write, len(self.lines))

    def _caption(self, index: int) -> tuple[str, str] | str:
        line = self.lines[index]
        if not line.startswith("{"):
            return line, ""
        try:
            record = json.loads(line)
            return _said(str(record["caption"])), str(record.get("picture", ""))
        except (ValueError, KeyError, TypeError) as problem:
            return f"line {index + 1} of the captions cannot be used: {problem}"


class PictureJobs(_Captioned):
    """The pictures of a folder, by name, with their captions in .txt files beside them.

    names: those already numbered, in order; others found in the folder come after them.
    """

    def __init__(self, plan: BuildPlan, write: Write, names: Sequence[str] = ()) -> None:
        self.folder = Path(plan.pictures)
        found = sorted(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.suffix.lower() in PICTURES
        )
        known = set(names)
        self.names = [*names, *(name for name in found if name not in known)]
        if not self.names:
            raise EmuEditError(
                f"pictures: {self.folder} holds no {', '.join(PICTURES)}; give another folder."
            )
        super().__init__(plan, write, len(self.names))

    def _caption(self, index: int) -> tuple[str, str] | str:
        name = self.names[index]
        if not name.isascii() and name != name.encode("utf-8", "replace").decode():
            return f"the picture {name!a} has a name that is no text; rename it"
        try:
            return _said((self.folder / name).with_suffix(".txt").read_text(encoding="utf-8")), name
        except (OSError, ValueError) as problem:
            return f"the picture {name} has no caption beside it that can be read ({problem})"


def known_names(folder: Path) -> tuple[str, ...]:
    """The pictures that a build's folder has numbered, in order; none where it has not begun."""
    path = folder / NUMBERED
    try:
        return tuple(str(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as damage:
        raise EmuEditError(f"{path} cannot be read ({damage}); copy it again.") from damage


def keep_names(folder: Path, names: Sequence[str]) -> None:
    """Write down the numbers of the pictures, before any job of them is made."""
    known = known_names(folder)
    if tuple(names[: len(known)]) != known:
        raise EmuEditError(
            f"build: {folder} has just numbered its pictures anew; give the same command again."
        )
    if len(names) > len(known):
        write_whole(folder / NUMBERED, "".join(json.dumps(name) + "\n" for name in names).encode())


def _said(caption: str) -> str:
    caption = " ".join(caption.split())
    if not caption:
        raise ValueError("the caption is empty")
    return caption


def job_seed(plan: BuildPlan, number: int) -> int:
    """The seed of job `number`, 32 bits."""
    return int(np.random.SeedSequence((plan.seed, number, 7)).generate_state(1, np.uint32)[0])
