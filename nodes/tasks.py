"""Task: which of the sixteen tasks (or a task file) the editor is told to do."""

from __future__ import annotations

from typing import Any

from ..core.errors import EmuEditError
from ..core.tasks import NO_TASK, TASK_IDS, TASKS
from . import host
from .widgets import choice, socket

AUTO = "auto"
FILE_PREFIX = "file: "


def task_choices() -> list[str]:
    """The menu: auto, none, the sixteen ids, then the files of models/emu_edit_tasks."""
    files = sorted(host.files_of(host.TASK_FOLDER))
    return [AUTO, NO_TASK, *TASK_IDS, *(FILE_PREFIX + name for name in files)]


def predicted(instruction: str, editor: Any = None) -> str:
    """The task that an instruction's words suggest; "none" when `editor` is given and has no such task."""
    from ..core.predictor import predict_task, task_for

    return predict_task(instruction) if editor is None else task_for(instruction, editor.task_names).task


class PredictedTask(str):
    """A task's name that was read from words, not picked: an editor without it may do without."""


class PickTask:
    """Names the task; Edit by Instruction picks one by itself when this node is not used."""

    ID = "EmuEditTask"
    DISPLAY_NAME = "Task"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Tells the editor what kind of edit is meant: one of the sixteen tasks of Emu Edit, the one that the "
        "instruction's words suggest (auto), none at all, or a task learnt from examples (a file in "
        "models/emu_edit_tasks)."
    )
    SEARCH_ALIASES = ["emu edit task", "task embedding", "task vector", "task inversion", "predict task"]
    FUNCTION = "pick"
    RETURN_TYPES = ("EMU_TASK", "STRING")
    RETURN_NAMES = ("task", "name")
    OUTPUT_TOOLTIPS = (
        "The task, for Edit by Instruction.",
        "The task's name, to show or to save with the picture.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        meanings = " ".join(f"{info.id}: {info.description}" for info in TASKS.values())
        return {
            "required": {
                "task": choice(
                    task_choices(),
                    AUTO,
                    "auto reads the instruction; none gives the editor no task. " + meanings,
                ),
            },
            "optional": {
                "instruction": socket(
                    "STRING",
                    "The instruction that auto reads; wire the same text into Edit by Instruction. The other "
                    "choices ignore it.",
                    forceInput=True,
                ),
                "editor": socket(
                    "EMU_BACKBONE",
                    "Optional: with the editor wired, auto picks only tasks that it knows, and a task file "
                    "made for another editor is told at once.",
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, task: str) -> bool | str:
        if task in task_choices():
            return True
        return (
            f"{task!r} is no task and no file in models/emu_edit_tasks; press R and pick one from the menu."
        )

    @classmethod
    def IS_CHANGED(cls, task: str, instruction: str | None = None, editor: Any = None) -> str:
        path = host.files_of(host.TASK_FOLDER).get(task.removeprefix(FILE_PREFIX))
        if not task.startswith(FILE_PREFIX) or path is None:
            return task
        return f"{task} {path.stat().st_size} {path.stat().st_mtime_ns}"

    def pick(self, task: str, instruction: str | None = None, editor: Any = None) -> tuple[Any, str]:
        if task == AUTO:
            with host.slips_of(self, "instruction"):
                if not (instruction or "").strip():
                    raise EmuEditError(
                        "auto reads the instruction, but none came in; wire the text, or pick a task."
                    )
                name = predicted(str(instruction), editor)
            return PredictedTask(name), name
        if not task.startswith(FILE_PREFIX):
            return task, task
        with host.slips_of(self, "task"):
            from ..core.checkpoints import load_task

            path = host.files_of(host.TASK_FOLDER).get(task.removeprefix(FILE_PREFIX))
            if path is None:
                raise EmuEditError(f"{task!r} is not in models/emu_edit_tasks; put it there and press R.")
            vector = load_task(path, editor)
        return vector, vector.name
