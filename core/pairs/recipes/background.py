"""Background: a new one is painted where no object is (appendix 7.2.3). The background's mask is what the
objects leave, extended by a minimum filter and smoothed; an inpainting model fills it, or, without one, the
text-to-image model, sampled under the mask; and the two pictures are blended by the mask once more.

Noise and guidance differ from try to try; their ranges are not in the paper, guidance takes Local's.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ...masks.soft_mask import background_mask
from ..records import Candidate, PairJob
from .base import NoCandidate, RecipeContext, find, reach, start
from .generation import as_candidates, drawn_settings, picture_of, tied

LEAST = 0.1
"""A background that fills less of the picture than this is none."""


def background(context: RecipeContext, job: PairJob, number: int) -> list[Candidate]:
    """One pair a try: the objects and their surroundings, and the same objects before another background."""
    draw, words = start(job, number), job.instruction
    settings = drawn_settings(context, draw)
    picture = picture_of(context, job, words.input_caption, settings, draw.seed)
    precise = find(context, picture, words.original_object, job)
    if float(1 - precise.mean()) < LEAST:
        raise NoCandidate(f"{words.original_object!r} leaves no background to change.")
    soft = background_mask(precise[None], *reach(context, *precise.shape))[0]
    masks = {"precise": 1 - precise, "soft": soft}
    if context.painter is not None:
        painted = context.painter.inpaint(picture, soft, words.output_caption, draw.seed)
        target = blended(picture, painted, soft)
        parameters = draw.parameters | {
            "mask_kind": "soft",
            "generation": settings.to_json(),
            "painter": True,
        }
        return [Candidate(picture, target, words, 0, draw.seed, "soft", masks, parameters)]
    # Masked sampling: the source's latents outside the mask, no copied steps, attention left alone.
    alone = replace(settings, self_fraction=0.0, cross_fraction=0.0, blend=0.0)
    used = {"soft": soft} if context.masks != ("blank",) else {}
    made = tied(context, job, words.input_caption, words.output_caption, used, alone, draw, control=False)
    found = as_candidates(job, made, masks, used, draw)
    if not used:
        return found
    return [replace(one, target=blended(one.source, one.target, soft)) for one in found]


def blended(below: Tensor, above: Tensor, mask: Tensor) -> Tensor:
    """mask * above + (1 - mask) * below of pictures [H,W,3]; where the mask is 0 the very bits of below."""
    weight = mask[..., None]
    return (weight * above + (1 - weight) * below).where(weight > 0, below)
