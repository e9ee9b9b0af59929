"""What the generating recipes share: a picture from a caption, and pairs under each of the masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...attention.alignment import MARKS
from ...backbone import Backbone
from ...edit import starting_noise
from ...errors import EmuEditError
from ...guidance import Guidance, guided_prediction
from ...sampling import sample
from ..generate import PairResult, generate_pair
from ..pair_settings import FALLBACKS, PairSettings
from ..records import Candidate, PairJob
from .base import BLANK, Draw, RecipeContext

GUIDANCE = (4.0, 8.0)
FRACTION = (0.3, 0.9)
BLEND = (0.02, 0.2)
"""Ranges of classifier-free guidance, of N_s and N_c, and of the share of copied steps (appendix 7.2.3,
Local and Texture; Add and Remove are not restated there and take the same). The guidance is for a model that
wants 7.5; see guidance_range."""


def guidance_range(context: RecipeContext, printed: tuple[float, float]) -> tuple[float, float]:
    """A range of guidance as the appendix prints it, brought to a model that says what it wants itself.

    The ranges are for models of Stable Diffusion's kind, at home at 7.5; one made for 3 is overdriven by 8.
    What is in proportion is the distance from 1, which is no guidance.
    """
    defaults = context.backbone.defaults if context.backbone is not None else {}
    usual = FALLBACKS["guidance"]
    share = max(0.0, float(defaults.get("text_guidance") or usual) - 1) / (usual - 1)
    return 1 + (printed[0] - 1) * share, 1 + (printed[1] - 1) * share


def backbone_of(context: RecipeContext, job: PairJob) -> Backbone:
    """The text-to-image model, or a sentence."""
    if context.backbone is None:
        raise EmuEditError(f"the task {job.task} generates its pictures; give a text-to-image model.")
    return context.backbone


def drawn_settings(
    context: RecipeContext,
    draw: Draw,
    fraction: tuple[float, float] = FRACTION,
    blend: tuple[float, float] = BLEND,
) -> PairSettings:
    """Settings of one try, drawn from the ranges; those of a record that is made again are the record's."""
    before = draw.fixed.get("generation")
    drawn: dict[str, Any] = {
        "guidance": draw.uniform("guidance", *guidance_range(context, GUIDANCE)),
        "self_fraction": draw.uniform("self_fraction", *fraction),
        "cross_fraction": draw.uniform("cross_fraction", *fraction),
        "blend": draw.uniform("blend", *blend),
    }
    if isinstance(before, Mapping):
        return PairSettings.from_json({**before, **drawn})
    return PairSettings(**drawn, steps=context.steps, size=context.size, sampler=context.sampler)


def picture_of(
    context: RecipeContext, job: PairJob, caption: str, settings: PairSettings, seed: int
) -> Tensor:
    """One picture [H,W,3] of a caption: the source that generate_pair makes with this seed and settings."""
    backbone = backbone_of(context, job)
    filled = settings.filled(backbone)
    height, width = filled.size  # type: ignore[misc]
    guidance = Guidance(float(filled.guidance or 1.0), 1.0)
    with torch.inference_mode():
        text = backbone.encode_text([caption, ""])
        shape = (backbone.latent_channels, height // backbone.downscale, width // backbone.downscale)
        noise = starting_noise(shape, seed)[None].to(backbone.device)

        def predict(latents: Tensor, timestep: int, index: int) -> Tensor:
            return guided_prediction(backbone, latents, timestep, text[:1], text[1:], None, None, guidance)

        steps = int(filled.steps or 1)
        latents = sample(predict, backbone.schedule, noise, steps, filled.sampler, context.on_step)
        picture = backbone.decode_latents(latents).float().cpu()[0]
    return picture.clone()


def tied(
    context: RecipeContext,
    job: PairJob,
    first: str,
    second: str,
    masks: Mapping[str, Tensor],
    settings: PairSettings,
    draw: Draw,
    control: bool | None = None,
) -> PairResult:
    """Pictures of two captions, tied as settings say, a pair under each mask in one batch; none: blank."""
    count = max(1, len(masks))
    words: list[str] = []
    if context.record and context.words is not None:
        words = list(context.words)
    elif context.record:
        words = [words.split()[-1] for words in _objects(job)] or differing(first, second)
    return generate_pair(
        backbone_of(context, job),
        [first] * count,
        [second] * count,
        torch.stack(list(masks.values())) if masks else None,
        settings,
        [draw.seed] * count,
        words,
        context.on_step,
        context.control if control is None else control,
    )


def differing(before: str, after: str) -> list[str]:
    """The words of either caption that the other lacks, in order, without punctuation at their ends."""
    first, second = ([word.strip(MARKS) for word in caption.split()] for caption in (before, after))
    found = [w for w in first if w not in second] + [w for w in second if w not in first]
    return [word for word in dict.fromkeys(found) if word]


def _objects(job: PairJob) -> list[str]:
    words = job.instruction
    return [one for one in dict.fromkeys((words.original_object, words.edited_object)) if one]


def chosen_masks(context: RecipeContext, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of an object's masks that pairs are to be made under; none when only "blank" is wanted."""
    return {kind: masks[kind] for kind in context.masks if kind != BLANK}


def as_candidates(
    job: PairJob,
    made: PairResult,
    masks: Mapping[str, Tensor],
    used: Mapping[str, Tensor],
    draw: Draw,
    swapped: bool = False,
) -> list[Candidate]:
    """A candidate for each pair of a batch; `swapped`: the edit goes from the second picture to the first."""
    found = []
    for row, kind in enumerate(used or (BLANK,)):
        source, target = made.source[row], made.target[row]
        if swapped:
            source, target = target, source
        parameters: dict[str, Any] = draw.parameters | {"mask_kind": kind, "generation": made.parameters[row]}
        maps = {word: maps[row] for word, maps in made.maps.items()}
        found.append(Candidate(source, target, job.instruction, 0, draw.seed, kind, masks, parameters, maps))
    return found
