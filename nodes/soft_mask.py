"""Soft Mask and Mask Preview: the paper's masks from any mask or boxes, and a picture to judge them by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.errors import EmuEditError
from ..core.images import check_images
from ..core.masks.overlay import mask_sheet
from ..core.masks.soft_mask import EMPTY, MODES, UNITS, SoftMasks, SoftMaskSettings, make_masks
from ..core.masks.targets import INSTANCES, Targets, collect
from . import host
from .host_files import show_pictures
from .inputs import drawn, is_stand_in, opaque
from .widgets import choice, number, socket, whole

# For the blank mask of a Load Image without alpha.
NOT_DRAWN = "nothing is drawn yet: right-click Load Image, Open in MaskEditor, paint, and save"
# The preview's masks in the order of their sockets, which is the order of the sheet's columns.
SHOWN = ("mask", "precise", "soft", "box", "background")


class SoftMask:
    """Stands between what finds or draws a mask and the editor that takes it."""

    ID = "EmuEditSoftMask"
    DISPLAY_NAME = "Soft Mask"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Makes of any mask, or of boxes, the three masks of the Emu Edit paper: precise, grown and blurred, "
        "and box, with a weighted mean of them and the mask for changing a background. An editor redraws an "
        "object better in a mask that is a little too large. Nothing found is an empty mask and a sentence."
    )
    SEARCH_ALIASES = ["grow mask", "blur mask", "feather mask", "dilate mask", "expand mask", "inpaint mask"]
    FUNCTION = "soften"
    RETURN_TYPES = ("MASK", "MASK", "MASK", "MASK", "MASK", "STRING")
    RETURN_NAMES = ("mask", "precise", "soft", "box", "background", "report")
    OUTPUT_TOOLTIPS = (
        "The mask that mode names, one for each picture.",
        "What came in, without specks and holes.",
        "The precise mask, grown and blurred.",
        "White boxes: those that came in, else one around each part of the precise mask.",
        "What is not the object, reaching a little into it, with a soft edge: for a new background.",
        "Sizes in pixels, and what was found in each picture.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "mode": choice(
                    MODES,
                    MODES[0],
                    "The mask to give. soft: grown and blurred. precise: as it came. box: for what needs "
                    "another shape. fused: the weighted mean of the three. background: all but the object.",
                ),
                "grow": number(
                    2.0,
                    0.0,
                    16384.0,
                    0.5,
                    "How far the precise mask grows to all sides, in unit. Grow more where something larger "
                    "is to come. The background mask reaches as far into the object.",
                ),
                "blur": number(
                    1.0,
                    0.0,
                    16384.0,
                    0.5,
                    "How soft its edge becomes after growing, in unit (sigma of a Gaussian). 0 is hard.",
                ),
                "unit": choice(
                    UNITS,
                    UNITS[0],
                    "What all lengths here are told in. Percent of the diagonal means the same on small and "
                    "large pictures.",
                ),
            },
            "optional": {
                "mask": socket(
                    "MASK",
                    "Any mask, white where the object is: drawn by hand, from Text to Mask or SAM3 Detect, "
                    "or the change of Sequential Edit Threshold.",
                ),
                "boxes": socket(
                    "BOUNDING_BOX",
                    "Boxes in pixels, from Text to Mask or SAM3 Detect. Without a mask they are filled.",
                ),
                "image": socket(
                    "IMAGE",
                    "The pictures that it is about: gives size and number. Needed for boxes without a mask.",
                ),
                "instances": choice(
                    INSTANCES,
                    INSTANCES[0],
                    "How several masks belong to the pictures. auto: one for each picture, or one for all, "
                    "or all of them to a single picture, or one for each box.",
                ),
                "specks": number(
                    0.0,
                    0.0,
                    1024.0,
                    0.5,
                    "White parts smaller than this in both directions are dropped first, in unit (by area). "
                    "0 keeps all.",
                ),
                "holes": number(
                    0.0, 0.0, 1024.0, 0.5, "Black holes up to this size are filled first. 0 keeps all."
                ),
                "precise_weight": number(
                    1.0, 0.0, 100.0, 0.1, "In the mode fused: how much the precise mask counts."
                ),
                "soft_weight": number(
                    1.0, 0.0, 100.0, 0.1, "In the mode fused: how much the soft mask counts."
                ),
                "box_weight": number(
                    1.0, 0.0, 100.0, 0.1, "In the mode fused: how much the box mask counts."
                ),
            },
        }

    def soften(
        self,
        mode: str,
        grow: float,
        blur: float,
        unit: str,
        mask: Tensor | None = None,
        boxes: Any = None,
        image: Tensor | None = None,
        instances: str = INSTANCES[0],
        specks: float = 0.0,
        holes: float = 0.0,
        precise_weight: float = 1.0,
        soft_weight: float = 1.0,
        box_weight: float = 1.0,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, str]:
        with host.slips_of(self):
            settings = SoftMaskSettings(grow, blur, specks, holes, unit)
            targets, notes = gather(mask, boxes, image, instances)
            made = make_masks(targets, settings)
            chosen = made.pick(mode, (precise_weight, soft_weight, box_weight))
            background = chosen if mode == "background" else made.pick("background")
        host.remark(notes or empty_lines(made))
        report = "\n".join([*made.report, *notes])
        return chosen, made.precise, made.soft, made.box, background, report


def gather(
    mask: Tensor | None, boxes: Any, image: Tensor | None, instances: str
) -> tuple[Targets, list[str]]:
    """The targets of what is wired, and sentences about what is not."""
    if image is None:
        blank = isinstance(mask, Tensor) and is_stand_in(mask)
        return collect(mask, boxes, instances=instances), [NOT_DRAWN] if blank else []
    if not isinstance(image, Tensor) or image.ndim != 4 or 0 in image.shape:
        got = f"shape {list(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise EmuEditError(f"image: expected pictures [batch, height, width, 3], got {got}; wire an IMAGE.")
    batch, size = image.shape[0], (image.shape[1], image.shape[2])
    kept = drawn(mask, image)
    if mask is not None and kept is None:
        # An empty mask, not the whole picture: white everywhere is nothing that anybody has asked for here.
        empty = torch.zeros(1, *size, device=mask.device)
        return collect(empty, boxes, batch, size, INSTANCES[0]), [] if boxes else [NOT_DRAWN]
    return collect(kept, boxes, batch, size, instances), []


def empty_lines(made: SoftMasks) -> list[str]:
    """What the report says of pictures whose mask is empty."""
    return [line for line in made.report if line.endswith(EMPTY)]


class MaskPreview:
    """Shows masks on their picture, in the node and as a picture to save."""

    ID = "EmuEditMaskPreview"
    DISPLAY_NAME = "Mask Preview"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Shows masks on their picture: all outlines together, then each mask as a tint over the picture and "
        "in grey, side by side with its name. Wire as many of the masks as you want to see."
    )
    SEARCH_ALIASES = ["preview mask", "mask overlay", "show mask", "mask outline", "compare masks"]
    FUNCTION = "show"
    OUTPUT_NODE = True
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("preview",)
    OUTPUT_TOOLTIPS = ("What the node shows, one sheet for each picture, to save or to look at in full.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        named = {
            "mask": "Any mask.",
            "precise": "The precise mask of Soft Mask, or any other.",
            "soft": "The soft mask of Soft Mask, or any other.",
            "box": "The box mask of Soft Mask, or any other.",
            "background": "The background mask of Soft Mask, or any other.",
        }
        return {
            "required": {
                "image": socket("IMAGE", "The picture under the masks; one, or one for each mask."),
                "opacity": number(0.5, 0.0, 1.0, 0.05, "How strong the tint is. 0 shows the outlines alone."),
                "tile": whole(
                    384,
                    64,
                    2048,
                    "The longest side of each picture on the sheet, in pixels. Smaller pictures stay as "
                    "they are.",
                    step=32,
                ),
            },
            "optional": {name: socket("MASK", tooltip) for name, tooltip in named.items()},
        }

    def show(
        self,
        image: Tensor,
        opacity: float,
        tile: int,
        mask: Tensor | None = None,
        precise: Tensor | None = None,
        soft: Tensor | None = None,
        box: Tensor | None = None,
        background: Tensor | None = None,
    ) -> dict[str, Any]:
        wired = zip(SHOWN, (mask, precise, soft, box, background), strict=True)
        masks = {name: given for name, given in wired if given is not None}
        with host.slips_of(self, "image"):
            image = check_images(opaque(image), "the picture")
        with host.slips_of(self):
            if not 0 <= opacity <= 1:
                raise EmuEditError(f"opacity must lie in 0..1, got {opacity}; 0.5 is usual.")
            batch = max([len(image), *(len(given) for given in masks.values() if given.ndim == 3)])
            if len(image) == 1:
                image = image.expand(batch, -1, -1, -1)
            blank = image.new_zeros(image.shape[1:3])
            shown = {name: drawn(given, image) for name, given in masks.items()}
            sheet = mask_sheet(
                image, {name: blank if given is None else given for name, given in shown.items()},
                opacity, tile,
            )  # fmt: skip
        return {"ui": {"images": show_pictures(sheet, "masks")}, "result": (sheet.cpu(),)}
