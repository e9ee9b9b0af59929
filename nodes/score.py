"""Scores and Compare: how far an edit went, and where; two pictures under a slider."""

from __future__ import annotations

import json
import math
from typing import Any

from torch import Tensor

from ..core.errors import EmuEditError
from ..core.heat_map import FULL_SCALE, heat_map
from ..core.images import fit_mask
from ..core.metrics import pair, pixel_scores
from ..core.score_table import ALL_TASKS, MODEL_NAMES, aggregate, edit_table, flat, plain
from . import host
from .host_files import show_pictures
from .inputs import drawn
from .scorers import make_resident
from .widgets import choice, number, socket, text

PIXEL_NAMES = ("l1", "l1_inside", "l1_outside", "psnr", "ssim", "ssim_inside", "ssim_outside")


def captions_for(words: str | None, count: int, what: str) -> list[str] | None:
    """One caption for each of `count` pictures from a text box: one for all, or one a line; None if empty."""
    lines = [line.strip() for line in (words or "").splitlines() if line.strip()]
    if not lines:
        return None
    if count == 1:
        return [" ".join(lines)]
    if len(lines) not in (1, count):
        raise EmuEditError(
            f"{len(lines)} lines of {what} for {count} pictures; write one for all, or one line for each."
        )
    return lines * (count if len(lines) == 1 else 1)


def number_or_nan(value: float | None) -> float:
    return math.nan if value is None else value


class Scores:
    """Behind any edit: numbers, a table and a picture of what changed."""

    ID = "EmuEditScores"
    DISPLAY_NAME = "Scores"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Measures an edit against the picture before it: L1, PSNR and SSIM over the whole picture and inside "
        "and outside a mask, and with Load Scorer also CLIPdir, CLIPim, CLIPout and DINO. Not editing at all "
        "stands beside every number."
    )
    SEARCH_ALIASES = ["metrics", "ssim", "psnr", "l1", "clip score", "clip directional similarity", "dino"]
    FUNCTION = "measure"
    RETURN_TYPES = (
        "STRING",
        "IMAGE",
        *("FLOAT" for _ in PIXEL_NAMES),
        *("FLOAT" for _ in MODEL_NAMES),
        "STRING",
    )
    RETURN_NAMES = ("table", "heat_map", *PIXEL_NAMES, *MODEL_NAMES, "scores")
    OUTPUT_TOOLTIPS = (
        "The scores as a Markdown table; show it with Preview Any. A batch gives means with 95 % intervals.",
        "Where the pictures differ: dim grey is unchanged, then violet, orange and pale yellow. The mask's "
        "edge is a white line.",
        "Mean absolute difference, 0 to 1; 0 is equal.",
        "The same inside the mask; not a number (nan) without a mask.",
        "The same outside the mask: what changed where nothing was asked.",
        "Peak signal to noise ratio in decibels; infinite for equal pictures.",
        "Structural similarity; 1 is equal.",
        "The same inside the mask.",
        "The same outside the mask.",
        "Does the picture change in the direction of the captions? nan without scorer and captions, and "
        "where no direction exists.",
        "How alike CLIP finds the pictures; 1 is equal.",
        "How well the edited picture fits the output caption by CLIP.",
        "How alike DINO finds the pictures; 1 is equal.",
        "Everything as JSON: each picture, means, models and preprocessing.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "before": socket("IMAGE", "The picture before the edit."),
                "after": socket(
                    "IMAGE", "The picture after it; another size is resized to the picture before."
                ),
                "full_scale": number(
                    FULL_SCALE,
                    0.01,
                    1.0,
                    0.01,
                    "The difference (0 to 1) that the heat map draws brightest. Lower it to see faint "
                    "changes. The numbers do not depend on it.",
                ),
            },
            "optional": {
                "mask": socket(
                    "MASK",
                    "Where the edit was meant to be. Grey counts in proportion, inside and outside. The "
                    "blank mask of a Load Image without alpha counts as no mask.",
                ),
                "scorer": socket("EMU_SCORER", "From Load Scorer, for the CLIP and DINO scores."),
                "input_caption": text(
                    "",
                    "What the picture before shows, for CLIPdir. For a batch one line for each picture, or "
                    "one for all.",
                ),
                "output_caption": text(
                    "", "What the edited picture should show, for CLIPdir and CLIPout. Lines as above."
                ),
            },
        }

    def measure(
        self,
        before: Tensor,
        after: Tensor,
        full_scale: float,
        mask: Tensor | None = None,
        scorer: Any = None,
        input_caption: str | None = None,
        output_caption: str | None = None,
    ) -> tuple[Any, ...]:
        with host.slips_of(self):
            before, after = pair(before, after)
            count = before.shape[0]
            mask = drawn(mask, before)
            if mask is not None:
                with host.slips_of(self, "mask"):
                    mask = fit_mask(mask.to(before.device), *before.shape[:3])
            regions, maps = pixel_scores(before, after, mask)
            picture = heat_map(before, maps.absolute, full_scale, mask)
            with host.slips_of(self, "input_caption"):
                told = captions_for(input_caption, count, "input caption")
            with host.slips_of(self, "output_caption"):
                wanted = captions_for(output_caption, count, "output caption")
            models: list[dict[str, float | None]] = [{} for _ in range(count)]
            excluded = [""] * count
            if scorer is not None:
                make_resident(scorer)
                models = scorer.scores(before, after, told, wanted)
                if told and wanted:
                    excluded = [scorer.excluded(*both) for both in zip(told, wanted, strict=True)]
        rows = [flat(region, model) for region, model in zip(regions, models, strict=True)]
        counted = [row for row, why in zip(rows, excluded, strict=True) if not why] or rows
        means = {name: found.mean for name, found in aggregate(counted)[ALL_TASKS].scores.items()}
        if means["psnr"] is None:  # every picture equals its original
            means["psnr"] = math.inf
        table = "\n\n".join([edit_table(counted), *self._notes(scorer, told, wanted, excluded)])
        report = {
            "format": "emu-edit-scores",
            "version": 1,
            "pictures": [
                {**row, **({"left_out": why} if why else {})} for row, why in zip(rows, excluded, strict=True)
            ],
            "all": aggregate(rows, excluded=excluded)[ALL_TASKS],
            "scorer": scorer.describe() if scorer is not None else None,
        }
        numbers = [number_or_nan(means.get(name)) for name in (*PIXEL_NAMES, *MODEL_NAMES)]
        return table, picture.cpu(), *numbers, json.dumps(plain(report), allow_nan=False)

    @staticmethod
    def _notes(scorer: Any, told: Any, wanted: Any, excluded: list[str]) -> list[str]:
        """Sentences under the table: models, and what is missing and why."""
        notes = []
        if scorer is not None:
            models = scorer.describe()
            named = [models[kind] for kind in ("clip", "dino") if kind in models]
            for model in named:
                other = "" if model["as_in_preset"] else f", not the model of {models['preset']}"
                notes.append(f"{model['model']}{other}: {model['preprocessing']}.")
            notes += models.get("notes", [])
            if scorer.clip is not None and not (told and wanted):
                notes.append("CLIPdir needs both captions, CLIPout the output caption.")
            for why in dict.fromkeys(why for why in excluded if why):
                notes.append(f"{models['preset']} leaves out {excluded.count(why)} of these edits: {why}.")
        elif told or wanted:
            notes.append("The captions are used only with Load Scorer.")
        return notes


