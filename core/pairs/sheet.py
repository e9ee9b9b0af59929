"""One pair on one sheet, for the eye: pictures, difference, masks, attention maps, words and scores."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..heat_map import colours, heat_map
from ..images import resize_images
from ..masks.overlay import COLOURS, draw_outline, overlay
from ..picture_files import to_pil
from .records import MASK_KINDS, Candidate, Score, Verdict

GAP, LINE, LETTER = 6, 18, 7  # pixels: between cells, of a line of text, of a letter's width at the most
COLUMNS = 6
DARK, LIGHT, GOOD, BAD, IDLE = (
    (30, 30, 34),
    (230, 230, 230),
    (120, 210, 120),
    (245, 120, 100),
    (150, 150, 150),
)


def cells(candidate: Candidate, words: Sequence[str] | None = None) -> list[tuple[str, Tensor]]:
    """(title, picture [H,W,3]) of all that a candidate has to show, in the order of the sheet.

    words: whose attention maps, in this order; None: all that were recorded. Words without a map are left
    out.
    """
    source, target = candidate.source.float().cpu(), candidate.target.float().cpu()
    change = (source - target).abs().mean(-1)
    mask = None if candidate.mask is None else candidate.mask.float().cpu()[None]
    found = [
        ("source", source),
        ("target", target),
        ("difference", heat_map(source[None], change[None], mask=mask)[0]),
    ]
    kinds = [kind for kind in MASK_KINDS if kind in candidate.masks]
    for kind, colour in zip(kinds, COLOURS, strict=False):
        plane = candidate.masks[kind].float().cpu()[None]
        shown = draw_outline(overlay(source[None], plane, colour), plane, colour)
        found.append((f"{kind} *" if kind == candidate.mask_kind else kind, shown[0]))
    for word in candidate.maps if words is None else words:
        if word in candidate.maps:
            found.append((f"map: {word}", map_picture(candidate.maps[word], source)))
    return found


def map_picture(weights: Tensor, picture: Tensor) -> Tensor:
    """An attention map [h,w] as colours over a dim grey of a picture [H,W,3], from its least to its most."""
    height, width = picture.shape[:2]
    plane = weights.float().cpu()[None, None]
    plane = F.interpolate(plane, size=(height, width), mode="bilinear", align_corners=False)[0, 0]
    low, top = plane.aminmax()
    plane = (plane - low) / (top - low).clamp(min=1e-12)
    grey = picture.mean(-1, keepdim=True)
    return 0.3 * grey + 0.7 * colours(plane)


def pair_sheet(candidate: Candidate, words: Sequence[str] | None = None, tile: int = 256) -> Tensor:
    """The sheet [h,w,3] in 0..1 of one candidate.

    tile: the longest side of each picture on it in pixels; smaller pictures are enlarged to it. A star marks
    the mask that the edit was made under.
    """
    from PIL import Image, ImageDraw, ImageFont

    shown = cells(candidate, words)
    height, width = candidate.source.shape[:2]
    scale = tile / max(height, width)
    tall, wide = max(1, round(height * scale)), max(1, round(width * scale))
    across = min(COLUMNS, len(shown))
    down = -(-len(shown) // across)
    total = across * (wide + GAP) + GAP
    lines = text_lines(candidate, max(20, (total - 2 * GAP) // LETTER))
    room = GAP + down * (LINE + tall + GAP) + len(lines) * LINE + GAP
    sheet = Image.new("RGB", (total, room), DARK)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for place, (title, picture) in enumerate(shown):
        left = GAP + (place % across) * (wide + GAP)
        top = GAP + (place // across) * (LINE + tall + GAP)
        draw.text((left, top), title, LIGHT, font)
        sheet.paste(to_pil(resize_images(picture[None], tall, wide)[0]), (left, top + LINE))
    top = GAP + down * (LINE + tall + GAP)
    for told, colour in lines:
        draw.text((GAP, top), told, colour, font)
        top += LINE
    return _tensor(sheet)


def strip(candidate: Candidate, side: int = 96) -> Tensor:
    """Source and target beside each other, small, [h,w,3]: what a candidate is picked by."""
    height, width = candidate.source.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    both = torch.stack([candidate.source, candidate.target]).float().cpu()
    return torch.cat(list(resize_images(both, *size)), dim=1)


def text_lines(candidate: Candidate, letters: int) -> list[tuple[str, tuple[int, int, int]]]:
    """(line, colour) of the words, the parameters and the scores of a candidate."""
    words = candidate.instruction
    told: list[tuple[str, tuple[int, int, int]]] = [
        (f"{words.task}: {words.instruction}", LIGHT),
        (f"before: {words.input_caption}", IDLE),
        (f"after: {words.output_caption}", IDLE),
        (f"seed {candidate.seed}, {candidate.mask_kind} mask{_numbers(candidate.parameters)}", IDLE),
    ]
    record = candidate.metadata.get("verdict")
    if record is not None:
        verdict = Verdict.from_json(record)
        told += [(_score(score), _colour(score)) for score in verdict.scores]
    return [(part, colour) for line, colour in told for part in textwrap.wrap(line, letters) or [""]]


def _numbers(parameters: Any) -> str:
    generation = parameters.get("generation") or {}
    names = (
        ("N_s", "self_fraction"),
        ("N_c", "cross_fraction"),
        ("blend", "blend"),
        ("guidance", "guidance"),
    )
    found = [f"{short} {generation[name]:g}" for short, name in names if generation.get(name) is not None]
    if generation.get("control") is False:
        found.append("control off")
    return "".join(f", {one}" for one in found)


def _score(score: Score) -> str:
    value = "" if score.value is None else f" {score.value:.3g}"
    against = "" if score.threshold is None else f" (threshold {score.threshold:.3g})"
    state = {True: "passed", False: "failed", None: "not run"}[score.passed]
    return f"{score.name}{value}{against}: {state}{f' - {score.reason}' if score.reason else ''}"


def _colour(score: Score) -> tuple[int, int, int]:
    return IDLE if score.passed is None else GOOD if score.passed else BAD


def _tensor(picture: Any) -> Tensor:
    import numpy as np

    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)
