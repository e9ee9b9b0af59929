"""Example Picture: a picture that the bundled editor knows how to edit, with an instruction that fits it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.errors import EmuEditError
from ..core.picture_files import load_picture
from . import host
from .widgets import choice


def pictures() -> dict[str, Path]:
    """The pictures that come with the pack: file name -> path."""
    return {path.name: path for path in sorted(host.PICTURES.glob("*.png"))}


def suggestion(name: str) -> str:
    """The first instruction that pictures/demo.json lists for this picture, "" if there is none."""
    listing = host.PICTURES / "demo.json"
    if not listing.is_file():
        return ""
    entries = json.loads(listing.read_text(encoding="utf-8"))["edits"]
    return next((entry["instruction"] for entry in entries if Path(entry["picture"]).name == name), "")


class ExamplePicture:
    """Something to edit before the user has found a picture of their own."""

    ID = "EmuEditExamplePicture"
    DISPLAY_NAME = "Example Picture"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "A small drawn scene for the bundled editor, with an instruction that fits it. For your own picture "
        "use Load Image instead."
    )
    SEARCH_ALIASES = ["emu edit example", "sample picture", "demo picture"]
    FUNCTION = "give"
    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("image", "instruction")
    OUTPUT_TOOLTIPS = (
        "The picture.",
        "An instruction that fits it; wire it into Edit by Instruction, or write your own.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = list(pictures())
        first = names[0] if names else ""
        return {
            "required": {"picture": choice(names, first, "One of the pictures that come with this pack.")},
        }

    @classmethod
    def IS_CHANGED(cls, picture: str) -> float:
        path = pictures().get(picture)
        return path.stat().st_mtime if path else 0.0

    def give(self, picture: str) -> tuple[Tensor, str]:
        with host.slips_of(self, "picture"):
            path = pictures().get(picture)
            if path is None:
                raise EmuEditError(f"{picture!r} is not one of the pack's pictures; pick one from the menu.")
            return load_picture(path), suggestion(picture)
