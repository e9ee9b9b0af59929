"""The state of a run on disk: whole or not there at all, whenever the process dies.

checkpoints/step-00000120/  trainee, ema, optimiser (.safetensors), state.json

A checkpoint is written into a folder of another name, every file of it flushed to the disk, and the folder
renamed; one that is to go is renamed away before it is deleted. A folder called step-N is therefore whole.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...core.errors import EmuEditError

STATE = "state.json"
_PART, _OLD = ".part", ".old"

#: Called with a word before every step that touches the disk; tests put a fault here.
at_step: Callable[[str], None] = lambda step: None  # noqa: E731


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk; `state` is what state.json holds."""

    folder: Path
    state: Mapping[str, Any]

    @property
    def step(self) -> int:
        return int(self.state["step"])

    def has(self, part: str) -> bool:
        return (self.folder / f"{part}.safetensors").is_file()

    def tensors(self, part: str) -> Any:
        """An open safetensors file: `with checkpoint.tensors("ema") as file: file.get_tensor(name)`."""
        return safe_open(str(self.folder / f"{part}.safetensors"), framework="pt")


def save_checkpoint(
    folder: Path, step: int, parts: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], keep: int
) -> Path:
    """Write the checkpoint of `step` and delete all but the newest `keep`; returns its folder.

    `parts` are contiguous tensors by file and name. Raises EmuEditError when the disk is full or refuses; the
    checkpoints that were there then still are.
    """
    whole = folder / f"step-{step:08d}"
    part = folder / f".{whole.name}{_PART}"
    try:
        if not whole.is_dir():
            _check_room(folder, sum(t.numel() * t.element_size() for p in parts.values() for t in p.values()))
            at_step("make the folder")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            sizes = {}
            for name, tensors in parts.items():
                file = part / f"{name}.safetensors"
                at_step(f"write {name}")
                save_file(dict(tensors), str(file))
                at_step(f"flush {name}")
                _flush(file)
                sizes[file.name] = file.stat().st_size
            at_step("write the state")
            text = json.dumps({**state, "step": step, "files": sizes}, indent=1)
            (part / STATE).write_text(text + "\n", encoding="utf-8")
            at_step("flush the state")
            _flush(part / STATE)
            _flush(part)
            at_step("rename")
            os.replace(part, whole)
            at_step("flush the rename")
            _flush(folder)
        _prune(folder, keep)
    except (OSError, SafetensorError) as problem:
        shutil.rmtree(part, ignore_errors=True)
        raise EmuEditError(_sentence(folder, step, problem)) from problem
    return whole


def newest_checkpoint(folder: Path, clear: bool = False) -> Checkpoint | None:
    """The newest whole checkpoint, None if there is none.

    `clear`: take away what a killed process left, for the one process that writes here; beside a running
    training it would take away the checkpoint that is being written.
    Raises EmuEditError when a checkpoint's files are not those it was saved with.
    """
    if not folder.is_dir():
        return None
    for entry in folder.iterdir() if clear else ():
        if entry.name.startswith(".step-") and entry.name.endswith((_PART, _OLD)):
            shutil.rmtree(entry, ignore_errors=True)
    found = _whole(folder)
    if not found:
        return None
    newest = found[-1]
    try:
        state = json.loads((newest / STATE).read_text(encoding="utf-8"))
        fits = all((newest / name).stat().st_size == size for name, size in state["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        fits, state = False, {"why": str(problem)}
    if not fits:
        raise EmuEditError(
            f"{newest} was damaged after it was saved; delete it, and the run goes on from "
            f"{found[-2].name if len(found) > 1 else 'its beginning'}."
        )
    return Checkpoint(newest, state)


def _whole(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.glob("step-*") if entry.is_dir())


def _prune(folder: Path, keep: int) -> None:
    for old in _whole(folder)[:-keep]:
        away = folder / f".{old.name}{_OLD}"
        at_step("take away")
        os.replace(old, away)
        at_step("delete")
        shutil.rmtree(away, ignore_errors=True)


def _check_room(folder: Path, needed: int) -> None:
    place = folder
    while not place.exists():
        place = place.parent
    if shutil.disk_usage(place).free < needed:
        raise OSError(errno.ENOSPC, f"{needed / 1e9:.1f} GB are needed")


def _flush(path: Path) -> None:
    """Make a file or folder last. Systems that do not let a folder be opened need no flush."""
    try:
        # Windows flushes only what may be written to, and Unix opens folders only to read.
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sentence(folder: Path, step: int, problem: Exception) -> str:
    found = _whole(folder) if folder.is_dir() else []
    kept = f"{found[-1].name} is kept" if found else "there is no earlier one"
    full = getattr(problem, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(problem)
    mend = "free some space" if full else "see to the folder"
    return (
        f"the checkpoint of step {step} could not be written to {folder} "
        f"({'the disk is full: ' if full else ''}{problem}); {kept}, so {mend} and give the same command "
        "again."
    )
