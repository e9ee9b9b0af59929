"""Text: lettering added, removed or replaced (appendix 7.2.4). A reader finds the words of a real picture x,
an inpainter takes them away, which gives y. Add is (y, x); remove is (x, y); replace writes new words on y
where the old ones were, in a font and colour of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import EmuEditError
from ..records import Candidate, PairJob
from .base import Draw, Lettering, NoCandidate, RecipeContext, real_picture, start, three_masks

COLOURS = {
    "white": (245, 245, 240),
    "black": (25, 25, 30),
    "red": (215, 40, 40),
    "orange": (240, 130, 30),
    "yellow": (250, 210, 45),
    "green": (50, 165, 75),
    "blue": (40, 100, 220),
    "purple": (135, 65, 190),
    "pink": (245, 135, 185),
    "brown": (120, 75, 45),
}
OTHERWISE = {"violet": "purple", "golden": "yellow", "gold": "yellow", "scarlet": "red"}
FONTS = ("regular", "bold")
_QUOTED = re.compile(r"[\"“”]([^\"“”]+)[\"“”]|(?<!\w)['‘]([^'‘’]+)['’](?!\w)")


def text(context: RecipeContext, job: PairJob, number: int) -> list[Candidate]:
    """One pair by the kind that the instruction asks for: "add", "remove" or "replace"."""
    draw = start(job, number)
    if context.reader is None or context.inpainter is None:
        raise EmuEditError(
            "the task text needs a reader of lettering and an inpainter; give both, or leave the task out."
        )
    kind, old, new = kind_of(job)
    draw.note("kind", kind)
    lettered = real_picture(context, job)
    found = _lettering(context, lettered, new if kind == "add" else old)
    masks = three_masks(context, found.mask)
    bare = context.inpainter.inpaint(lettered, masks["soft"], job.instruction.output_caption, draw.seed)
    if kind == "add":
        source, target = bare, lettered
    elif kind == "remove":
        source, target = lettered, bare
    else:
        source, (target, written) = lettered, _written(context, bare, found, new, draw, job)
        masks = three_masks(context, torch.maximum(found.mask, written))
    return [
        Candidate(
            source,
            target,
            job.instruction,
            0,
            draw.seed,
            "soft",
            masks,
            draw.parameters | {"mask_kind": "soft"},
        )
    ]


def kind_of(job: PairJob) -> tuple[str, str, str]:
    """("add" | "remove" | "replace", the words before, the words after) that an instruction asks for.

    A job may fix "kind", "old" and "new" as parameters. Otherwise its objects are the lettering; without
    them the words in quotes of the two captions tell, and where those have none, of the instruction: two are
    a replacement, one is added unless it is taken away.
    """
    words, fixed = job.instruction, job.parameters
    before, after = ([one] if one else [] for one in (words.original_object, words.edited_object))
    if not before and not after:
        before, after = quoted(words.input_caption), quoted(words.output_caption)
    if not before and not after:
        said = quoted(words.instruction)
        away = re.search(r"\b(?:remove|erase|delete|wipe|get rid|take)\b", words.instruction.lower())
        before, after = (said[:1], said[1:2]) if len(said) > 1 or away else ([], said[:1])
    old = str(fixed.get("old", before[0] if before else ""))
    new = str(fixed.get("new", after[0] if after else ""))
    kind = "replace" if old and new else "remove" if old else "add" if new else ""
    if not kind or (old == new and not _named_colours(job)):
        raise NoCandidate(f"its instruction quotes no lettering to change ({words.instruction!r}).")
    return str(fixed.get("kind", kind)), old, new


def quoted(sentence: str) -> list[str]:
    """What stands in quotation marks in a sentence."""
    return [(double or single).strip() for double, single in _QUOTED.findall(sentence)]


def _lettering(context: RecipeContext, picture: Tensor, wanted: str) -> Lettering:
    assert context.reader is not None
    found = list(context.reader.read(picture))
    match = [one for one in found if one.text.strip().lower() == wanted.strip().lower()]
    if not match:
        read = ", ".join(repr(one.text) for one in found) or "nothing"
        raise NoCandidate(f"the lettering {wanted!r} is not in the picture, where {read} was read.")
    return match[0]


def _written(
    context: RecipeContext, bare: Tensor, found: Lettering, new: str, draw: Draw, job: PairJob
) -> tuple[Tensor, Tensor]:
    """The bare picture with the new words in the old ones' box, and where they are."""
    # What the words name; else as it was, or an editor could not know; else one of all.
    colour = str(
        draw.pick("colour", _named_colours(job) or ([found.colour] if found.colour else list(COLOURS)))
    )
    font = str(draw.pick("font", FONTS))
    writer = context.writer or PlainWriter()
    return writer.write(bare, found.box, new, colour, font)


def _named_colours(job: PairJob) -> list[str]:
    said = re.findall(r"[a-z]+", _QUOTED.sub(" ", job.instruction.instruction.lower()))
    return [OTHERWISE.get(word, word) for word in said if OTHERWISE.get(word, word) in COLOURS]


class PlainWriter:
    """Writes with Pillow's own font (or the .ttf files given by name), as large as the box lets."""

    def __init__(self, fonts: dict[str, str] | None = None) -> None:
        self.fonts = fonts or {}

    def write(
        self, picture: Tensor, box: Sequence[float], text: str, colour: str, font: str
    ) -> tuple[Tensor, Tensor]:
        """The picture [H,W,3] with the words centred in `box`, and their coverage [H,W] in 0..1.

        A thin rim, dark around light letters and light around dark ones, keeps them legible on any ground.
        """
        import numpy as np
        from PIL import Image, ImageDraw

        height, width = picture.shape[:2]
        left, top, right, bottom = box
        face = self._fitting(text, right - left, bottom - top, font)
        rim = max(1, round((bottom - top) / 18))
        stroke = rim if font == "bold" else 0
        letters = Image.new("L", (width, height))
        edge = Image.new("L", (width, height))
        middle = ((left + right) / 2, (top + bottom) / 2)
        for sheet, extra in ((letters, stroke), (edge, stroke + rim)):
            ImageDraw.Draw(sheet).text(middle, text, 255, face, anchor="mm", stroke_width=extra)
        ink, outline = (torch.from_numpy(np.array(s, np.float32) / 255)[..., None] for s in (letters, edge))
        rgb = torch.tensor(COLOURS.get(colour, COLOURS["white"]), dtype=torch.float32) / 255
        contrast = torch.full((3,), 0.12 if float(rgb.mean()) > 0.45 else 0.95)
        out = picture + outline * (contrast - picture)
        out = out + ink * (rgb - out)
        return torch.where(outline > 0, out, picture), outline[..., 0]

    def _fitting(self, text: str, width: float, height: float, font: str):
        from PIL import ImageFont

        def face(size: float):
            path = self.fonts.get(font)
            return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)

        size = max(4.0, height)
        left, top, right, bottom = face(size).getbbox(text)
        scale = min(width / max(1, right - left), height / max(1, bottom - top))
        return face(max(4.0, 0.92 * size * scale))
