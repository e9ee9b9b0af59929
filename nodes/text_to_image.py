"""Load Text to Image: the bundled base of the drawn world, or the user's own Stable Diffusion 1.5."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from ..core.errors import EmuEditError
from . import host
from .loaders import BUNDLED as BUNDLED_EDITOR
from .loaders import editor_path, editors, signature
from .widgets import choice

BUNDLED = "bundled base of the drawn world"

_loaded: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()


def bases() -> dict[str, Path]:
    """Every model the menu offers: name -> file or folder. Which are editors, only loading can tell."""
    from ..core.checkpoints import bundled_editor_path

    others = {name: path for name, path in editors().items() if name != BUNDLED_EDITOR}
    return {BUNDLED: bundled_editor_path().with_name("small_base"), **others}


def base_path(name: str) -> Path:
    """The path of a menu entry; EmuEditError for what is not in the menu or not on the disk."""
    if name != BUNDLED:
        if name == BUNDLED_EDITOR:
            raise EmuEditError(f"{name!r} is an editor; pick a text-to-image model from the menu.")
        return editor_path(name)
    path = bases()[BUNDLED]
    if not path.exists():
        raise EmuEditError(f"{name!r} should be at {path} but is not there; install the node pack again.")
    return path


class LoadTextToImage:
    """Loads what pairs are made with, once for every node that asks."""

    ID = "EmuEditLoadTextToImage"
    DISPLAY_NAME = "Load Text to Image"
    CATEGORY = "Emu Edit/Pairs"
    DESCRIPTION = (
        "Loads the text-to-image model that Make Pair generates with. The bundled base needs no download and "
        "draws the small world, so far its backgrounds and hardly its things; for photographs put a Stable "
        "Diffusion 1.5 into models/checkpoints (.safetensors) or models/diffusers (a folder)."
    )
    SEARCH_ALIASES = ["stable diffusion", "sd15", "base model", "load checkpoint", "text to image", "pairs"]
    FUNCTION = "load"
    RETURN_TYPES = ("EMU_TEXT_TO_IMAGE",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The text-to-image model, for Make Pair.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": choice(
                    list(bases()),
                    BUNDLED,
                    "The bundled base, a folder under models/diffusers, or a .safetensors file under "
                    "models/checkpoints. It must be a text-to-image model, not an editor.",
                ),
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
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model: str) -> bool | str:
        try:
            base_path(model)
        except EmuEditError as slip:
            return str(slip)
        return True

    @classmethod
    def IS_CHANGED(cls, model: str, device: str, precision: str) -> str:
        return repr(signature(base_path(model)))

    def load(self, model: str, device: str, precision: str) -> tuple[Any]:
        from ..core.checkpoints import load_editor
        from ..core.packages import need

        with host.slips_of(self, "model"):
            for package in ("transformers", "diffusers"):
                need(package, "to load a text-to-image model")
            path = base_path(model)
            where = host.run_device(device)
            dtype = host.run_dtype(precision, where)
            key = (str(path), signature(path), str(where), dtype)
            backbone = _loaded.get(key)
            if backbone is None:
                folders = host.tokenizer_folders()
                backbone = load_editor(path, "cpu", dtype, tokenizer_folders=folders, kind="text-to-image")
                host.manage(backbone, where)
                _loaded[key] = backbone
        return (backbone,)
