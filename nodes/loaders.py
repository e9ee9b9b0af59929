"""Load Editor: the bundled small editor, or one of the user's own from ComfyUI's model folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from ..core.errors import EmuEditError
from . import host
from .widgets import choice

BUNDLED = "bundled small editor"
MODEL_FILES = (".safetensors", ".json", ".txt")
FOLDER_DEPTH = 3

# One copy of a model however many nodes and prompts name it; gone when nothing holds it any more.
_loaded: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()


def _is_editor_folder(folder: Path) -> bool:
    """Whether it is laid out as diffusers saves a model."""
    return (folder / "model_index.json").is_file() or (folder / "unet" / "config.json").is_file()


def editors() -> dict[str, Path]:
    """Every editor the menu offers: name -> file or folder."""
    from ..core.checkpoints import bundled_editor_path

    found = {BUNDLED: Path(bundled_editor_path())}
    for root in host.model_roots("diffusers"):
        for place, folders, _ in os.walk(root, followlinks=True):
            folder = Path(place)
            depth = len(folder.relative_to(root).parts)
            if depth and _is_editor_folder(folder):
                found.setdefault(f"diffusers/{folder.relative_to(root).as_posix()}", folder)
                folders.clear()
            elif depth >= FOLDER_DEPTH:
                folders.clear()
            folders.sort()
    for name, path in sorted(host.files_of("checkpoints").items()):
        found[f"checkpoints/{name}"] = path
    return found


def editor_path(name: str) -> Path:
    """The path of a menu entry. No other path can be named: EmuEditError for what is not in the menu."""
    path = editors().get(name)
    if path is None:
        raise EmuEditError(
            f"{name!r} is not among the editors found; put a diffusers folder under models/diffusers or a "
            ".safetensors file under models/checkpoints, press R, and pick it from the menu."
        )
    if not path.exists():
        raise EmuEditError(f"{name!r} should be at {path} but is not there; install the node pack again.")
    return path


def signature(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of every file that a model is read from: changes when the model does.

    What cannot be looked at, such as a link to a file that is gone, counts as -1 bytes: whether it matters
    only loading can tell.
    """
    files = sorted(p for p in path.rglob("*") if p.suffix in MODEL_FILES) if path.is_dir() else [path]
    entries = []
    for file in files:
        try:
            facts = file.stat()
            size, time = facts.st_size, facts.st_mtime_ns
        except OSError:
            size, time = -1, -1
        entries.append((str(file.relative_to(path)), size, time))
    return tuple(entries)


def device_and_precision() -> dict[str, Any]:
    """The two inputs that say where and in which numbers a model runs."""
    return {
        "device": choice(
            ("auto", "cpu"),
            "auto",
            "auto is ComfyUI's own device, and lets ComfyUI move the model out when memory is short. "
            "cpu keeps it off the graphics card.",
        ),
        "precision": choice(
            ("auto", "float32", "bfloat16", "float16"),
            "auto",
            "The number format of the weights. auto is float16 on a graphics card that gains by it "
            "and float32 elsewhere; choose float32 if pictures come out black.",
        ),
    }


def lend(find: Callable[[], Path], device: str, precision: str, kind: str, purpose: str) -> Any:
    """The model of a menu entry, loaded if nobody holds it yet.

    find: gives its path, or raises EmuEditError. kind: as core.checkpoints.load_editor has it. purpose: what
    the packages are needed for, told when one is missing.
    """
    from ..core.checkpoints import load_editor
    from ..core.packages import need

    for package in ("transformers", "diffusers"):
        need(package, purpose)
    path = find()
    where = host.run_device(device)
    dtype = host.run_dtype(precision, where)
    key = (str(path), signature(path), str(where), dtype, kind)
    backbone = _loaded.get(key)
    if backbone is None:
        folders = host.tokenizer_folders()
        backbone = load_editor(path, "cpu", dtype, tokenizer_folders=folders, kind=kind)
        host.manage(backbone, where)
        _loaded[key] = backbone
    return backbone


class LoadEditor:
    """Loads an instruction editor once and lends it to every node that asks."""

    ID = "EmuEditLoadEditor"
    DISPLAY_NAME = "Load Editor"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Loads a model that edits pictures by instruction. The bundled small editor needs no download and "
        "edits simple drawn scenes; for photographs put an InstructPix2Pix model into models/checkpoints "
        "(.safetensors) or models/diffusers (a folder)."
    )
    SEARCH_ALIASES = ["emu edit", "instructpix2pix", "ip2p", "load editor model", "instruction editor"]
    FUNCTION = "load"
    RETURN_TYPES = ("EMU_BACKBONE",)
    RETURN_NAMES = ("editor",)
    OUTPUT_TOOLTIPS = ("The editor, for Edit by Instruction and for Task.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "editor": choice(
                    list(editors()),
                    BUNDLED,
                    "The bundled editor, a folder under models/diffusers, or a .safetensors file under "
                    "models/checkpoints. Files changed on disk are loaded again.",
                ),
                **device_and_precision(),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, editor: str) -> bool | str:
        try:
            editor_path(editor)
        except EmuEditError as slip:
            return str(slip)
        return True

    @classmethod
    def IS_CHANGED(cls, editor: str, device: str, precision: str) -> str:
        return repr(signature(editor_path(editor)))

    def load(self, editor: str, device: str, precision: str) -> tuple[Any]:
        with host.slips_of(self, "editor"):
            return (lend(lambda: editor_path(editor), device, precision, "editor", "to load an editor"),)
