"""An instruction worded as a family of editors wants it, with a threshold and a mask policy for its task.

The facts are data: see family_files.py and editor_families.json.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import EmuEditError
from .family_files import Families, shipped
from .predictor import guess_task
from .tasks import TASK_IDS

AUTO = "auto"


@dataclass(frozen=True)
class Asking:
    """An instruction as a family wants it, with the advice that belongs to its task."""

    prompt: str
    task: str
    reason: str
    alpha: float
    mask: str
    multiple: int
    side: str
    pixels: int
    note: str


def ask(found: Families, name: str, instruction: str, task: str = AUTO, target_caption: str = "") -> Asking:
    """Word an instruction for the family `name`; EmuEditError if instruction, family or task is missing.

    task: one of the sixteen ids, or "auto" to read it from the words.
    """
    family = found.families.get(name)
    if family is None:
        why = next((p for p in found.problems if repr(name) in p), f"known are {', '.join(found.families)}.")
        raise EmuEditError(f"there is no editor family {name!r}; {why}")
    if not instruction.strip():
        raise EmuEditError("instruction: it is empty; say what to change, such as 'make the ball blue'.")
    reason = "picked by hand"
    if task == AUTO:
        task, reason = (guess := guess_task(instruction)).task, guess.reason
    elif task not in TASK_IDS:
        raise EmuEditError(f"there is no task {task!r}; use auto or one of {', '.join(TASK_IDS)}.")
    general = shipped()[0][task]
    special = family.tasks.get(task, {})
    alpha = general.alpha
    if alpha > 0 and family.alpha is not None:
        alpha = family.alpha
    template = family.prompts.get(task, family.prompt)
    note = family.note
    if "{target_caption}" in template and not target_caption.strip():
        template = family.without_caption or "{instruction}"
        note = f"{note} Without target_caption its prompt is not complete.".strip()
    return Asking(
        prompt=fill(template, instruction, target_caption),
        task=task,
        reason=reason,
        alpha=float(special.get("alpha", alpha)),
        mask=str(special.get("mask", general.mask)),
        multiple=family.multiple,
        side=family.side,
        pixels=family.pixels,
        note=note,
    )


def fill(template: str, instruction: str, target_caption: str = "") -> str:
    """The template with its places filled; braces in the user's words stay as they are.

    Where the template goes on around it, the instruction is put on one line and loses its full stop; alone it
    stays as written.
    """
    if template == "{instruction}":
        return instruction.strip()
    words = {
        "instruction": " ".join(instruction.split()).rstrip(" .;,"),
        "target_caption": " ".join(target_caption.split()),
    }
    return re.sub(r"\{(instruction|target_caption)\}", lambda place: words[place.group(1)], template)
