"""Task for Editor: an instruction as any editor wants it, with the threshold and mask that suit its task."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ..core.family_files import Families, mask_policies, read_families
from ..core.tasks import TASK_IDS
from . import host
from .host_files import FAMILY_FOLDER
from .widgets import choice, socket, text

ANY = "any editor"
_told: set[str] = set()


def folders() -> list[Path]:
    """models/emu_edit_families, and what extra_model_paths.yaml adds to it."""
    return host.model_roots(FAMILY_FOLDER)


def families() -> Families:
    """All families; what is wrong with a user's file goes to the log, once for each sentence."""
    found = read_families(folders())
    for problem in found.problems:
        if problem not in _told:
            _told.add(problem)
            logging.getLogger("emu_edit").warning("Emu Edit, editor families: %s", problem)
    return found


class TaskForEditor:
    """Stands before any editor's prompt box."""

    ID = "EmuEditTaskForEditor"
    DISPLAY_NAME = "Task for Editor"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Words an instruction as a family of editors wants it (FLUX.1 Kontext, Qwen-Image-Edit, ICEdit and "
        "others), names the task, and suggests the threshold, the kind of mask and the size multiple that go "
        "with it. Works before any editor; needs no model."
    )
    SEARCH_ALIASES = ["prompt template", "kontext prompt", "qwen image edit prompt", "icedit", "hidream e1"]
    FUNCTION = "word"
    RETURN_TYPES = ("STRING", "STRING", "FLOAT", "STRING", "INT", "INT", "STRING")
    RETURN_NAMES = ("prompt", "task", "alpha", "mask_policy", "multiple", "size", "note")
    OUTPUT_TOOLTIPS = (
        "The instruction in the editor's own form, for its prompt box.",
        "The task: picked, or read from the words.",
        "A threshold for Sequential Edit Threshold; 0 where the whole picture is meant to change.",
        "The kind of mask that suits the task: precise, soft, soft after (found in the edited "
        "picture), box, background, change (where the pictures differ) or whole (none).",
        "Both sides of the picture must divide by this many pixels.",
        "The size the editor works at, in pixels: the side of a square of that area, the longest side, or "
        "the width. The note says which.",
        "Why this task, how the size is meant, and what to know about the editor.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        from ..core.editor_families import AUTO

        return {
            "required": {
                "instruction": text(
                    "make the ball blue",
                    "What to change, in plain words, as you would tell a person. The form that the editor "
                    "wants is added here.",
                ),
                "task": choice(
                    (AUTO, *TASK_IDS),
                    AUTO,
                    "auto reads the task from the words; pick it by hand where it guesses wrong.",
                ),
                "family": choice(
                    list(families().families),
                    ANY,
                    "The editor that the prompt is for. Add your own as a JSON file in "
                    "models/emu_edit_families; the help page shows one.",
                ),
            },
            "optional": {
                "target_caption": socket(
                    "STRING",
                    "A description of the picture after the edit, for editors that want one "
                    "(HiDream-E1-Full, OmniGen2). Others ignore it.",
                    forceInput=True,
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, family: str, instruction: str | None = None) -> bool | str:
        found = families()
        if family not in found.families:
            why = " ".join(found.problems) or "press R and pick one from the menu."
            return f"there is no editor family {family!r}; {why}"
        if instruction is not None and not instruction.strip():
            return 'the instruction is empty; say what to change, for example "make the ball blue"'
        return True

    @classmethod
    def IS_CHANGED(cls, **inputs: Any) -> str:
        from ..core.family_files import BESIDE, SHIPPED

        files = sorted(SHIPPED.parent.glob(BESIDE))
        files += [file for folder in folders() for file in sorted(folder.glob("*.json"))]
        return repr([(file.name, file.stat().st_mtime_ns) for file in files])

    def word(
        self, instruction: str, task: str, family: str, target_caption: str | None = None
    ) -> tuple[str, str, float, str, int, int, str]:
        from ..core.editor_families import ask

        with host.slips_of(self):
            asked = ask(families(), family, instruction, task, target_caption or "")
        ways = {
            "area": f"about {asked.pixels} x {asked.pixels} pixels in all",
            "longest": f"{asked.pixels} pixels on the longest side",
            "width": f"{asked.pixels} pixels wide",
        }
        lines = [
            f"task {asked.task}: {asked.reason}",
            f"mask {asked.mask}: {mask_policies()[asked.mask]}",
            f"size: {ways[asked.side]}, in multiples of {asked.multiple}",
            asked.note,
        ]
        note = "\n".join(line for line in lines if line)
        return asked.prompt, asked.task, asked.alpha, asked.mask, asked.multiple, asked.pixels, note
