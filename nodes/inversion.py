"""Task Examples and Task Inversion: pictures before and after an edit in, a learnt task out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import EmuEditError
from ..core.images import resize_images
from ..core.task_examples import TaskExample, read_examples
from ..core.task_files import load_task, save_task
from ..core.task_inversion import AUTO, MEAN, InversionSettings, InversionStep, invert_task
from ..core.tasks import NO_TASK, TASK_IDS, TaskVector
from . import host
from .edit import LOOK_AREA
from .inputs import opaque
from .widgets import choice, number, socket, text, whole

EXAMPLES = host.PICTURES / "examples"  # folders that come with the pack
INPUT_FOLDER = "emu_edit_examples"  # a folder in ComfyUI's input folder, with one folder for each task


def example_folders() -> dict[str, Path]:
    """Folders of examples: name -> path. The pack's own stand first."""
    roots = [EXAMPLES]
    if host.folder_paths is not None and hasattr(host.folder_paths, "get_input_directory"):
        roots.append(Path(host.folder_paths.get_input_directory()) / INPUT_FOLDER)
    found: dict[str, Path] = {}
    for root in roots:
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            if folder.is_dir():
                found.setdefault(folder.name, folder)
    return found


class TaskExamples:
    """A folder of examples as batches."""

    ID = "EmuEditTaskExamples"
    DISPLAY_NAME = "Task Examples"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Pictures before and after an edit, and the words for it, from a folder: what Task Inversion learns "
        "a new task from. Your own go into a folder in input/emu_edit_examples, named NAME.source.png, "
        "NAME.target.png and NAME.txt."
    )
    SEARCH_ALIASES = ["task inversion examples", "training pairs", "load image pairs", "before and after"]
    FUNCTION = "give"
    RETURN_TYPES = ("IMAGE", "IMAGE", "STRING")
    RETURN_NAMES = ("source", "target", "instructions")
    OUTPUT_TOOLTIPS = (
        "The pictures before the edit, as one batch.",
        "The same pictures after it, in the same order and size.",
        "The instruction of each, one a line.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = list(example_folders())
        return {
            "required": {
                "folder": choice(
                    names,
                    names[0] if names else "",
                    "A folder that comes with the pack, or one in input/emu_edit_examples.",
                ),
                "most": whole(0, 0, 1000, "Take only the first so many examples. 0: all of them."),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, folder: str) -> bool | str:
        if folder in example_folders():
            return True
        return f"{folder!r} is no folder in input/emu_edit_examples; press R and pick one from the menu."

    @classmethod
    def IS_CHANGED(cls, folder: str, most: int) -> str:
        place = example_folders().get(folder)
        files = sorted(place.iterdir()) if place else []
        return repr([(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files])

    def give(self, folder: str, most: int) -> tuple[Tensor, Tensor, str]:
        with host.slips_of(self, "folder"):
            place = example_folders().get(folder)
            if place is None:
                raise EmuEditError(f"{folder!r} is no folder of examples; pick one from the menu.")
            examples = read_examples(place)[: most or None]
            height, width = examples[0].source.shape[1:3]
            for example in examples:
                h, w = example.source.shape[1:3]
                if abs(h * width - w * height) > max(h, w, height, width):
                    raise EmuEditError(
                        f"{example.name}: it is {w}x{h} pixels but {examples[0].name} is {width}x{height}; "
                        "a batch has one shape, so crop them to the same proportions, or use emu-edit invert."
                    )
            sides = [
                torch.cat([resize_images(picture, height, width) for picture in pictures])
                for pictures in ([e.source for e in examples], [e.target for e in examples])
            ]
        return sides[0], sides[1], "\n".join(" ".join(e.instruction.split()) for e in examples)


class TaskInversion:
    """core.task_inversion with ComfyUI's progress bar, preview and Cancel button."""

    ID = "EmuEditTaskInversion"
    DISPLAY_NAME = "Task Inversion"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Learns a new task from a few pictures before and after an edit: the editor stays as it is and only "
        "a task vector is trained. The task can be used at once, and is saved as a file of a few KB that the "
        "Task node offers."
    )
    SEARCH_ALIASES = ["task inversion", "learn task", "train task embedding", "few-shot", "textual inversion"]
    FUNCTION = "learn"
    RETURN_TYPES = ("EMU_TASK", "STRING", "IMAGE")
    RETURN_NAMES = ("task", "report", "preview")
    OUTPUT_TOOLTIPS = (
        "The learnt task, for Edit by Instruction.",
        "What it was learnt from, how far the loss fell, and where the file is.",
        "One of the examples, held out if there are five or more: input, wanted, and what was learnt.",
    )
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        usual = InversionSettings()
        return {
            "required": {
                "editor": socket("EMU_BACKBONE", "The editor to learn for; the task fits no other."),
                "source": socket("IMAGE", "The pictures before the edit, as one batch."),
                "target": socket("IMAGE", "The same pictures after the edit, in the same order."),
                "instructions": text(
                    "",
                    "What each edit is called, one a line, or one line for all. Use the same words later.",
                ),
                "name": (
                    "STRING",
                    {
                        "default": "my task",
                        "tooltip": "What the task is called: the file's name in models/emu_edit_tasks. A "
                        "file that is there already is kept, and the new one gets a number. Empty: "
                        "nothing is saved.",
                    },
                ),
                "steps": whole(
                    usual.steps,
                    1,
                    100_000,
                    "Learning steps at most; it ends earlier when held-out examples stop getting better.",
                ),
                "rate": number(
                    usual.rate,
                    0.0001,
                    10.0,
                    0.01,
                    "Learning rate, as a share of the known tasks' size. Lower it if the loss jumps.",
                ),
                "seed": whole(
                    0,
                    0,
                    2**63 - 1,
                    "The same seed and examples give the same task.",
                    control_after_generate=True,
                ),
            },
            "optional": {
                "batch": whole(
                    usual.batch,
                    1,
                    1024,
                    "Examples in each step; each once, for an editor that reads no noise.",
                ),
                "start": choice(
                    (AUTO, NO_TASK, MEAN, *TASK_IDS),
                    AUTO,
                    "Where the vector starts. auto tries them all on the examples and takes the best: no "
                    "task, the mean of the known tasks, or one of them.",
                ),
                "held_out": number(
                    usual.held_out,
                    0.0,
                    0.5,
                    0.05,
                    "This share of five or more examples is not learnt from, only measured by.",
                ),
                "size": whole(
                    0, 0, 4096, "The longest side in pixels to work at. 0: the editor's own.", step=8
                ),
                "save_memory": (
                    "BOOLEAN",
                    {"default": False, "tooltip": "For large editors: half the memory, a third slower."},
                ),
            },
        }

    def learn(
        self,
        editor: Any,
        source: Tensor,
        target: Tensor,
        instructions: str,
        name: str,
        steps: int,
        rate: float,
        seed: int,
        batch: int = 8,
        start: str = AUTO,
        held_out: float = 0.2,
        size: int = 0,
        save_memory: bool = False,
    ) -> tuple[TaskVector, str, Tensor]:
        with host.slips_of(self, "name"):
            file = task_file(name)
        with host.slips_of(self):
            examples = paired(opaque(source), opaque(target), instructions)
            settings = InversionSettings(
                steps=steps,
                rate=rate,
                batch=batch,
                seed=seed,
                start=start,
                held_out=held_out,
                size=size or None,
                checkpointing=save_memory,
            )
            bar = host.Progress(100)
            side = (size or int(editor.defaults.get("size", 512))) // editor.downscale

            def on_step(step: InversionStep) -> None:
                host.stop_if_interrupted()
                looks = step.check and side * side <= LOOK_AREA
                bar.show(percent(step), 100, picture_of(step) if looks else None)

            host.make_resident(editor)
            result = invert_task(editor, examples, name.strip() or "learnt", settings, on_step)
            report = f"{result.report()}\n{keep(result.task, file)}"
        return result.task, report, result.preview.float().cpu()


def paired(source: Tensor, target: Tensor, instructions: str) -> list[TaskExample]:
    """The batches as examples; EmuEditError when their numbers do not agree."""
    lines = [line.strip() for line in (instructions or "").splitlines() if line.strip()]
    if len(source) != len(target):
        raise EmuEditError(
            f"there are {len(source)} pictures before the edit but {len(target)} after it; "
            "wire batches of the same length."
        )
    if not lines:
        raise EmuEditError("the instructions are empty; write what the edit is called, one a line.")
    if len(lines) not in (1, len(source)):
        raise EmuEditError(
            f"there are {len(lines)} instructions for {len(source)} pictures; write one, or one for each."
        )
    words = lines * len(source) if len(lines) == 1 else lines
    return [
        TaskExample(source[i : i + 1], target[i : i + 1], words[i], f"picture {i + 1}")
        for i in range(len(source))
    ]


def percent(step: InversionStep) -> int:
    """How far the whole work is: reading the examples to 5, looking for a start to 15, learning to 100."""
    low, high = {"encode": (0, 5), "start": (5, 15), "learn": (15, 100)}[step.phase]
    return low + (high - low) * (step.index + 1) // step.total


def picture_of(step: InversionStep) -> Any:
    from ..core.picture_files import to_pil

    return to_pil(step.preview()[0].cpu())


def task_file(name: str) -> Path | None:
    """Where a task of this name is to be saved; None when it is empty or there is no such folder."""
    name = name.strip()
    roots = host.model_roots(host.TASK_FOLDER)
    if not name or not roots:
        return None
    if not re.fullmatch(r"[\w][\w .()+-]{0,99}", name) or name.endswith("."):
        raise EmuEditError(
            f"{name!r} cannot be a file's name everywhere; use letters, digits, spaces, - and _."
        )
    return roots[0] / f"{name}.safetensors"


def keep(task: TaskVector, file: Path | None) -> str:
    """Save the task, over nothing but its own equal, and say where it is."""
    if file is None:
        return "not saved: no name, or no models folder"
    number, path = 1, file
    while path.exists():
        if _same(path, task):
            return f"saved before as {path.name} in models/{host.TASK_FOLDER}"
        number += 1
        path = file.with_name(f"{file.stem} {number}.safetensors")
    save_task(path, task)
    return f"saved as {path.name} in models/{host.TASK_FOLDER}; press R to see it in Task's menu"


def _same(path: Path, task: TaskVector) -> bool:
    try:
        there = load_task(path)
    except EmuEditError:
        return False
    return there.base == task.base and torch.equal(there.vector, task.vector)
