"""Task files: one task vector as a few kilobytes of safetensors, to be shared like a textual inversion.

Tensor "task" [D]; metadata: format, name, base (fingerprint of the editor), width, examples, and free text.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open

from .errors import EmuEditError
from .tasks import TaskVector
from .weights import check_safetensors, write_tensors

TASK_FORMAT = "emu-edit-task 1"
_RESERVED = ("format", "task_format", "name", "base", "width", "examples")


class HasTasks(Protocol):
    """What a backbone says of itself for a task to be checked against it (see backbone.Backbone)."""

    @property
    def name(self) -> str: ...

    @property
    def task_width(self) -> int | None: ...

    @property
    def task_base(self) -> str: ...


def save_task(path: str | os.PathLike[str], task: TaskVector) -> Path:
    """Write a task file, whole or not at all; `path` must end in .safetensors. Returns the path."""
    file = Path(path)
    if file.suffix != ".safetensors":
        raise EmuEditError(f"{file}: a task file must end in .safetensors; choose such a name.")
    metadata = {key: str(value) for key, value in task.metadata.items() if key not in _RESERVED}
    metadata |= {
        "task_format": TASK_FORMAT,
        "name": task.name,
        "base": task.base,
        "width": str(task.width),
        "examples": str(task.examples),
    }
    write_tensors(file, {"task": task.vector}, metadata)
    return file


def load_task(path: str | os.PathLike[str], backbone: HasTasks | None = None) -> TaskVector:
    """Read a task file; with a backbone, check that the task is one for it.

    Raises EmuEditError for a missing, pickled or damaged file, a file that is no task file, one whose width
    or base is not the backbone's, and a backbone without task embeddings.
    """
    file = Path(path)
    check_safetensors(file)
    try:
        with safe_open(str(file), framework="pt") as reader:
            metadata = dict(reader.metadata() or {})
            names = list(reader.keys())
            if metadata.get("task_format") != TASK_FORMAT or names != ["task"]:
                raise EmuEditError(
                    f"{file} is not a task file (it holds {_listed(names)}); pick one saved by Emu Edit."
                )
            vector = reader.get_tensor("task")
    except SafetensorError as problem:
        raise EmuEditError(f"{file} is damaged ({problem}); download it again.") from problem
    if vector.ndim != 1 or not vector.is_floating_point() or metadata.get("width") != str(vector.shape[0]):
        raise EmuEditError(
            f"{file}: its vector has shape {list(vector.shape)} but its label says width "
            f"{metadata.get('width')}; save the task again."
        )
    examples = metadata.get("examples", "0")
    if not (examples.isascii() and examples.isdigit()):
        raise EmuEditError(
            f"{file}: its label says {examples!r} examples, which is no number; save the task again."
        )
    if not bool(torch.isfinite(vector).all()):
        raise EmuEditError(f"{file}: its vector holds NaN or infinities; learn the task again.")
    task = TaskVector(
        name=metadata.get("name", file.stem),
        vector=vector,
        base=metadata.get("base", ""),
        examples=int(examples),
        metadata={k: v for k, v in metadata.items() if k not in _RESERVED},
    )
    if backbone is not None:
        check_task(task, backbone, str(file))
    return task


def check_task(task: TaskVector, backbone: HasTasks, where: str) -> None:
    """Raise EmuEditError, naming `where` the task came from, unless `task` is one for `backbone`."""
    if backbone.task_width is None:
        raise EmuEditError(
            f"{where}: the editor {backbone.name!r} has no task embeddings; use no task, or upgrade it."
        )
    if task.width != backbone.task_width:
        raise EmuEditError(
            f"{where}: this task has width {task.width} but the editor {backbone.name!r} takes "
            f"{backbone.task_width}; use a task made for it."
        )
    if task.base and task.base != backbone.task_base:
        raise EmuEditError(
            f"{where}: this task was made for the editor {task.base} but {backbone.name!r} is "
            f"{backbone.task_base}; load that editor, or learn the task again for this one."
        )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more tensors" if len(names) > 3 else shown or "nothing"
