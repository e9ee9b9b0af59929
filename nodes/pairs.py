"""Make Pair: pictures before and after an edit, generated together under masks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from ..core.errors import EmuEditError
from ..core.sampling import METHODS
from ..core.tasks import TASK_IDS
from . import host
from .control import ControlChoice, listed
from .filters import read_instructions
from .pair_work import SEEDS, Work
from .widgets import choice, number, socket, text, whole


class MakePair:
    """core.pairs.by_hand and core.pairs.recipes as a node."""

    ID = "EmuEditMakePair"
    DISPLAY_NAME = "Make Pair"
    CATEGORY = "Emu Edit/Pairs"
    DESCRIPTION = (
        "Generates pictures before and after an edit from two captions, which differ only where the edit is "
        "meant to be. With masks a candidate is made under each of them; with a detector the recipe of the "
        "task finds the object itself and makes the three masks; with instructions wired a whole list is "
        "worked through, and what comes to nothing is told with its reason."
    )
    SEARCH_ALIASES = ["prompt to prompt", "image pairs", "synthetic data", "training pairs", "dataset"]
    FUNCTION = "make"
    RETURN_TYPES = ("EMU_PAIRS", "IMAGE", "IMAGE", "MASK", "STRING", "STRING", "INT")
    RETURN_NAMES = ("pairs", "source", "target", "mask", "parameters", "report", "count")
    OUTPUT_TOOLTIPS = (
        "All candidates, for Filter Pairs, Inspect Pair and Save Pairs.",
        "Their pictures before the edit.",
        "Their pictures after the edit.",
        "The masks they were made under; white where the whole picture might change.",
        "What each was made with, one JSON object a line: by hand, its seed makes it again.",
        "How many candidates there are of each instruction, and what came to nothing and why.",
        "How many candidates there are.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": socket("EMU_TEXT_TO_IMAGE", "The text-to-image model, from Load Text to Image."),
                "task": choice(TASK_IDS, TASK_IDS[0], "The kind of edit. add makes the picture after first."),
                "instruction": text("make the ball blue", "The edit in words, as the pair will be saved."),
                "source_caption": text("a red ball on a beach", "What the picture before the edit shows."),
                "target_caption": text("a blue ball on a beach", "What the picture after it shows."),
                "original_object": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "What the edit is about in the picture before ('red ball'), for the "
                        "detector and the filters. Empty if nothing.",
                    },
                ),
                "edited_object": (
                    "STRING",
                    {"default": "", "tooltip": "What it is about in the picture after ('blue ball')."},
                ),
                "candidates": whole(
                    4,
                    1,
                    64,
                    "How many tries, each with another seed. Each makes a candidate under each mask.",
                ),
                "seed": whole(
                    0,
                    0,
                    SEEDS - 1,
                    "The first try's seed; those of the next tries follow from it.",
                    control_after_generate=True,
                ),
                "steps": whole(0, 0, 1000, "Denoising steps. 0: as many as the model recommends."),
                "guidance": number(
                    0.0,
                    0.0,
                    30.0,
                    0.5,
                    "How closely the captions are followed. 0: as the model recommends; for recipes, drawn "
                    "from 4 to 8 for a model that wants 7.5, in proportion for others.",
                ),
                "sampler": choice(METHODS, METHODS[0], "How the steps are taken."),
                "size": whole(
                    0, 0, 2048, "Side of the pictures in pixels. 0: as the model recommends.", step=8
                ),
                "words": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Words whose attention maps to keep for Inspect Pair, with commas. Empty: "
                        "the words in which the captions differ; for recipes, the objects' if there are any.",
                    },
                ),
            },
            "optional": {
                "control": socket(
                    "EMU_CONTROL", "From Attention Control. Without it the paper's ranges are drawn from."
                ),
                "precise": socket(
                    "MASK", "Where the edit is meant to be: the precise mask of Soft Mask, or any mask."
                ),
                "soft": socket("MASK", "The soft mask of Soft Mask: a candidate under it too."),
                "box": socket("MASK", "The box mask of Soft Mask: a candidate under it too."),
                "detector": socket(
                    "EMU_DETECTOR",
                    "From Load Detector: finds the object in each picture, if no mask is wired.",
                ),
                "instructions": socket(
                    "STRING",
                    "From Write Instructions: these, one JSON object a line, instead of the boxes above.",
                    forceInput=True,
                ),
                "pictures": socket(
                    "IMAGE",
                    "Real pictures for tasks that start from one (style, color, detect, segment): one for "
                    "each instruction, or one for all. Their middle is taken, a square of the size above.",
                ),
            },
        }

    def make(
        self,
        model: Any,
        task: str,
        instruction: str,
        source_caption: str,
        target_caption: str,
        original_object: str,
        edited_object: str,
        candidates: int,
        seed: int,
        steps: int,
        guidance: float,
        sampler: str,
        size: int,
        words: str,
        control: ControlChoice | None = None,
        precise: Tensor | None = None,
        soft: Tensor | None = None,
        box: Tensor | None = None,
        detector: Any = None,
        instructions: str | None = None,
        pictures: Tensor | None = None,
    ) -> tuple[Any, ...]:
        from ..core.pairs.pair_settings import PairSettings
        from ..core.pairs.recipes.base import MASKED
        from ..core.pairs.recipes.table import RECIPES
        from ..core.pairs.records import Instruction

        with host.slips_of(self):
            if instructions is None:
                boxes = {
                    "instruction": instruction,
                    "source_caption": source_caption,
                    "target_caption": target_caption,
                }
                for name, told in boxes.items():
                    if not told.strip():
                        raise EmuEditError(f"{name} is empty; write it in a sentence.")
                wanted = [
                    Instruction(
                        task,
                        instruction.strip(),
                        source_caption.strip(),
                        target_caption.strip(),
                        original_object.strip(),
                        edited_object.strip(),
                    )
                ]
            else:
                wanted = read_instructions(instructions)
            masks = {k: m for k, m in zip(MASKED, (precise, soft, box), strict=True) if m is not None}
            if masks and len(wanted) > 1:
                raise EmuEditError(
                    f"{len(wanted)} instructions came with masks, which fit one picture; wire a detector "
                    "instead of the masks."
                )
            base = PairSettings() if control is None else control.settings
            settings = replace(
                base, steps=steps or None, guidance=guidance or None, sampler=sampler, size=size or None
            )
            work = Work(model, settings, control, seed, candidates)
            recipe = RECIPES.get(wanted[0].task)
            starts_from_one = pictures is not None and recipe is not None and "picture" in recipe.needs
            if masks or (detector is None and instructions is None and not starts_from_one):
                if pictures is not None:
                    work.notes.append("pictures are not used here: both pictures are generated.")
                work.by_hand(wanted[0], masks, listed(words) or None)
            else:
                work.by_recipes(wanted, detector, pictures, listed(words) or None)
        return work.results()
