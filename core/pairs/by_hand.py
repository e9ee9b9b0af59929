"""Pairs of one instruction whose masks, if any, somebody has made: the recipes' ranges, without a detector.

A recipe (core.pairs.recipes) generates a picture and finds the object in it. Here the masks are given, and a
candidate is made under each of them; without masks the whole picture may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..backbone import Backbone
from ..images import fit_mask
from .generate import generate_pair
from .pair_settings import PairSettings
from .recipes import whole
from .recipes.base import BLANK, Draw
from .recipes.generation import BLEND, FRACTION, differing
from .records import Candidate, Instruction

ERASED = ("add",)
"""Tasks whose target is made first: the object is erased from it, and the pair turned round (7.2.3)."""


def pairs_by_hand(
    backbone: Backbone,
    instruction: Instruction,
    seeds: Sequence[int],
    masks: Mapping[str, Tensor],
    settings: PairSettings,
    *,
    drawn: bool = True,
    control: bool = True,
    words: Sequence[str] | None = None,
    on_step: Callable[[Any], Any] | None = None,
) -> Iterator[list[Candidate]]:
    """For each seed a list of candidates, one under each mask, made as one batch when it is asked for.

    masks: kind ("precise", "soft", "box") -> [h,w] or [1|B,h,w] in 0..1, one for all seeds or one for each,
    of the picture's proportions; empty for a blank mask. For the tasks in ERASED they mark the new object in
    the target. settings: what is generated with; with `drawn` N_s, N_c and blend are drawn from each seed in
    the ranges of the paper (those of Global for global and style). words: whose attention maps to keep, None:
    those in which the captions differ. Gradients are off. Raises EmuEditError as generate_pair does, and for
    masks that do not fit.
    """
    height, width = settings.filled(backbone).size  # type: ignore[misc]
    fitted = {k: fit_mask(m.cpu(), len(seeds), height, width, f"the {k} mask") for k, m in masks.items()}
    kinds = list(fitted) or [BLANK]
    before, after = instruction.input_caption, instruction.output_caption
    turned = instruction.task in ERASED
    if turned:
        before, after = after, before
    shown = differing(before, after) if words is None else list(words)
    for row, seed in enumerate(seeds):
        draw = Draw(seed, {})
        one = _drawn(settings, draw, instruction.task) if drawn else settings
        mine = {kind: mask[row] for kind, mask in fitted.items()}
        made = generate_pair(
            backbone,
            [before] * len(kinds),
            [after] * len(kinds),
            torch.stack(list(mine.values())) if mine else None,
            one,
            [seed] * len(kinds),
            shown,
            on_step,
            control,
        )
        several = []
        for place, kind in enumerate(kinds):
            source, target = made.source[place], made.target[place]
            if turned:
                source, target = target, source
            parameters = draw.parameters | {"mask_kind": kind, "generation": made.parameters[place]}
            maps = {word: of[place] for word, of in made.maps.items()}
            number = row * len(kinds) + place
            several.append(Candidate(source, target, instruction, number, seed, kind, mine, parameters, maps))
        yield several


def _drawn(settings: PairSettings, draw: Draw, task: str) -> PairSettings:
    everywhere = task in ("global", "style")
    fraction, blend = (whole.FRACTION, whole.BLEND) if everywhere else (FRACTION, BLEND)
    return replace(
        settings,
        self_fraction=draw.uniform("self_fraction", *fraction),
        cross_fraction=draw.uniform("cross_fraction", *fraction),
        blend=draw.uniform("blend", *blend),
    )
