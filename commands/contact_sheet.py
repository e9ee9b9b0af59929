"""A contact sheet: a card for each edit with the input, the edit and what changed, under its instruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..core.picture_files import to_pil

PICTURE = 256  # px, the longest side of every picture on the sheet
GAP, MARGIN, HEADER, COLUMNS = 12, 28, 74, 2
PAPER, CARD, INK, FAINT = "#eef0f3", "#ffffff", "#1c2430", "#66707f"
TITLE_SIZE, NOTE_SIZE, HEADING_SIZE = 23, 17, 30


@dataclass(frozen=True, eq=False)
class Entry:
    """One card: words above the pictures before and after [H,W,3] and the mask [H,W] (1 = changed)."""

    title: str
    note: str
    before: Tensor
    after: Tensor
    mask: Tensor


def contact_sheet(entries: Sequence[Entry], heading: str, legend: str):
    """The sheet as a PIL image, two cards to a row; `legend` stands at the right of the heading."""
    from PIL import Image, ImageDraw

    card_width = 3 * PICTURE + 4 * GAP
    card_height = HEADER + PICTURE + GAP
    top = MARGIN + HEADING_SIZE + 18
    rows = -(-len(entries) // COLUMNS)
    width = COLUMNS * card_width + (COLUMNS - 1) * GAP + 2 * MARGIN
    sheet = Image.new("RGB", (width, top + rows * (card_height + GAP) - GAP + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, top - 16), heading, INK, _font(HEADING_SIZE), anchor="ls")
    draw.text((width - MARGIN, top - 16), legend, FAINT, _font(TITLE_SIZE), anchor="rs")
    for index, entry in enumerate(entries):
        left = MARGIN + index % COLUMNS * (card_width + GAP)
        upper = top + index // COLUMNS * (card_height + GAP)
        draw.rounded_rectangle((left, upper, left + card_width, upper + card_height), 10, CARD)
        _draw_card(sheet, draw, entry, left + GAP, upper)
    return sheet


def _draw_card(sheet: Any, draw: Any, entry: Entry, left: int, upper: int) -> None:
    room = 3 * PICTURE + 2 * GAP
    draw.text((left, upper + 10), _fitted(draw, entry.title, TITLE_SIZE, room), INK, _font(TITLE_SIZE))
    draw.text((left, upper + 42), _fitted(draw, entry.note, NOTE_SIZE, room), FAINT, _font(NOTE_SIZE))
    for column, picture in enumerate((entry.before, entry.after, entry.mask)):
        thumbnail = _sized(picture)
        x = left + column * (PICTURE + GAP) + (PICTURE - thumbnail.width) // 2
        y = upper + HEADER + (PICTURE - thumbnail.height) // 2
        sheet.paste(thumbnail, (x, y))
        draw.rectangle((x - 1, y - 1, x + thumbnail.width, y + thumbnail.height), outline="#c9ced6")


def _sized(picture: Tensor):
    """A picture or mask whose longest side is PICTURE. Masks keep hard pixels when they grow."""
    from PIL import Image

    plain = to_pil(picture)
    scale = PICTURE / max(plain.size)
    size = (max(1, round(plain.width * scale)), max(1, round(plain.height * scale)))
    hard = picture.ndim == 2 and scale > 1
    return plain.resize(size, Image.Resampling.NEAREST if hard else Image.Resampling.LANCZOS).convert("RGB")


def _fitted(draw: Any, text: str, size: int, room: int) -> str:
    """The text on one line of `room` px, cut with dots if it must be."""
    font = _font(size)
    if draw.textlength(text, font=font) <= room:
        return text
    while text and draw.textlength(text + "...", font=font) > room:
        text = text[:-1]
    return text.rstrip() + "..."


def _font(size: int):
    """Pillow's own typeface, so that the sheet looks the same on every machine."""
    from PIL import ImageFont

    return ImageFont.load_default(size)
