"""Classifier-free guidance over two conditions, the instruction and the input picture.

InstructPix2Pix (2211.09800), section 3.2.1, with null picture and null text written 0:
    e(0,0) + s_I (e(I,0) - e(0,0)) + s_T (e(I,T) - e(I,0))
Its weights (s_T, s_I - s_T, 1 - s_I) sum to 1, so that guiding noise, v or x0 predictions gives the same
result: they differ by z, which is the same in all branches. Emu Edit's task vector stays in all three
branches, since it says what kind of edit is made and not which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .backbone import Backbone, TextContext
from .errors import EmuEditError


@dataclass(frozen=True)
class Guidance:
    """Scales: `text` s_T (1 = off), `image` s_I (1 = off), `rescale` in 0..1 (0 = off).

    `rescale` pulls the guided prediction's spread back to the conditional one's (Lin et al. 2305.08891,
    section 3.4), against washed-out or over-saturated pictures at high scales.
    """

    text: float = 7.5
    image: float = 1.5
    rescale: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("text", self.text), ("image", self.image)):
            if not math.isfinite(value) or value < 0:
                raise EmuEditError(f"{name} guidance: the scale is {value}; give a number of 0 or more.")
        if not 0.0 <= self.rescale <= 1.0:
            raise EmuEditError(f"guidance rescale: the value is {self.rescale}; give a number in 0..1.")

    @property
    def weights(self) -> tuple[float, float, float]:
        """Weights of e(I,T), e(I,0) and e(0,0); they sum to 1."""
        return self.text, self.image - self.text, 1.0 - self.image


def combine(full: Tensor, image_only: Tensor, none: Tensor, guidance: Guidance) -> Tensor:
    """Guide predictions [B,C,h,w] made with picture and text, with the picture alone, and with neither."""
    guided = none + guidance.image * (image_only - none) + guidance.text * (full - image_only)
    if guidance.rescale == 0.0:
        return guided
    axes = tuple(range(1, full.ndim))
    matched = guided * (full.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True))
    return guidance.rescale * matched + (1.0 - guidance.rescale) * guided


def guided_prediction(
    backbone: Backbone,
    latents: Tensor,
    timestep: int | Tensor,
    text: TextContext,
    empty_text: TextContext,
    image: Tensor | None,
    task: Tensor | None,
    guidance: Guidance,
) -> Tensor:
    """One guided prediction [B,C,h,w], in the backbone's own prediction type and the type of `latents`.

    `text` and `empty_text` hold 1 or B texts, `image` [B,C,h,w] or None (then only the text guides), `task`
    [B,D] or None. Branches of weight 0 are not computed, which changes nothing but the time; the others go
    through the network as one batch, in the order full, image only, none.
    """
    if image is None:
        guidance = Guidance(guidance.text, 1.0, guidance.rescale)
    batch = latents.shape[0]
    needed = [weight != 0.0 for weight in guidance.weights]
    needed[0] = needed[0] or guidance.rescale > 0.0
    texts = [text.expand(batch), empty_text.expand(batch), empty_text.expand(batch)]
    images = [image, image, None if image is None else torch.zeros_like(image)]
    chosen = [i for i in range(3) if needed[i]]
    picked = [images[i] for i in chosen]
    count = len(chosen)
    prediction = backbone.predict(
        latents.repeat(count, 1, 1, 1),
        timestep.repeat(count) if isinstance(timestep, Tensor) and timestep.ndim else timestep,
        TextContext.cat([texts[i] for i in chosen]),
        image=None if image is None else torch.cat([p for p in picked if p is not None]),
        task=None if task is None else task.repeat(count, 1),
    )
    found = dict(zip(chosen, prediction.chunk(count), strict=True))
    # A branch left out has weight 0: any other in its place makes its differences vanish exactly.
    full, image_only, none = (_first_of(found, order) for order in ((0, 1, 2), (1, 2, 0), (2, 1, 0)))
    return combine(full, image_only, none, guidance)


def _first_of(found: dict[int, Tensor], order: tuple[int, int, int]) -> Tensor:
    return next(found[i] for i in order if i in found)
