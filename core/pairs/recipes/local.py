"""Local and Texture: the picture of the input caption, the object's masks in it, and the output caption under
attention control (appendix 7.2.3). Remove is the same with an output caption that lacks the object.
"""

from __future__ import annotations

from ..records import Candidate, PairJob
from .base import RecipeContext, find, start, three_masks
from .generation import as_candidates, chosen_masks, drawn_settings, picture_of, tied


def local(context: RecipeContext, job: PairJob, number: int) -> list[Candidate]:
    """A pair under each mask of the original object in the picture before."""
    draw, words = start(job, number), job.instruction
    settings = drawn_settings(context, draw)
    picture = picture_of(context, job, words.input_caption, settings, draw.seed)
    masks = three_masks(context, find(context, picture, words.original_object, job))
    used = chosen_masks(context, masks)
    made = tied(context, job, words.input_caption, words.output_caption, used, settings, draw)
    return as_candidates(job, made, masks, used, draw)


texture = local
