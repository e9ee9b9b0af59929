"""Sample sheets: what the averaged weights make of a few fixed pairs, beside the input and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...core.diffusers_backbone import DiffusersBackbone
from ...core.edit import EditSettings, edit
from ...core.picture_files import to_pil
from ...core.weights import replacing
from ..data.pairs import Pair

TILE, WORDS, GAP = 192, 20, 6
HEADINGS = ("input", "truth", "edit")


def first_pairs(stream: Any, place: Any, count: int) -> list[Pair]:
    """The first pairs of a stream."""
    return [item for item in next(stream.batches(place, count, workers=1, ahead=0)).items]


def draw_sheet(editor: DiffusersBackbone, pairs: Sequence[Pair], tasks: Sequence[str], steps: int) -> Any:
    """A PIL picture with a row a pair: input, truth, edit, under the task and the instruction."""
    from PIL import Image, ImageDraw

    rows = [WORDS + TILE + GAP] * len(pairs)
    sheet = Image.new("RGB", (3 * TILE + 4 * GAP, WORDS + sum(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, heading in enumerate(HEADINGS):
        pen.text((GAP + column * (TILE + GAP), 4), heading, "#66707f")
    for row, (pair, task) in enumerate(zip(pairs, tasks, strict=True)):
        source = torch.from_numpy(pair.source).float()[None] / 255
        truth = torch.from_numpy(pair.target).float() / 255
        made = edit(editor, source, pair.instruction, task or None, settings=EditSettings(steps=steps)).images
        top = WORDS + row * (WORDS + TILE + GAP)
        pen.text((GAP, top + 4), f"{task or 'no task'}: {pair.instruction}"[:90], "black")
        for column, picture in enumerate((source[0], truth, made[0].cpu())):
            tile = to_pil(picture).resize((TILE, TILE), Image.Resampling.BICUBIC)
            sheet.paste(tile, (GAP + column * (TILE + GAP), top + WORDS))
    return sheet


def save_sheet(sheet: Any, path: Path) -> None:
    """A PNG, whole or not at all."""
    with replacing(path) as part:
        sheet.save(part, format="PNG")
