"""Color: a photometric change of a real picture by a random amount (appendix 7.2.5: colour adjustments, blur,
sharpening, defocus). The kind of change follows the words of the instruction; amounts are not in the paper.
"""

from __future__ import annotations

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor

from ...filters import gaussian_low_pass
from ..records import Candidate, PairJob
from .base import Draw, NoCandidate, RecipeContext, real_picture, start

GREY = (0.299, 0.587, 0.114)

#: What words ask for, first match counts: (words, operation, sign: +1 more, -1 less, 0 neither).
WORDS: tuple[tuple[str, str, int], ...] = (
    (r"black and white|gr[ae]yscale|monochrome|(?:remove|take)\w* (?:all )?the colou?rs?\b", "grey", 0),
    (r"sepia|old[- ]fashioned|vintage", "sepia", 0),
    (r"invert|negative", "invert", 0),
    (r"defocus|out of focus|bokeh", "defocus", 0),
    (r"blur|soften", "blur", 0),
    (r"sharp|crisp", "sharpen", 0),
    (
        r"(?:low|lower|less|reduce|decrease|soft|flat)\w*\b.*\bcontrast|\bflat|contrast\w*.*\blower",
        "contrast",
        -1,
    ),
    (r"contrast", "contrast", 1),
    (
        r"desaturat|(?:less|lower|reduce|decrease|mute)\w*\b.*\b(?:colou?r|saturat|vivid)|muted|faded|washed",
        "saturation",
        -1,
    ),
    (r"saturat|vivid|vibrant|colou?rful|boost|intens", "saturation", 1),
    (r"warm|golden tint|yellower", "warmth", 1),
    (r"cold|cool|bluer", "warmth", -1),
    (
        r"dark|dim|(?:lower|reduce|decrease|less)\w*\b.*\b(?:bright|exposure|light)|underexpos",
        "brightness",
        -1,
    ),
    (r"bright|light|exposure|overexpos", "brightness", 1),
    (r"hue|tint|shift\w*.*\bcolou?rs?", "hue", 0),
)


def color(context: RecipeContext, job: PairJob, number: int) -> list[Candidate]:
    """The picture under the change that the instruction names."""
    draw = start(job, number)
    source = real_picture(context, job)
    operation, sign = operation_of(job.instruction.instruction)
    target = adjust(source, draw.note("operation", operation), int(draw.note("sign", sign)), draw)
    return [Candidate(source, target, job.instruction, 0, draw.seed, "blank", {}, draw.parameters)]


def operation_of(instruction: str) -> tuple[str, int]:
    """(operation, sign) that an instruction asks for; NoCandidate when its words name none."""
    text = instruction.lower()
    for pattern, operation, sign in WORDS:
        if re.search(pattern, text):
            return operation, sign
    raise NoCandidate(f"no colour change is named in {instruction!r}.")


def adjust(picture: Tensor, operation: str, sign: int, draw: Draw) -> Tensor:
    """[H,W,3] in 0..1 after one operation of a drawn strength."""
    grey = (picture * picture.new_tensor(GREY)).sum(-1, keepdim=True)
    if operation == "brightness":
        gamma = draw.uniform("strength", 1.4, 2.2)
        out = 1 - (1 - picture) ** gamma if sign > 0 else picture * (1 / gamma)
    elif operation == "contrast":
        gain = draw.uniform("strength", 1.4, 2.0)
        out = picture.mean() + (gain if sign > 0 else 1 / gain) * (picture - picture.mean())
    elif operation == "saturation":
        gain = draw.uniform("strength", 1.5, 2.5)
        out = grey + (gain if sign > 0 else 1 / gain) * (picture - grey)
    elif operation == "warmth":
        tilt = draw.uniform("strength", 0.08, 0.25)
        out = picture * picture.new_tensor((1 + sign * tilt, 1.0, 1 - sign * tilt))
    elif operation == "hue":
        out = turned(picture, draw.uniform("strength", 0.15, 0.85))
    elif operation == "grey":
        out = grey.expand_as(picture)
    elif operation == "sepia":
        out = grey * picture.new_tensor((1.02, 0.82, 0.58)) + picture.new_tensor((0.06, 0.04, 0.02))
    elif operation == "invert":
        out = 1 - picture
    else:
        out = _focus(picture, operation, draw)
    return out.clamp(0, 1)


def _focus(picture: Tensor, operation: str, draw: Draw) -> Tensor:
    """Blurred by a Gaussian, by a lens's disc, or sharpened; lengths in parts of the shorter side."""
    side = min(picture.shape[:2])
    planes = picture.movedim(-1, 0)
    if operation == "blur":
        out = gaussian_low_pass(planes, max(1.0, draw.uniform("strength", 0.008, 0.024) * side))
    elif operation == "defocus":
        out = lens(planes, max(1.0, draw.uniform("strength", 0.012, 0.03) * side))
    else:
        soft = gaussian_low_pass(planes, max(0.5, 0.008 * side))
        out = planes + draw.uniform("strength", 1.0, 2.5) * (planes - soft)
    return out.movedim(0, -1).contiguous()


def lens(planes: Tensor, radius: float) -> Tensor:
    """[C,H,W] averaged over a disc of `radius` pixels, the border repeated: a lens out of focus."""
    reach = math.ceil(radius)
    offsets = torch.arange(-reach, reach + 1, dtype=planes.dtype)
    disc = ((offsets[:, None] ** 2 + offsets[None] ** 2) <= radius * radius).to(planes.dtype)
    kernel = (disc / disc.sum())[None, None]
    padded = F.pad(planes[:, None], (reach,) * 4, mode="replicate")
    return F.conv2d(padded, kernel.to(planes.device))[:, 0]


def turned(picture: Tensor, share: float) -> Tensor:
    """[H,W,3] with every hue turned by `share` of a full circle, around the grey axis (YIQ)."""
    angle = 2 * math.pi * share
    to_yiq = torch.tensor(
        [GREY, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135)], dtype=torch.float64
    )
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], dtype=torch.float64)
    matrix = (torch.linalg.inv(to_yiq) @ turn @ to_yiq).to(picture)
    return picture @ matrix.T
