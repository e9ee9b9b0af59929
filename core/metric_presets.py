"""The two named ways in which people score edits by CLIP and DINO, so that like is compared with like.

Emu Edit's paper names neither its CLIP nor its DINO. Its CLIPout values fit ViT-L/14 on unfiltered captions:
one user measured the released pictures at 0.223 with L/14 and 0.275 with B/32
(github.com/River-Zhang/ICEdit/issues/69). UltraEdit and its followers score with ViT-B/32, apparently
without the rows whose captions are bad (github.com/HaozheZhao/UltraEdit/issues/18 and 25).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .errors import EmuEditError

# The caption that annotators of the Emu Edit test set left in many rows; it describes none of the pictures
# (discussions of the Hugging Face dataset facebook/emu_edit_test_set_generations, number 3).
PLACEHOLDER_CAPTION = "a train station in city"


@dataclass(frozen=True)
class Shape:
    """The size of a vision transformer by which a folder is recognised: width, layers, patch in pixels."""

    label: str
    width: int
    layers: int
    patch: int


@dataclass(frozen=True)
class Preset:
    """Which models, which preprocessing and which rows.

    clip_pixels: "squash" (bicubic straight to the model's square, not antialiased, as InstructPix2Pix's
    metrics/clip_similarity.py) or "crop" (shorter side by antialiased bicubic, centre crop, as clip.load).
    filtered: leave out rows whose captions are equal or the known placeholder.
    """

    name: str
    clip: Shape
    dino: Shape
    clip_pixels: str
    filtered: bool
    hub: tuple[str, str]


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset(
                "paper-like",
                Shape("CLIP ViT-L/14", 1024, 24, 14),
                Shape("DINO ViT-S/16", 384, 12, 16),
                "squash",
                False,
                ("openai/clip-vit-large-patch14", "facebook/dino-vits16"),
            ),
            Preset(
                "ultraedit-like",
                Shape("CLIP ViT-B/32", 768, 12, 32),
                Shape("DINO ViT-S/16", 384, 12, 16),
                "crop",
                True,
                ("openai/clip-vit-base-patch32", "facebook/dino-vits16"),
            ),
        )
    }
)


def preset(name: str) -> Preset:
    """The preset of that name, or EmuEditError."""
    if name not in PRESETS:
        raise EmuEditError(f"scores: there is no preset {name!r}; use {' or '.join(PRESETS)}.")
    return PRESETS[name]


def same_caption(one: str, other: str) -> bool:
    """Whether two captions say the same but for case and spaces: then no direction leads between them."""
    return " ".join(one.lower().split()) == " ".join(other.lower().split())


def why_excluded(wanted: Preset, input_caption: str, output_caption: str) -> str:
    """Why this row is left out under the preset; "" if it is not."""
    if not wanted.filtered:
        return ""
    if same_caption(input_caption, output_caption):
        return "identical captions"
    for caption in (input_caption, output_caption):
        if same_caption(caption.rstrip(" ."), PLACEHOLDER_CAPTION):
            return "placeholder caption"
    return ""
