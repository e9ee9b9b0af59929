"""Add and Remove (appendix 7.2.3). To add, the picture with the object is generated first and the object
erased from it by going backwards: (erased, with object) is the pair. Remove is the mirror image.
"""

from __future__ import annotations

from ..records import Candidate, PairJob
from .base import RecipeContext, find, start, three_masks
from .generation import as_candidates, chosen_masks, drawn_settings, picture_of, tied


def add(context: RecipeContext, job: PairJob, number: int) -> list[Candidate]:
    """The picture of the output caption first, then the input caption under its masks of the new object."""
    return _erased(context, job, number, adding=True)


def remove(context: RecipeContext, job: PairJob, number: int) -> list[Candidate]:
    """The picture of the input caption, then the output caption under the masks of the old object."""
    return _erased(context, job, number, adding=False)


def _erased(context: RecipeContext, job: PairJob, number: int, adding: bool) -> list[Candidate]:
    draw, words = start(job, number), job.instruction
    there, gone = words.input_caption, words.output_caption
    thing = words.original_object
    if adding:
        there, gone, thing = gone, there, words.edited_object
    settings = drawn_settings(context, draw)
    picture = picture_of(context, job, there, settings, draw.seed)
    masks = three_masks(context, find(context, picture, thing, job))
    used = chosen_masks(context, masks)
    made = tied(context, job, there, gone, used, settings, draw)
    return as_candidates(job, made, masks, used, draw, swapped=adding)