class Compare:
    """Shows two pictures over each other in the node."""

    ID = "EmuEditCompare"
    DISPLAY_NAME = "Compare Before and After"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Shows two pictures over each other in the node: drag the line between them, or let them flicker, "
        "which shows shifts of a pixel that a slider hides."
    )
    SEARCH_ALIASES = ["image compare", "slider", "flicker", "before after", "side by side", "difference"]
    FUNCTION = "show"
    OUTPUT_NODE = True
    RETURN_TYPES = ()
    RETURN_NAMES = ()
    OUTPUT_TOOLTIPS = ()

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "before": socket("IMAGE", "The picture on the left of the line."),
                "after": socket(
                    "IMAGE", "The picture on the right; another size is stretched over the first one."
                ),
                "mode": choice(
                    ("slider", "flicker"),
                    "slider",
                    "slider: drag the line, or use the arrow keys. flicker: the pictures take turns. "
                    "Changes at once, without another run.",
                ),
            }
        }

    def show(self, before: Tensor, after: Tensor, mode: str) -> dict[str, Any]:
        with host.slips_of(self):
            before, after = pair(before, after)
        # Names of our own: ComfyUI would show "images" as a preview of its own under the slider.
        shown = {
            "emu_edit_before": show_pictures(before, "before"),
            "emu_edit_after": show_pictures(after, "after"),
            "emu_edit_mode": [mode],
        }
        return {"ui": shown, "result": ()}
