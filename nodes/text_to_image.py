"""Load Text to Image: the bundled base of the drawn world, or the user's own Stable Diffusion 1.5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import EmuEditError
from . import host
from .loaders import BUNDLED as BUNDLED_EDITOR
from .loaders import device_and_precision, editor_path, editors, lend, signature
from .widgets import choice

BUNDLED = "bundled base of the drawn world"


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
                **device_and_precision(),
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
        purpose = "to load a text-to-image model"
        with host.slips_of(self, "model"):
            return (lend(lambda: base_path(model), device, precision, "text-to-image", purpose),)
