"""Size Guard and its undo: what multiple an editor wants, and the way back to the picture's own size."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..core.errors import EmuEditError
from ..core.size_guard import MODES, SizeRecord, guard_size, restore_size
from . import host
from .widgets import choice, socket, whole


class SizeGuard:
    """Stands before an editor."""

    ID = "EmuEditSizeGuard"
    DISPLAY_NAME = "Size Guard"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Before any editor: gives the picture sides that the editor can take, by padding, cropping or "
        "stretching, and writes down how, so that Size Restore or Sequential Edit Threshold can undo it "
        "exactly."
    )
    SEARCH_ALIASES = ["multiple of 16", "pad to multiple", "divisible", "resize for kontext", "size undo"]
    FUNCTION = "guard"
    RETURN_TYPES = ("IMAGE", "EMU_SIZE", "STRING")
    RETURN_NAMES = ("image", "size", "report")
    OUTPUT_TOOLTIPS = (
        "The picture for the editor.",
        "How the size was changed: for Size Restore, or the input size of Sequential Edit Threshold.",
        "The same in words.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": socket("IMAGE", "The picture to edit."),
                "multiple": whole(
                    16,
                    1,
                    256,
                    "Sides become multiples of this many pixels: 8 for Stable Diffusion, 16 for FLUX "
                    "Kontext and most others, 32 for Qwen-Image-Edit, 64 for some. Task for Editor tells it.",
                ),
                "mode": choice(
                    MODES,
                    MODES[0],
                    "pad: repeat the border, nothing is lost. crop: cut the middle out, the rest comes "
                    "back from the original. stretch: round each side, which bends the picture a little.",
                ),
                "longest_side": whole(
                    0,
                    0,
                    16384,
                    "First scale the picture so that its longest side has this many pixels; 0 leaves it.",
                ),
            }
        }

    def guard(
        self, image: Tensor, multiple: int, mode: str, longest_side: int
    ) -> tuple[Tensor, SizeRecord, str]:
        with host.slips_of(self):
            guarded, record = guard_size(image, multiple, mode, longest_side)
        return guarded, record, record.describe()


class SizeRestore:
    """Stands behind an editor."""

    ID = "EmuEditSizeRestore"
    DISPLAY_NAME = "Size Restore"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "After an editor: brings its result back to the size that the picture had before Size Guard. "
        "Padding is cut off, and what was cropped off comes back from the original."
    )
    SEARCH_ALIASES = ["undo resize", "unpad", "uncrop", "original size"]
    FUNCTION = "restore"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The edited picture at the original's size.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "edited": socket("IMAGE", "What the editor made of the guarded picture."),
                "size": socket("EMU_SIZE", "The record from Size Guard."),
            }
        }

    def restore(self, edited: Tensor, size: SizeRecord) -> tuple[Tensor]:
        with host.slips_of(self):
            if not isinstance(size, SizeRecord):
                raise EmuEditError("size comes from Size Guard; wire its output size in.")
            return (restore_size(edited, size),)
